from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from hybridseg.errors import EvaluateError, NoGeoreference
from hybridseg.evaluate.align.layers import check_column, classes_of, features, kind_of, read_table
from hybridseg.evaluate.align.metric import degrees, metric_crs, title

SQUARE = shapely.box(0, 0, 10, 10)
UTM = "EPSG:32633"
BOW = shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])


def layer(*geometries: shapely.Geometry | None, crs: str | None = UTM, **columns: list) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns, geometry=list(geometries), crs=crs)


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.fgb", "a.parquet", "a.shp"])
def test_any_vector_file(tmp_path: Path, name: str) -> None:
    table = layer(SQUARE, shapely.box(20, 0, 30, 10), score=[0.5, 0.25])
    table["class"] = ["house", "shed"]
    path = tmp_path / name
    table.to_parquet(path) if name.endswith("parquet") else table.to_file(path)
    read, called, said = read_table(path, "the prediction")
    found = features(read, called, "polygons")
    assert (called, said, len(found)) == (name, (), 2)
    assert sorted(zip(found.classes, found.scores, strict=True)) == [("house", 0.5), ("shed", 0.25)]
    assert found.crs == read.crs


def test_of_several_layers_the_first_with_rows_is_read(tmp_path: Path) -> None:
    for number, name in enumerate(["drafts", "houses", "roads"]):
        layer(*[SQUARE] * number).to_file(tmp_path / "two.gpkg", layer=name)
    read, _, said = read_table(tmp_path / "two.gpkg", "")
    assert len(read) == 1
    assert said == ("two.gpkg has 3 layers: 'houses', the first with rows, is read, drafts, roads not",)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "text.gpkg").write_text("no")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    (tmp_path / "no.parquet").write_bytes(b"PAR1")
    for name in ("text.gpkg", "table.csv", "no.parquet"):
        with pytest.raises(EvaluateError, match=f"{name} is not a vector file with geometry"):
            read_table(tmp_path / name, "")
    with pytest.raises(EvaluateError, match=r"none.gpkg does not exist"):
        read_table(tmp_path / "none.gpkg", "")
    (tmp_path / "mask.tif").touch()
    with pytest.raises(EvaluateError, match=r"mask.tif is a raster, which can only be the reference"):
        read_table(tmp_path / "mask.tif", "the prediction")


def test_what_is_repaired_is_said() -> None:
    flat = shapely.Polygon([(0, 0), (1, 0), (2, 0)])
    found = features(layer(SQUARE, BOW, None, shapely.Polygon(), shapely.Point(1, 1), flat), "a", "polygons")
    assert found.rows.tolist() == [0, 1]
    assert shapely.area(found.geometry).tolist() == [100, 8]
    assert shapely.is_valid(found.geometry).all()
    assert found.warnings == (
        "a: 2 of 6 rows (2, 3) without geometry left out",
        "a: 2 of 6 rows (1, 5) invalid, repaired (the first: self-intersection)",
        "a: 2 of 6 rows (4, 5) not polygons of any size, left out",
    )


def test_collections_give_what_is_asked_for_and_heights_go() -> None:
    mixed = shapely.GeometryCollection([
        SQUARE, shapely.MultiPolygon([shapely.box(20, 0, 22, 2)]), shapely.LineString([(0, 0), (5, 5)])
    ])  # fmt: skip
    assert shapely.area(features(layer(mixed), "a", "polygons").geometry) == [104]
    assert shapely.length(features(layer(mixed), "a", "lines").geometry) == pytest.approx(np.sqrt(50))
    assert not shapely.has_z(features(layer(shapely.force_3d(SQUARE, 5)), "a", "polygons").geometry).any()


def test_the_kind_is_what_most_rows_are() -> None:
    line = shapely.LineString([(0, 0), (1, 1)])
    assert kind_of(layer(SQUARE, line, line), "a") == "lines"
    assert kind_of(layer(SQUARE, SQUARE, line), "a") == "polygons"
    with pytest.raises(EvaluateError, match="a holds neither polygons nor lines"):
        kind_of(layer(shapely.Point(0, 0)), "a")
    with pytest.raises(EvaluateError, match="a holds lines, no polygons of any size; give a layer of polygons"):
        features(layer(line), "a", "polygons")


def test_no_crs_is_refused_but_for_a_layer_without_rows() -> None:
    with pytest.raises(EvaluateError, match="a has no CRS; assign"):
        features(layer(SQUARE, crs=None), "a", "polygons")
    assert len(features(layer(crs=None), "a", "polygons")) == 0


def test_classes() -> None:
    def found(table: gpd.GeoDataFrame, column: str | None = None) -> list[str] | None:
        names, _ = classes_of(table, "a", column, {"2": "two"})
        return None if names is None else names.tolist()

    assert found(layer(SQUARE, SQUARE)) is None
    assert found(layer(SQUARE, SQUARE, label=[2.0, 3])) == ["two", "3"]
    assert found(layer(SQUARE, SQUARE, LABEL=["x", "y"], Crop=["2", "3"])) == ["x", "y"]
    assert found(layer(SQUARE, SQUARE, LABEL=["x", "y"], Crop=["2", "3"]), "crop") == ["two", "3"]
    assert found(layer(SQUARE, SQUARE, label=["x", "x"], crop=["2", None]), "crop") == ["two", "unnamed"]
    assert found(layer(*[SQUARE] * 200, label=range(200))) is None
    assert found(layer(*[SQUARE] * 200, label=range(200)), "label") is not None


def test_a_column_that_nobody_has() -> None:
    tables = {"a.gpkg": layer(SQUARE, crop=["oats"]), "b.gpkg": layer(SQUARE)}
    check_column("crop", tables)
    for name in ("kind", "geometry"):
        with pytest.raises(EvaluateError, match=f"no column '{name}' .* a.gpkg has crop; b.gpkg has none"):
            check_column(name, tables)


def test_scores() -> None:
    found = features(layer(SQUARE, BOW, SQUARE.buffer(1), score=["0.5", None, "0.25"]), "a", "polygons")
    assert found.scores.tolist() == [0.5, 0.25, 0.25]
    assert found.warnings[-1] == "a: 1 of 3 rows (1) without a score, given the lowest"
    empty = features(layer(SQUARE, score=[None]), "a", "polygons")
    assert (empty.scores, empty.warnings) == (None, ("a: column score is empty",))
    assert features(layer(SQUARE, confidence=[0.75]), "a", "polygons").scores.tolist() == [0.75]


def test_doubles_are_said() -> None:
    table = layer(SQUARE, SQUARE, SQUARE, label=["x", "x", "y"])
    found = features(table, "a", "polygons")
    assert (len(found), found.warnings) == (3, ("a: 1 rows repeat another one's shape and class; each counts",))
    assert features(layer(*shapely.boundary([SQUARE] * 2)), "a", "lines").warnings == ()


@pytest.mark.parametrize(
    ("crs", "bounds", "same"),
    [
        ("EPSG:32645", (500_000, 3e6, 501_000, 3.001e6), True),
        ("EPSG:27700", (400_000, 300_000, 410_000, 310_000), True),
        ("EPSG:3035", (4_321_000, 3_210_000, 4_322_000, 3_211_000), True),
        ("EPSG:3035", (2_700_000, 1_900_000, 2_701_000, 1_901_000), False),  # far from its centre
        ("EPSG:3857", (1e6, 6e6, 1.001e6, 6.001e6), False),
        ("EPSG:2263", (990_000, 190_000, 991_000, 191_000), False),  # feet
        ("EPSG:4326", (15, 47, 15.1, 47.1), False),
        ("EPSG:32633", (-2_000_000, 1e6, -1_999_000, 1.001e6), False),  # far outside its zone
    ],
)
def test_metres_are_true_and_areas_too(crs: str, bounds: tuple[float, float, float, float], same: bool) -> None:
    pyproj = gpd.GeoSeries([SQUARE], crs=crs).crs
    chosen, why = metric_crs(bounds, pyproj)
    assert (chosen == pyproj) == same
    assert title(pyproj) in why
    assert ("own CRS" in why) == same
    box = gpd.GeoSeries([shapely.box(*bounds)], crs=crs)
    moved = box.segmentize((bounds[2] - bounds[0]) / 50).to_crs(chosen)
    lon_lat = moved.to_crs("EPSG:4326").iloc[0]
    area, length = pyproj.get_geod().geometry_area_perimeter(lon_lat)
    assert moved.area.iloc[0] == pytest.approx(abs(area), rel=2e-3)
    assert moved.length.iloc[0] == pytest.approx(length, rel=1e-3)


def test_places_that_are_not_on_earth() -> None:
    crs = gpd.GeoSeries([SQUARE], crs="EPSG:4326").crs
    with pytest.raises(NoGeoreference, match=r"a.gpkg spans 500000, 3000000, .* where EPSG:4326 is not defined"):
        degrees((500_000, 3e6, 501_000, 3.001e6), crs, "a.gpkg")

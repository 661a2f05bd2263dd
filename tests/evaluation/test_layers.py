from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from hybridseg.errors import EvaluateError, LayerError
from hybridseg.evaluation.layers import (
    Kind,
    Objects,
    check_column,
    classes_of,
    kind_of,
    objects_of,
    open_layer,
    read_region,
)
from hybridseg.read.vectors import LayerRead

SQUARE = shapely.box(0, 0, 10, 10)
UTM = "EPSG:32633"
BOW = shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])


def table(*geometries: shapely.Geometry | None, crs: str | None = UTM, **columns: list) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(columns, geometry=list(geometries), crs=crs)


def layer(*geometries: shapely.Geometry | None, **columns: list) -> LayerRead:
    return open_layer(table(*geometries, **columns), "a")


def objects(*geometries: shapely.Geometry | None, kind: Kind = "polygons", **columns: list) -> Objects:
    return objects_of(layer(*geometries, **columns), kind)


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.fgb", "a.parquet", "a.shp"])
def test_any_vector_file(tmp_path: Path, name: str) -> None:
    rows = table(SQUARE, shapely.box(20, 0, 30, 10), score=[0.5, 0.25])
    rows["class"] = ["house", "shed"]
    path = tmp_path / name
    rows.to_parquet(path) if name.endswith("parquet") else rows.to_file(path)
    read = open_layer(path, "the prediction")
    found = objects_of(read, "polygons")
    assert (found.name, found.warnings, len(found)) == (name, (), 2)
    assert sorted(zip(found.classes, found.scores, strict=True)) == [("house", 0.5), ("shed", 0.25)]
    assert found.crs == read.rows.crs


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "text.gpkg").write_text("no")
    with pytest.raises(LayerError, match=r"text.gpkg cannot be read as vectors"):
        open_layer(tmp_path / "text.gpkg", "")
    (tmp_path / "mask.tif").touch()
    with pytest.raises(EvaluateError, match=r"mask.tif is a raster, which can only be the reference"):
        open_layer(tmp_path / "mask.tif", "the prediction")


def test_what_is_repaired_is_a_warning() -> None:
    flat = shapely.Polygon([(0, 0), (1, 0), (2, 0)])
    found = objects(SQUARE, None, BOW, shapely.Polygon(), shapely.Point(1, 1), flat)
    assert found.rows.tolist() == [0, 2]
    assert shapely.area(found.geometry).tolist() == [100, 8]
    assert shapely.is_valid(found.geometry).all()
    assert found.warnings == (
        "a: 2 of 6 rows (1, 3) without geometry left out",
        "a: 2 of 6 rows (2, 5) invalid, repaired (the first: self-intersection)",
        "a: 1 of 6 rows (5) without any area, left out",
        "a: 1 of 6 rows (4) not polygons of any size, left out",
    )


def test_collections_give_what_is_asked_for_and_heights_go() -> None:
    mixed = shapely.GeometryCollection([
        SQUARE, shapely.MultiPolygon([shapely.box(20, 0, 22, 2)]), shapely.LineString([(0, 0), (5, 5)])
    ])  # fmt: skip
    assert shapely.area(objects(mixed).geometry) == [104]
    assert shapely.length(objects(mixed, kind="lines").geometry) == pytest.approx(np.sqrt(50))
    assert not shapely.has_z(objects(shapely.force_3d(SQUARE, 5)).geometry).any()


def test_the_kind_is_what_most_rows_are() -> None:
    line = shapely.LineString([(0, 0), (1, 1)])
    assert kind_of(layer(SQUARE, line, line)) == "lines"
    assert kind_of(layer(SQUARE, SQUARE, line)) == "polygons"
    with pytest.raises(EvaluateError, match="a holds neither polygons nor lines"):
        kind_of(layer(shapely.Point(0, 0)))
    with pytest.raises(EvaluateError, match="a holds lines, no polygons of any size; give a layer of polygons"):
        objects(line)
    with pytest.raises(EvaluateError, match="a holds no geometry, no polygons of any size"):
        objects(None, shapely.Polygon())


def test_no_crs_is_refused_but_for_a_layer_without_rows() -> None:
    with pytest.raises(LayerError, match="a has no CRS; assign"):
        open_layer(table(SQUARE, crs=None), "a")
    assert len(objects_of(open_layer(table(crs=None), "a"), "polygons")) == 0


def test_regions_are_polygons() -> None:
    region = read_region(table(SQUARE), "the AOI")
    assert (region.name, region.extent, region.crs) == ("the AOI", (0, 0, 10, 10), UTM)
    with pytest.raises(EvaluateError, match="the AOI is empty; give a layer with polygons, or leave it out"):
        read_region(table(), "the AOI")
    with pytest.raises(EvaluateError, match="the AOI holds points, no polygons"):
        read_region(table(shapely.Point(0, 0)), "the AOI")


def test_classes() -> None:
    def found(rows: LayerRead, column: str | None = None) -> list[str] | None:
        names, _ = classes_of(rows, column, {"2": "two"})
        return None if names is None else names.tolist()

    assert found(layer(SQUARE, SQUARE)) is None
    assert found(layer(SQUARE, SQUARE, label=[2.0, 3])) == ["two", "3"]
    assert found(layer(SQUARE, SQUARE, LABEL=["x", "y"], Crop=["2", "3"])) == ["x", "y"]
    assert found(layer(SQUARE, SQUARE, LABEL=["x", "y"], Crop=["2", "3"]), "crop") == ["two", "3"]
    assert found(layer(SQUARE, SQUARE, label=["x", "x"], crop=["2", None]), "crop") == ["two", "unnamed"]
    assert found(layer(*[SQUARE] * 200, label=range(200))) is None
    assert found(layer(*[SQUARE] * 200, label=range(200)), "label") is not None


def test_a_column_that_no_layer_has() -> None:
    layers = [named(name, **columns) for name, columns in (("a.gpkg", {"crop": ["oats"]}), ("b.gpkg", {}))]
    check_column("crop", layers)
    for name in ("kind", "geometry"):
        with pytest.raises(EvaluateError, match=f"no column '{name}' .* a.gpkg has crop; b.gpkg has none"):
            check_column(name, layers)


def named(name: str, **columns: list) -> LayerRead:
    return open_layer(table(SQUARE, **columns), name)


def test_scores_and_rows_are_those_of_the_file() -> None:
    found = objects(None, SQUARE, BOW, SQUARE.buffer(1), score=["1", "0.5", None, "0.25"])
    assert found.scores.tolist() == [0.5, 0.25, 0.25]
    assert found.rows.tolist() == [1, 2, 3]
    assert found.warnings[-1] == "a: 1 of 4 rows (2) without a score, given the lowest"
    empty = objects(SQUARE, score=[None])
    assert (empty.scores, empty.warnings) == (None, ("a: column score is empty",))
    assert objects(SQUARE, confidence=[0.75]).scores.tolist() == [0.75]


def test_duplicates_are_a_warning() -> None:
    found = objects(SQUARE, SQUARE, SQUARE, label=["x", "x", "y"])
    assert (len(found), found.warnings) == (3, ("a: 1 rows repeat another one's shape and class; each counts",))
    assert objects(*shapely.boundary([SQUARE] * 2), kind="lines").warnings == ()

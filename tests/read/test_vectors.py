"""One reader for every vector layer: what is chosen, dropped, repaired and refused."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely

from hybridseg.errors import LayerError
from hybridseg.read.paths import display_name, is_remote, without_secrets
from hybridseg.read.vectors import LayerRead, read_layer
from tests.rasters import make

CRS = "EPSG:32633"
BOWTIE = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
SPIKE = shapely.Polygon([(0, 0), (1, 1), (0, 0)])


def boxes(count: int = 3, crs: str | None = CRS) -> gpd.GeoDataFrame:
    shapes = [shapely.box(500_000 + i, 5_000_000, 500_000.5 + i, 5_000_001) for i in range(count)]
    columns = {"class": ["a", "b", "c"][:count], "score": np.arange(count) / 2}
    return gpd.GeoDataFrame(columns, geometry=shapes, crs=crs)


def written(path: Path, rows: gpd.GeoDataFrame | None = None) -> Path:
    rows = boxes() if rows is None else rows
    if path.suffix == ".parquet":
        rows.to_parquet(path)
    elif path.suffix == ".zip":
        rows.to_file(path.with_suffix(".shp"))
        with zipfile.ZipFile(path, "w") as archive:
            for part in path.parent.glob(f"{path.stem}.[!z]*"):
                archive.write(part, part.name)
    else:
        rows.to_file(path)
    return path


@pytest.mark.parametrize("suffix", ["gpkg", "parquet", "fgb", "geojson", "shp", "zip"])
def test_every_format_gives_the_same_rows(suffix: str, tmp_path: Path) -> None:
    read = read_layer(str(written(tmp_path / f"a.{suffix}")), crs=CRS)
    assert (read.name, read.dropped, read.notes) == (f"a.{suffix}", 0, ())
    assert read.rows.crs == CRS
    rows = read.rows.sort_values("class", ignore_index=True)  # FlatGeobuf sorts by place
    assert rows["class"].tolist() == ["a", "b", "c"]
    assert shapely.equals_exact(rows.geometry.normalize(), boxes().geometry.normalize(), 1e-6).all()
    only = read_layer(tmp_path / f"a.{suffix}", columns=["score"])
    assert only.rows.columns.tolist() == ["score", "geometry"]
    with pytest.raises(LayerError, match="has no column 'height'; it has class, score"):
        read_layer(tmp_path / f"a.{suffix}", columns=["height"])


def test_a_frame_is_taken_as_it_is() -> None:
    rows = boxes().set_index(np.array([7, 7, 9]))
    read = read_layer(rows, columns=["class"], name="the labels")
    assert isinstance(read, LayerRead)
    assert read.name == "the labels"
    assert read.rows.index.tolist() == [0, 1, 2]
    assert read.rows.columns.tolist() == ["class", "geometry"]


@pytest.mark.parametrize("suffix", ["gpkg", "parquet"])
def test_rows_are_dropped_and_repaired_and_counted(suffix: str, tmp_path: Path) -> None:
    shapes = [None, shapely.box(0, 0, 1, 1), shapely.Polygon(), BOWTIE, SPIKE, shapely.box(2, 2, 3, 3)]
    rows = gpd.GeoDataFrame({"id": range(6)}, geometry=shapes, crs=CRS)
    read = read_layer(written(tmp_path / f"a.{suffix}", rows))
    assert read.dropped == 3
    assert read.rows.index.tolist() == read.rows["id"].tolist() == [1, 3, 5]
    assert read.rows.is_valid.all()
    assert read.rows.area.tolist() == [1.0, 2.0, 1.0]
    name = f"a.{suffix}"
    assert read.notes == (
        f"{name}: 2 of 6 rows (0, 2) without geometry left out",
        f"{name}: 2 of 6 rows (3, 4) invalid, repaired (the first: self-intersection)",
        f"{name}: 1 of 6 rows (4) without any area, left out",
    )


def test_heights_go_and_coordinates_that_are_not_numbers_are_dropped() -> None:
    high = shapely.force_3d(boxes().geometry.to_numpy(), 7.0)
    high[1] = shapely.LineString([(0, 0), (np.inf, 1), (1, 1)])
    read = read_layer(gpd.GeoDataFrame(geometry=high, crs=CRS))
    assert not shapely.has_z(read.rows.geometry.to_numpy()).any()
    assert read.rows.index.tolist() == [0, 2]
    assert read.notes == ("the layer: 1 of 3 rows (1) with coordinates that are not numbers left out",)


def test_other_geometry_columns_stay(tmp_path: Path) -> None:
    rows = boxes().rename_geometry("support")
    rows["peak"] = rows.geometry.centroid
    read = read_layer(written(tmp_path / "a.parquet", rows))
    assert read.rows.active_geometry_name == "support"
    assert read.rows["peak"].geom_equals(rows["peak"]).all()


def test_the_first_layer_with_rows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "two.gpkg"
    pyogrio.write_dataframe(boxes().drop(columns="geometry"), path, layer="layer_styles")
    boxes(0).to_file(path, layer="empty", geometry_type="Polygon")
    boxes(2).to_file(path, layer="roofs")
    boxes(3).to_file(path, layer="more")
    read = read_layer(path)
    assert len(read.rows) == 2
    assert read.notes == ("two.gpkg has 3 layers: 'roofs' is read, empty, more not",)


def test_nobody_means_the_nodes_beside_lines(tmp_path: Path) -> None:
    path, lines = tmp_path / "net.gpkg", boxes(2)
    lines.set_geometry(lines.boundary).to_file(path, layer="lines")
    lines.set_geometry(lines.centroid).to_file(path, layer="nodes")
    read = read_layer(path)
    assert (len(read.rows), read.notes) == (2, ())


def test_only_the_styles_are_no_layer(tmp_path: Path) -> None:
    pyogrio.write_dataframe(boxes().drop(columns="geometry"), tmp_path / "a.gpkg", layer="layer_styles")
    with pytest.raises(LayerError, match="has no layer with geometry"):
        read_layer(tmp_path / "a.gpkg")


def test_no_rows_are_refused_unless_they_may_be(tmp_path: Path) -> None:
    for name in ("a.gpkg", "a.parquet"):
        boxes(0).to_parquet(tmp_path / name) if name.endswith("parquet") else boxes(0).to_file(
            tmp_path / name, geometry_type="Polygon"
        )
        with pytest.raises(LayerError, match=f"^{name} has no rows"):
            read_layer(tmp_path / name)
        assert len(read_layer(tmp_path / name, crs="EPSG:4326", empty_ok=True).rows) == 0
    with pytest.raises(LayerError, match=r"without geometry left out: none is left"):
        read_layer(gpd.GeoDataFrame(geometry=[None, shapely.Point()], crs=CRS))


@pytest.mark.filterwarnings("ignore:'crs' was not provided:UserWarning")
def test_no_crs_is_refused(tmp_path: Path) -> None:
    for name in ("a.gpkg", "a.parquet"):
        with pytest.raises(LayerError, match=f"^{name} has no CRS; assign"):
            read_layer(written(tmp_path / name, boxes(crs=None)))


def test_rows_come_in_the_crs_asked_for(tmp_path: Path) -> None:
    there = boxes(2).to_crs("EPSG:4326")
    nowhere = gpd.GeoDataFrame({"class": ["c"]}, geometry=[shapely.Point(0, 100)], crs="EPSG:4326")
    rows = gpd.pd.concat([there, nowhere], ignore_index=True)
    read = read_layer(rows, crs="EPSG:3857")
    assert read.rows.crs == "EPSG:3857"
    assert read.rows.index.tolist() == [0, 1]
    assert (read.dropped, read.notes) == (1, ("the layer: 1 of 3 rows (2) too far away, left out",))
    local = boxes().set_crs('LOCAL_CS["yard",UNIT["metre",1]]', allow_override=True)
    with pytest.raises(LayerError, match="cannot be brought from yard to WGS 84"):
        read_layer(local, crs="EPSG:4326")


def test_points_are_no_polygons() -> None:
    with pytest.raises(LayerError, match="the layer holds Point, Polygon; give a layer of polygons"):
        read_layer(gpd.GeoDataFrame(geometry=[shapely.Point(0, 0), shapely.box(0, 0, 1, 1)], crs=CRS), polygons=True)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("none.gpkg", "does not exist"),
        ("a\0b.gpkg", "holds a NUL"),
        ("x" * 300 + ".gpkg", "File name too long"),
        ("a\udcff.gpkg", "not UTF-8"),
        ("words.gpkg", "cannot be read as vectors"),
        ("plain.parquet", "cannot be read as vectors .*Missing geo metadata"),
        ("rgb.tif", "is a raster"),
    ],
)
def test_what_is_no_layer_is_refused_in_one_line(name: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "words.gpkg").write_text("These are words.\n")
    gpd.pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "plain.parquet")
    make("rgb", tmp_path)
    with pytest.raises(LayerError, match=what) as caught:
        read_layer(f"{tmp_path}/{name}")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("source", [None, 3, ["a.gpkg"], {"a": 1}])
def test_other_things_are_no_layer(source: object) -> None:
    with pytest.raises(LayerError, match="is no vector layer; give a path or a GeoDataFrame"):
        read_layer(source)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("suffix", ["gpkg", "parquet", "fgb", "geojson"])
def test_a_damaged_file_is_one_line(suffix: str, tmp_path: Path) -> None:
    whole = written(tmp_path / f"whole.{suffix}").read_bytes()
    rng, messages = random.Random(suffix), []
    for number in range(60):
        damaged = bytearray(whole)
        for place in rng.choices(range(len(whole)), k=rng.choice([1, 5, 50, 500])):
            damaged[place] ^= 1 << rng.randrange(8)
        path = tmp_path / f"{number}.{suffix}"
        path.write_bytes(damaged if number % 4 else damaged[: rng.randrange(len(damaged))])
        try:
            assert read_layer(path).rows.is_valid.all()
        except LayerError as error:
            messages.append(str(error))
    assert len(messages) > 10
    assert all(message.isprintable() for message in messages)


@pytest.mark.parametrize("text", ["a.tif", "/data/what?/a@b.tif", "s3://bucket/key.tif", "https://host/a@2x.tif", ""])
def test_plain_names_stay(text: str) -> None:
    assert without_secrets(text) == text


def test_names_are_one_line_without_secrets() -> None:
    assert without_secrets("s3://k:s@b/a.tif and https://h/b.gpkg?sig=1") == "s3://b/a.tif and https://h/b.gpkg"
    assert display_name("a\n\0\udcff\tü.tif") == "a\\n\\x00\\udcff\\tü.tif"
    assert len(display_name("x" * 9999)) < 210


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("https://h/a.tif", True), ("s3://b/a.tif", True), ("/vsicurl/http://h/a.tif", True), ("/vsis3/b/a", True),
        ("/vsizip//vsicurl/https://h/a.zip/a.tif", True), ("zip+https://h/a.zip!a.tif", True),
        ("zip://a.zip!a.tif", False), ("/vsizip/a.zip/a.tif", False), ("/vsimem/a", False), ("a/https/b.tif", False),
    ],
)  # fmt: skip
def test_remote_paths_are_told_from_local_ones(path: str, remote: bool) -> None:
    assert is_remote(path) == remote

from __future__ import annotations

import json
import sqlite3
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import MultiPolygon, Polygon, box

from hybridseg.errors import OutputError
from hybridseg.types import FEATURE_COLUMNS
from hybridseg.write.formats import FORMATS, Format, Layer
from hybridseg.write.result import read_provenance, read_result, write_result

UTM = "EPSG:32633"
TEXT = ("id", "class", "origin")
NUMBERS = ("score", "iou_pred", "stability", "agreement", "area_m2")
PROVENANCE: dict[str, Any] = {
    "hybridseg": "0.1.0",
    "theme_yaml": 'classes:\n- "é水"  # <&>\n',
    "features": {"a": [1, 2.5, None, True, 0.1]},
    "models": {},
}

every_format = pytest.mark.parametrize("suffix", sorted(FORMATS))


def features(count: int = 3, crs: str = UTM, **columns: list[float] | list[str]) -> gpd.GeoDataFrame:
    x = 500_000.125 + 40 * np.arange(count)
    outlines = [box(left, 5_000_000.1, left + 10.3, 5_000_020) for left in x]
    data = {
        "id": [str(k) for k in range(count)],
        "class": ["building", "water", "l'eau & <co>"][:count],
        "score": [0.5, 1.0, np.nan][:count],
        "origin": ["refined", "coarse", "refined"][:count],
        "iou_pred": [np.nan] * count,
        "stability": [0.25] * count,
        "agreement": [0.75] * count,
        "area_m2": [205.0] * count,
        "geometry": outlines,
    }
    return gpd.GeoDataFrame(data | columns, geometry="geometry", crs=crs)


def parts(frame: gpd.GeoDataFrame) -> list[shapely.Geometry]:
    """Geometries as normalised MultiPolygons: some formats know no other type."""
    multi = [MultiPolygon([g]) if g.geom_type == "Polygon" else g for g in frame.geometry]
    return [shapely.normalize(g) for g in multi]


def assert_same(read: gpd.GeoDataFrame, written: gpd.GeoDataFrame, tolerance: float) -> None:
    read, written = (frame.sort_values("id", ignore_index=True) for frame in (read, written))
    assert [str(name) for name in read.columns] == list(FEATURE_COLUMNS)
    for name in TEXT:
        assert read[name].tolist() == written[name].tolist(), name
    for name in NUMBERS:
        assert read[name].dtype == np.float64
        np.testing.assert_array_equal(read[name], written[name].astype(float), err_msg=name)
    for a, b in zip(parts(read), parts(written), strict=True):
        assert shapely.get_num_coordinates(a) == shapely.get_num_coordinates(b)
        assert a.equals_exact(b) if tolerance == 0 else a.boundary.hausdorff_distance(b.boundary) < tolerance


def expected(frame: gpd.GeoDataFrame, suffix: str) -> tuple[gpd.GeoDataFrame, float]:
    return (frame.to_crs("EPSG:4326"), 1e-6) if suffix == ".geojson" else (frame, 0.0)


words = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")), min_size=1, max_size=12)
unit = st.floats(0, 1) | st.just(float("nan"))


@st.composite
def outlines(draw: st.DrawFn) -> Polygon | MultiPolygon:
    """Squares in UTM metres, some with a hole, some with an island."""
    x, y = draw(st.floats(2e5, 8e5)), draw(st.floats(1e4, 9e6))
    size = draw(st.floats(5, 500))
    hole = [box(x + size / 4, y + size / 4, x + size / 2, y + size / 2).exterior.coords] if draw(st.booleans()) else []
    square = Polygon([(x, y), (x + size, y), (x + size, y + size), (x, y + size)], hole)
    return MultiPolygon([square, box(x + 2 * size, y, x + 3 * size, y + size)]) if draw(st.booleans()) else square


@st.composite
def layers(draw: st.DrawFn) -> gpd.GeoDataFrame:
    ids = draw(
        st.lists(words | st.sampled_from(["1", "007", "2024-01-01", "1e5", "true", "null"]), max_size=5, unique=True)
    )
    rows = [
        {
            "id": id_,
            "class": draw(words),
            "score": draw(unit),
            "origin": draw(st.sampled_from(["refined", "coarse"])),
            "iou_pred": draw(unit),
            "stability": draw(unit),
            "agreement": draw(unit),
            "area_m2": draw(st.floats(0, 1e9)),
            "geometry": draw(outlines()),
        }
        for id_ in ids
    ]
    return gpd.GeoDataFrame(pd.DataFrame(rows, columns=list(FEATURE_COLUMNS)), geometry="geometry", crs=UTM)


@every_format
@settings(max_examples=25, deadline=None)
@given(frame=layers())
def test_write_then_read_is_identity(suffix: str, frame: gpd.GeoDataFrame) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_result(frame, Path(folder) / f"layer{suffix}", PROVENANCE)
        read = read_result(path)
        assert read_provenance(path) == PROVENANCE
        assert [file.name for file in Path(folder).iterdir()] == [path.name]
    wanted, tolerance = expected(frame, suffix)
    assert read.crs == wanted.crs
    assert_same(read, wanted, tolerance)


@every_format
def test_empty_layer_keeps_columns_types_and_crs(suffix: str, tmp_path: Path) -> None:
    path = write_result(features(0), tmp_path / f"none{suffix}", PROVENANCE)
    read = read_result(path)
    assert len(read) == 0
    assert list(read.columns) == list(FEATURE_COLUMNS)
    assert read.crs == ("EPSG:4326" if suffix == ".geojson" else UTM)
    assert read["score"].dtype == np.float64
    assert read["id"].dtype == pd.Series(["a"]).astype(str).dtype
    assert read_provenance(path) == PROVENANCE


@every_format
def test_output_crs(suffix: str, tmp_path: Path) -> None:
    path = write_result(features(), tmp_path / f"a{suffix}", {}, crs="EPSG:3857")
    assert read_result(path).crs == ("EPSG:4326" if suffix == ".geojson" else "EPSG:3857")


@every_format
def test_further_columns_are_kept_behind_ours(suffix: str, tmp_path: Path) -> None:
    frame = features(width_m=[1.5, 2.5, 3.5])
    path = write_result(frame[["width_m", *FEATURE_COLUMNS]], tmp_path / f"a{suffix}", {})
    read = read_result(path).sort_values("id")
    assert read["width_m"].tolist() == [1.5, 2.5, 3.5]


@every_format
def test_a_failed_write_leaves_the_former_file(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_result(features(2), tmp_path / f"a{suffix}", {})
    format_ = FORMATS[suffix]

    def write_then_fail(layers: Sequence[Layer], path: Path, provenance: Mapping[str, Any]) -> None:
        format_.write(layers, path, provenance)
        raise KeyboardInterrupt

    monkeypatch.setitem(FORMATS, suffix, Format(write_then_fail, format_.read, format_.provenance))
    with pytest.raises(KeyboardInterrupt):
        write_result(features(3), path, {})
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert len(read_result(path)) == 2


@every_format
def test_file_of_another_program_has_no_provenance(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    frame = features(name=["hybridseg", '"hybridseg": 1', "x"])
    frame.to_parquet(path) if suffix == ".parquet" else frame.to_crs(4326).to_file(path)
    assert read_provenance(path) is None
    assert len(read_result(path)) == 3


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"choose one of \.fgb, \.geojson, \.gpkg, \.parquet"):
        write_result(features(), tmp_path / "a.shp", {})
    with pytest.raises(OutputError, match="does not exist"):
        read_result(tmp_path / "a.gpkg")
    with pytest.raises(OutputError, match="is no features file"):
        read_provenance(tmp_path / "a.shp")
    with pytest.raises(ValueError, match="lack the columns \\['score'\\]"):
        write_result(features().drop(columns="score"), tmp_path / "a.gpkg", {})
    with pytest.raises(ValueError, match="no CRS"):
        write_result(features().set_crs(None, allow_override=True), tmp_path / "a.gpkg", {})
    assert list(tmp_path.iterdir()) == []


class TestGeoPackage:
    def test_default_style(self, tmp_path: Path) -> None:
        path = write_result(features(), tmp_path / "my town.gpkg", PROVENANCE)
        with closing(sqlite3.connect(path)) as database:
            database.row_factory = sqlite3.Row
            (style,) = database.execute("SELECT * FROM layer_styles").fetchall()
            (geometry,) = database.execute("SELECT * FROM gpkg_geometry_columns").fetchall()
        assert list(style.keys()) == [
            "id", "f_table_catalog", "f_table_schema", "f_table_name", "f_geometry_column", "styleName", "styleQML",
            "styleSLD", "useAsDefault", "description", "owner", "ui", "update_time",
        ]  # fmt: skip
        # what QGIS looks it up by
        assert (style["f_table_catalog"], style["f_table_schema"], style["useAsDefault"]) == ("", "", 1)
        assert style["f_table_name"] == geometry["table_name"] == "my town"
        assert style["f_geometry_column"] == geometry["column_name"]
        assert style["update_time"].endswith("Z")
        labels = {rule.get("label") for rule in ET.fromstring(style["styleQML"]).iter("rule")}
        assert {"building", "building (coarse)", "water", "l'eau & <co>", "other"} <= labels

    def test_gdal_sees_one_spatial_layer_and_the_styles(self, tmp_path: Path) -> None:
        path = write_result(features(), tmp_path / "a.gpkg", {})
        with warnings.catch_warnings(action="error"):
            assert pyogrio.list_layers(path).tolist() == [["a", "MultiPolygon"], ["layer_styles", None]]
            assert len(gpd.read_file(path, layer="layer_styles")) == 1
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert database.execute("PRAGMA foreign_key_check").fetchall() == []

    def test_file_without_geometries(self, tmp_path: Path) -> None:
        pyogrio.write_dataframe(pd.DataFrame({"a": [1]}), tmp_path / "a.gpkg")
        with pytest.raises(OutputError, match="no layer with geometries"):
            read_result(tmp_path / "a.gpkg")

    def test_reserved_layer_names(self, tmp_path: Path) -> None:
        for stem in ("gpkg_1", "layer_styles", "rtree_a", "sqlite_a", "select", "1", "a.b"):
            assert len(read_result(write_result(features(), tmp_path / f"{stem}.gpkg", {}))) == 3

    def test_replaces_a_file_with_a_stale_journal(self, tmp_path: Path) -> None:
        path = tmp_path / "a.gpkg"
        write_result(features(1), path, {})
        path.with_name("a.gpkg-wal").write_bytes(b"stale")
        write_result(features(3), path, {})
        assert [file.name for file in tmp_path.iterdir()] == ["a.gpkg"]
        assert len(read_result(path)) == 3


class TestParquet:
    def test_is_geoparquet_1_1_with_bbox_and_zstd(self, tmp_path: Path) -> None:
        path = write_result(features(), tmp_path / "a.parquet", PROVENANCE)
        geo = json.loads(pq.read_schema(path).metadata[b"geo"])
        assert geo["version"] == "1.1.0"
        assert "bbox" in geo["columns"]["geometry"]["covering"]
        assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"
        assert json.loads(pq.read_schema(path).metadata[b"hybridseg"]) == PROVENANCE
        near = gpd.read_parquet(path, bbox=(500_000, 5_000_000, 500_020, 5_000_010))
        assert near["id"].tolist() == ["0"]

    def test_neighbours_lie_near_in_the_file(self, tmp_path: Path) -> None:
        corners = [(x, y) for x in range(16) for y in range(16)]
        order = np.random.default_rng(0).permutation(len(corners))
        count = len(corners)
        frame = gpd.GeoDataFrame(
            {"id": [str(k) for k in order], "class": "a", "origin": "coarse"} | dict.fromkeys(NUMBERS, 0.5),
            geometry=[box(*corners[k], corners[k][0] + 1, corners[k][1] + 1) for k in order],
            crs=UTM,
        )
        read = read_result(write_result(frame, tmp_path / "a.parquet", {}))
        centres = read.centroid
        assert len(read) == count
        assert centres.distance(centres.shift()).mean() < 1.5  # 8.3 in random order


class TestGeoJson:
    def test_follows_rfc_7946(self, tmp_path: Path) -> None:
        path = write_result(features(), tmp_path / "a.geojson", PROVENANCE, crs="EPSG:3857")
        document = json.loads(path.read_text(encoding="utf-8"))
        assert document["type"] == "FeatureCollection"
        assert document["hybridseg"] == PROVENANCE
        assert "crs" not in document
        assert document["features"][0]["properties"]["iou_pred"] is None
        ring = document["features"][0]["geometry"]["coordinates"][0]
        assert shapely.LinearRing(ring).is_ccw
        assert all(round(value, 7) == value for point in ring for value in point)

    def test_is_cut_at_the_antimeridian(self, tmp_path: Path) -> None:
        frame = features(1, crs="EPSG:32660")
        frame.geometry = [box(833_900, 0, 834_900, 1000)]  # 180 degrees lie within
        (outline,) = read_result(write_result(frame, tmp_path / "a.geojson", {})).geometry
        assert outline.geom_type == "MultiPolygon"
        assert [round(abs(part.centroid.x)) for part in outline.geoms] == [180, 180]
        assert outline.area < 1e-3


class TestFlatGeobuf:
    def test_has_a_spatial_index(self, tmp_path: Path) -> None:
        path = write_result(features(), tmp_path / "a.fgb", {})
        assert pyogrio.read_info(path)["capabilities"]["fast_spatial_filter"]
        near = gpd.read_file(path, bbox=(500_000, 5_000_000, 500_020, 5_000_010))
        assert near["id"].tolist() == ["0"]

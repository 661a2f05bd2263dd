from __future__ import annotations

import json
import re
import sqlite3
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
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
from geopandas.testing import assert_geodataframe_equal
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import LineString, MultiPolygon, Polygon, box

from hybridseg.errors import OutputError
from hybridseg.types import FEATURE_COLUMNS
from hybridseg.write import formats
from hybridseg.write.formats import FORMATS, Layer
from hybridseg.write.lineage import COLUMNS
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
        assert {file.name for file in Path(folder).iterdir()} - {
            path.with_suffix(suffix).name for suffix in (".qmd", ".qml")
        } == {path.name}
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
    path = write_result(features().to_crs("EPSG:3857"), tmp_path / f"a{suffix}", {})
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

    monkeypatch.setitem(FORMATS, suffix, replace(format_, write=write_then_fail))
    with pytest.raises(KeyboardInterrupt):
        write_result(features(3), path, {})
    assert {file.name for file in tmp_path.iterdir()} - {
        path.with_suffix(suffix).name for suffix in (".qmd", ".qml")
    } == {path.name}
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


def network() -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:
    places = [(500_000.0, 5_000_000.0), (500_050.5, 5_000_010.25), (500_100.0, 5_000_000.0)]
    lines = gpd.GeoDataFrame(
        {
            "id": ["a", "b"],
            "class": ["road", "river"],
            "score": [0.5, np.nan],
            "width_m": [6.5, 3.0],
            "length_m": [51.0, 50.0],
            "from_node": ["0", "1"],
            "to_node": ["1", "2"],
        },
        geometry=[LineString(places[:2]), LineString(places[1:])],
        crs=UTM,
    )
    nodes = gpd.GeoDataFrame({"id": ["0", "1", "2"], "degree": [1, 2, 1]}, geometry=shapely.points(places), crs=UTM)
    return lines, nodes


class TestLines:
    @every_format
    @pytest.mark.parametrize("count", [0, 2])
    def test_come_back_with_their_provenance(self, suffix: str, count: int, tmp_path: Path) -> None:
        lines, nodes = network()
        lines = lines[:count]
        path = write_result(lines, tmp_path / f"my roads{suffix}", PROVENANCE)
        write_result(lines, tmp_path / f"other{suffix}", PROVENANCE, nodes=nodes[:0])
        read = read_result(path).sort_values("id", ignore_index=True)
        assert read_provenance(path) == PROVENANCE
        assert read.crs == ("EPSG:4326" if suffix == ".geojson" else UTM)
        if count:
            assert list(read.columns) == list(lines.columns)
            assert read["width_m"].tolist() == [6.5, 3.0]
            assert set(read.geom_type) == {"LineString"}
            assert read.to_crs(UTM).geometry.geom_equals_exact(lines.geometry, 0.02).all()  # GeoJSON: 7 decimals

    @pytest.mark.parametrize("suffix", [".fgb", ".geojson"])
    def test_one_layer_has_the_files_name(self, suffix: str, tmp_path: Path) -> None:
        path = write_result(network()[0], tmp_path / f"my roads{suffix}", {}, nodes=network()[1])
        assert pyogrio.list_layers(path).tolist() == [["my roads", "LineString"]]

    def test_geojson_follows_rfc_7946(self, tmp_path: Path) -> None:
        path = write_result(network()[0].to_crs(3857), tmp_path / "a.geojson", PROVENANCE)
        document = json.loads(path.read_text(encoding="utf-8"))
        assert not {"crs", "name"} & set(document)
        for feature in document["features"]:
            for place in feature["geometry"]["coordinates"]:
                assert all(round(value, 7) == value for value in place)
                assert 14 < place[0] < 16  # degrees

    def test_a_geopackage_holds_lines_and_nodes_with_a_style_each(self, tmp_path: Path) -> None:
        lines, nodes = (layer.to_crs("EPSG:3857") for layer in network())
        path = write_result(lines, tmp_path / "roads.gpkg", PROVENANCE, nodes)
        layers = pyogrio.list_layers(path).tolist()
        assert layers == [["lines", "LineString"], ["nodes", "Point"], ["layer_styles", None]]
        read = read_result(path, "nodes")
        assert read["degree"].tolist() == [1, 2, 1]
        assert read.crs == "EPSG:3857"
        for layer in ("lines", "nodes"):
            assert json.loads(pyogrio.read_info(path, layer=layer)["layer_metadata"]["hybridseg"]) == PROVENANCE
        with closing(sqlite3.connect(path)) as database:
            styles = dict(database.execute("SELECT f_table_name, styleQML FROM layer_styles").fetchall())
        roots = {layer: ET.fromstring(style) for layer, style in styles.items()}
        assert {layer: root.findtext("layerGeometryType") for layer, root in roots.items()} == {
            "lines": "1",
            "nodes": "0",
        }
        assert [rule.get("label") for rule in roots["lines"].iter("rule")] == ["river", "road", "other"]

    def test_a_line_cut_in_two_makes_all_multi(self, tmp_path: Path) -> None:
        lines, _ = network()
        lines.loc[1, "geometry"] = shapely.MultiLineString([[(0, 0), (1, 1)], [(2, 2), (3, 3)]])
        path = write_result(lines, tmp_path / "a.gpkg", {})
        assert pyogrio.list_layers(path)[0].tolist() == ["a", "MultiLineString"]
        assert read_result(path).length.tolist() == pytest.approx(lines.length.tolist())


def test_one_line_adds_a_format_for_polygons_and_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, ".geoparquet", FORMATS[".parquet"])
    for frame, nodes in ((features(), None), network()):
        path = write_result(frame, tmp_path / "a.geoparquet", PROVENANCE, nodes=nodes)
        assert len(read_result(path)) == len(frame)
        assert read_provenance(path) == PROVENANCE


@every_format
def test_attributes_of_the_frame_are_not_for_the_file(suffix: str, tmp_path: Path) -> None:
    frame = features()
    frame.attrs = {"summary": object(), "nodes": pd.DataFrame({"a": [1]})}  # no JSON
    path = write_result(frame, tmp_path / f"a{suffix}", {})
    assert read_result(path).attrs == {}
    assert set(frame.attrs) == {"summary", "nodes"}  # and stay with the caller


@every_format
def test_the_raw_score_stands_behind_the_score(suffix: str, tmp_path: Path) -> None:
    path = write_result(features(score_raw=[0.25, 0.5, 0.75]), tmp_path / f"a{suffix}", {})
    read = read_result(path).sort_values("id")
    assert list(read.columns[:4]) == ["id", "class", "score", "score_raw"]
    assert read["score_raw"].tolist() == [0.25, 0.5, 0.75]


@every_format
def test_a_crs_that_does_not_reach_the_result(suffix: str, tmp_path: Path) -> None:
    frame = features(1, crs="EPSG:4326")
    frame.geometry = [box(90, 89, 91, 90)]  # at the pole
    with pytest.raises(OutputError, match=r"not defined; choose another with --crs"):
        write_result(frame.to_crs("+proj=gnom +lat_0=-90"), tmp_path / f"a{suffix}", {})
    assert not list(tmp_path.iterdir())


@every_format
def test_rows_lost_on_the_way_are_noticed(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    format_ = FORMATS[suffix]

    def forgetful(layers: Sequence[Layer], path: Path, provenance: Mapping[str, Any]) -> None:
        format_.write([replace(layer, frame=layer.frame[1:]) for layer in layers], path, provenance)

    monkeypatch.setitem(FORMATS, suffix, replace(format_, write=forgetful))
    with pytest.raises(OutputError, match="2 rows of 3 are left"):
        write_result(features(), tmp_path / f"a{suffix}", {})
    assert not list(tmp_path.iterdir())


@every_format
def test_a_layer_written_some_rows_at_a_time_is_whole(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With columns and types of geometry that the first rows do not have."""
    frame = pd.concat([features(), features(), features()], ignore_index=True)
    frame = frame.assign(id=[f"b{k}" for k in range(9)], note=[None] * 5 + ["late"] * 4)
    frame.geometry = [shapely.affinity.translate(outline, 0, 100 * k) for k, outline in enumerate(frame.geometry)]
    frame.loc[7, "geometry"] = MultiPolygon([shapely.affinity.translate(frame.geometry[7], x) for x in (0, 20)])
    whole = write_result(frame, tmp_path / f"whole{suffix}", PROVENANCE)
    monkeypatch.setattr(formats, "_ROWS", 2)
    parts_ = write_result(frame, tmp_path / f"parts{suffix}", PROVENANCE)
    one, two = read_result(whole), read_result(parts_)
    assert_geodataframe_equal(one, two)
    assert two["note"].notna().sum() == 4
    assert read_provenance(parts_) == PROVENANCE
    if suffix == ".parquet":
        metadata = [pq.read_schema(path).metadata for path in (whole, parts_)]
        assert metadata[0][b"geo"] == metadata[1][b"geo"]
        assert pq.ParquetFile(parts_).num_row_groups == 5
        assert json.loads(metadata[0][b"geo"])["columns"]["geometry"]["geometry_types"] == ["MultiPolygon", "Polygon"]


@every_format
def test_an_id_or_an_outline_lost_on_the_way_is_noticed(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    format_ = FORMATS[suffix]
    lost: list[tuple[str, Any, str]] = [("id", "2", "ids are lost")]
    lost += [("geometry", None, "geometries are lost")] if suffix in (".gpkg", ".geojson") else []
    for column, value, said in lost:

        def careless(
            layers: Sequence[Layer], path: Path, provenance: Mapping[str, Any], column: str = column, value: Any = value
        ) -> None:
            frames = [layer.frame.copy() for layer in layers]
            for frame in frames:
                frame.loc[0, column] = value
            kept = [replace(layer, frame=frame) for layer, frame in zip(layers, frames, strict=True)]
            format_.write(kept, path, provenance)

        monkeypatch.setitem(FORMATS, suffix, replace(format_, write=careless))
        with pytest.raises(OutputError, match=said):
            write_result(features(), tmp_path / f"a{suffix}", {})


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

    def test_people_find_title_description_and_credits(self, tmp_path: Path) -> None:
        credits = [{"of": "imagery", "attribution": "© a city", "licence": "CC-BY-4.0"}]
        provenance = {"hybridseg": "0.1.0", "source": "town.tif", "credits": credits}
        path = write_result(features(1), tmp_path / 'l\'eau "1".gpkg', provenance)
        info = pyogrio.read_info(path, layer=path.stem)["layer_metadata"]
        assert info["IDENTIFIER"] == "building (polygons) of town.tif"
        assert "© a city (CC-BY-4.0)" in info["DESCRIPTION"]
        with closing(sqlite3.connect(path)) as database:  # as QgsOgrProvider::loadMetadata asks
            (found,) = database.execute(
                "SELECT md.metadata FROM gpkg_metadata md JOIN gpkg_metadata_reference r ON r.md_file_id = md.id "
                "WHERE r.table_name = ? AND md.md_standard_uri = 'http://mrcc.com/qgis.dtd' "
                "AND r.reference_scope = 'table'",
                [path.stem],
            ).fetchall()
        root = ET.fromstring(found[0])
        assert root.findtext("title") == info["IDENTIFIER"]
        assert root.findtext("license") == "CC-BY-4.0"

    def test_columns_are_explained(self, tmp_path: Path) -> None:
        path = write_result(features(), tmp_path / "a.gpkg", {})
        with closing(sqlite3.connect(path)) as database:
            told = dict(database.execute("SELECT column_name, description FROM gpkg_data_columns").fetchall())
            extensions = {row[0] for row in database.execute("SELECT extension_name FROM gpkg_extensions").fetchall()}
        assert told == {name: COLUMNS[name] for name in FEATURE_COLUMNS if name != "geometry"}
        assert {"gpkg_schema", "gpkg_metadata", "gpkg_rtree_index"} <= extensions

    def test_keeps_the_rules_of_geopackage(self, tmp_path: Path) -> None:
        """Rules of OGC 12-128r19 that SQL can check, by the number of the requirement."""
        path = write_result(*network()[:1], tmp_path / "a.gpkg", PROVENANCE, nodes=network()[1])
        with closing(sqlite3.connect(path)) as database:

            def column(query: str) -> list[Any]:
                return [row[0] for row in database.execute(query).fetchall()]

            assert column("PRAGMA application_id") == [0x47504B47]  # 2
            assert column("PRAGMA integrity_check") == ["ok"]  # 6
            assert column("PRAGMA foreign_key_check") == []  # 7
            tables = set(column("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"))
            contents = column("SELECT table_name FROM gpkg_contents")
            assert set(contents) <= tables  # 13
            assert len(set(column("SELECT identifier FROM gpkg_contents"))) == len(contents)
            known = column("SELECT srs_id FROM gpkg_spatial_ref_sys")
            assert {-1, 0, 4326} <= set(known)  # 11
            assert set(column("SELECT srs_id FROM gpkg_contents")) <= set(known)  # 14
            assert column("SELECT table_name FROM gpkg_contents WHERE data_type = 'features'") == ["lines", "nodes"]
            assert column("SELECT table_name FROM gpkg_geometry_columns") == ["lines", "nodes"]  # 22, 23
            named = column("SELECT table_name FROM gpkg_extensions WHERE table_name IS NOT NULL")
            assert set(named) <= tables  # 60
            described = database.execute("SELECT table_name, column_name FROM gpkg_data_columns").fetchall()
            for table, name in described:  # 104, 105
                assert table in contents
                assert name in column(f"SELECT name FROM pragma_table_info('{table}')")
            assert set(column("SELECT md_scope FROM gpkg_metadata")) == {"dataset"}  # 94
            assert set(column("SELECT reference_scope FROM gpkg_metadata_reference")) == {"table"}  # 96
            assert set(column("SELECT table_name FROM gpkg_metadata_reference")) == {"lines", "nodes"}  # 97
            assert set(column("SELECT md_file_id FROM gpkg_metadata_reference")) == set(
                column("SELECT id FROM gpkg_metadata")
            )  # 101
            stamp = column("SELECT timestamp FROM gpkg_metadata_reference")
            assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each) for each in stamp)  # 100

    def test_a_missing_index_is_noticed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def without_index(*args: Any, **options: Any) -> None:
            pyogrio.raw.write_arrow(*args, **options | {"SPATIAL_INDEX": "NO"})

        monkeypatch.setattr(pyogrio, "write_arrow", without_index)
        with pytest.raises(OutputError, match="no such table: rtree_a_geom_rowid"):
            write_result(features(), tmp_path / "a.gpkg", {})
        assert not list(tmp_path.iterdir())

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
        meanings = {field.name: field.metadata for field in pq.read_schema(path) if field.name in COLUMNS}
        assert {name: told[b"GDAL:OGR:comment"].decode() for name, told in meanings.items()} == {
            name: COLUMNS[name] for name in FEATURE_COLUMNS if name != "geometry"
        }
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
        path = write_result(features().to_crs("EPSG:3857"), tmp_path / "a.geojson", PROVENANCE)
        document = json.loads(path.read_text(encoding="utf-8"))
        assert document["type"] == "FeatureCollection"
        assert document["hybridseg"] == PROVENANCE
        assert document["columns"]["area_m2"] == COLUMNS["area_m2"]
        assert document["title"] == "building, l'eau & <co>, water (polygons)"
        assert "Made by hybridseg 0.1.0" in document["description"]
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

    def test_a_sliver_is_left_out_and_not_written_as_a_line(self, tmp_path: Path) -> None:
        frame = features(1, crs="EPSG:4326")
        sliver = [(180, 0), (180, 2), (180 - 3e-14, 2), (180 - 3e-14, 1), (179, 1), (179, 0)]
        frame.geometry = [Polygon(sliver)]
        (outline,) = read_result(write_result(frame, tmp_path / "a.geojson", {})).geometry
        assert outline.geom_type == "Polygon"
        assert outline.bounds == (179, 0, 180, 1)


class TestFlatGeobuf:
    def test_has_a_spatial_index(self, tmp_path: Path) -> None:
        path = write_result(features(), tmp_path / "a.fgb", {})
        info = pyogrio.read_info(path)
        assert info["capabilities"]["fast_spatial_filter"]
        assert info["layer_metadata"]["TITLE"] == "building, l'eau & <co>, water (polygons)"
        near = gpd.read_file(path, bbox=(500_000, 5_000_000, 500_020, 5_000_010))
        assert near["id"].tolist() == ["0"]

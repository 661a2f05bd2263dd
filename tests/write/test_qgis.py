"""Results in QGIS itself: does it open them, draw them as meant, and tell where they come from."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from hybridseg.heatmap import Heatmap, HeatmapPart, create_heatmap
from hybridseg.reviewing.geopackage import connect, create
from hybridseg.reviewing.objects import Object
from hybridseg.types import Window
from hybridseg.write.formats import Layer
from hybridseg.write.lineage import COLUMNS
from hybridseg.write.raster import write_classes, write_heatmap
from hybridseg.write.result import write_layers, write_result
from hybridseg.write.schemas import write_schema
from hybridseg.write.style import qml

PYTHON = "/usr/bin/python3"
"""That of the system, for which distributions package QGIS."""
GRID = GeoBox((100, 120), Affine(0.5, 0, 512_000, 0, -0.5, 5_240_000), "EPSG:32633")
PROVENANCE = {
    "hybridseg": "1.2.3", "created": "2026-11-28T10:00:00+00:00", "source": "town.tif", "source_fingerprint": "ab12",
    "models": {"net": "cd34"}, "versions": {"gdal": "3.10"},
    "credits": [
        {"of": "imagery", "attribution": "City of Graz", "licence": "CC-BY-4.0"},
        {"of": "net", "attribution": "the authors", "licence": "Apache-2.0"},
    ],
}  # fmt: skip
LOOKS = {
    "h0": ["213,94,0,255", "solid"],
    "h1": ["213,94,0,255", "dash"],
    "w0": ["0,114,178,255", "solid"],
    "w1": ["0,114,178,255", "dash"],
}
"""Colour and dash of the outlines that `features` must get."""
GREY = ["153,153,153,255", "solid"]


def features() -> gpd.GeoDataFrame:
    """Buildings and water, refined and coarse."""
    boxes = [shapely.box(512_002 + 12 * k, 5_239_960, 512_010 + 12 * k, 5_239_990) for k in range(4)]
    numbers = {name: np.linspace(0.2, 0.9, 4) for name in ("score", "iou_pred", "stability", "agreement", "area_m2")}
    columns = {
        "id": list(LOOKS), "class": ["building", "building", "water", "water"], "origin": ["refined", "coarse"] * 2,
    }  # fmt: skip
    return gpd.GeoDataFrame({**columns, **numbers}, geometry=boxes, crs="EPSG:32633")


def roads() -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:
    """A line and its two nodes."""
    ends = [shapely.Point(512_001, 5_239_955), shapely.Point(512_040, 5_239_958)]
    lines = {"id": ["r0"], "class": ["road"], "score": [0.8], "width_m": [4.0], "length_m": [39.0]}
    return (
        gpd.GeoDataFrame(lines, geometry=[shapely.LineString(ends)], crs="EPSG:32633"),
        gpd.GeoDataFrame({"id": ["n0", "n1"], "degree": [1, 1]}, geometry=ends, crs="EPSG:32633"),
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What QGIS says of a result in each format, by its name; all in one process of QGIS, which starts slowly."""
    if not _has("qgis.core"):
        pytest.skip(f"{PYTHON} cannot import qgis.core: QGIS is not installed (Debian: apt install python3-qgis)")
    folder = tmp_path_factory.mktemp("qgis")
    layers = {}
    for suffix in (".gpkg", ".geojson", ".fgb", ".parquet"):
        layers[suffix] = write_result(features(), folder / f"map{suffix[1:]}{suffix}", PROVENANCE)
    layers["overture"] = write_schema("overture", features(), folder / "overture.parquet", PROVENANCE)
    layers["classes"] = write_classes(features(), folder / "classes.tif", GRID, ["building", "water"], PROVENANCE)
    with create_heatmap(folder / "made.tif", GRID, ["building"], PROVENANCE) as writer:
        values, whole = np.full((2, *GRID.shape), 0.5, np.float32), Window(0, 0, GRID.width, GRID.height)
        writer.write(HeatmapPart(values, np.ones(GRID.shape, bool), whole))
    layers["heatmap"] = folder / "heatmap.tif"
    write_heatmap(Heatmap.open(folder / "made.tif"), layers["heatmap"])
    lines, nodes = roads()
    network = write_result(lines, folder / "roads.gpkg", PROVENANCE, nodes=nodes)
    layers["lines"], layers["nodes"] = f"{network}|layername=lines", f"{network}|layername=nodes"
    traced = write_result(features(), folder / "both.gpkg", PROVENANCE, traced=features())
    layers["traced"] = f"{traced}|layername=both_traced"
    became = features().assign(became=["new", "new", "gone", "other"])
    style = qml(["new", "gone"], field="became", colours={"new": "#009e73", "gone": "#d55e00"})
    layers["track"] = write_layers([Layer("t", became, "polygons", "Tracks", style)], folder / "t.gpkg", PROVENANCE)
    verdicts = {"h0": "unseen", "h1": "accepted", "w0": "rejected", "w1": "split"}
    objects = [
        Object(key, row["id"], row["class"], 0.5, 0.9, 0.9, 0.8, row["geometry"], "refined", verdicts[row["id"]])
        for key, row in enumerate(features().to_dict("records"), 1)
    ]
    create(folder / "map.review.gpkg", objects, "EPSG:32633", {})
    connect(folder / "map.review.gpkg").close()
    layers["review"] = f"{folder / 'map.review.gpkg'}|layername=objects"
    (folder / "mine.qml").write_text(qml([], "polygons"), encoding="utf-8")
    layers["mine"] = write_result(features(), folder / "mine.fgb", PROVENANCE)
    asked = [PYTHON, str(Path(__file__).with_name("qgis_probe.py")), *map(str, layers.values())]
    ran = subprocess.run(asked, capture_output=True, text=True, timeout=200, env=_environment(), check=False)
    assert ran.returncode == 0, ran.stderr
    assert "partially supported" not in ran.stderr  # GDAL's word for a GeoPackage newer than it knows
    return dict(zip(layers, json.loads(ran.stdout)["layers"], strict=True))


def _has(module: str) -> bool:
    if not Path(PYTHON).exists():
        return False
    asked = [PYTHON, "-c", f"import {module}"]
    return subprocess.run(asked, capture_output=True, env=_environment(), check=False).returncode == 0


def _environment() -> dict[str, str]:
    """Ours without what leads QGIS's Python to our packages; no screen."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return ours | {"QT_QPA_PLATFORM": "offscreen"}


def layer(told: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """What is told of one layer, which QGIS could open."""
    found = told[name]
    if not found["valid"] and name in (".parquet", "overture"):
        pytest.skip("the GDAL of this QGIS has no Parquet driver")
    assert found["valid"]
    return found


@pytest.mark.parametrize("name", [".gpkg", ".geojson", ".fgb", ".parquet", "traced"])
def test_polygons_have_the_colour_of_their_class_and_coarse_ones_dashes(told: dict[str, Any], name: str):
    found = layer(told, name)
    assert found["rows"] == 4
    assert found["crs"] == ("EPSG:4326" if name == ".geojson" else "EPSG:32633")
    assert found["drawn"] == LOOKS


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("lines", {"r0": ["230,159,0,255", "solid"]}),
        ("nodes", {"n0": GREY, "n1": GREY}),
        (
            "track",
            {"h0": ["0,158,115,255", "solid"], "h1": ["0,158,115,255", "solid"], "w0": ["213,94,0,255", "solid"],
             "w1": GREY},
        ),
        ("mine", {key: GREY for key in LOOKS}),
        (
            "review",
            {"h0": ["240,228,66,255", "solid"], "h1": ["0,158,115,255", "solid"], "w0": ["213,94,0,255", "solid"],
             "w1": GREY},
        ),
    ],
)  # fmt: skip
def test_other_layers_are_drawn_by_their_own_styles(told: dict[str, Any], name: str, drawn: dict[str, Any]):
    assert layer(told, name)["drawn"] == drawn


NAMES = [
    ".gpkg", ".geojson", ".fgb", ".parquet", "overture", "traced", "lines", "nodes", "track", "classes", "heatmap",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_properties_show_where_a_layer_comes_from(told: dict[str, Any], name: str):
    found = layer(told, name)
    assert found["title"] == "Tracks" or found["title"].endswith("of town.tif" + ", as traced" * (name == "traced"))
    assert "Made by hybridseg 1.2.3" in found["abstract"]
    assert found["history"][0] == "Imagery read from town.tif (fingerprint ab12)"
    assert found["history"][1] == "Seen with net (sha256 cd34)"
    assert found["rights"] == ["imagery: City of Graz (CC-BY-4.0)", "net: the authors (Apache-2.0)"]
    assert found["licences"] == ["CC-BY-4.0", "Apache-2.0"]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("classes", "heatmap")])
def test_properties_say_what_each_column_means(told: dict[str, Any], name: str):
    found = layer(told, name)
    known = [column for column in found["columns"] if column in COLUMNS]
    assert "id" in known
    for column in known:
        assert f"Column {column}: {COLUMNS[column]}." in found["abstract"]


def test_a_class_raster_lists_its_classes_alone(told: dict[str, Any]):
    found = layer(told, "classes")
    assert found["legend"] == [[1, "#d55e00", "building"], [2, "#0072b2", "water"]]


def test_a_heatmap_has_named_bands_and_a_scale(told: dict[str, Any]):
    bands = layer(told, "heatmap")["bands"]
    assert [name for name, _ in bands] == ["Band 1: building:extent", "Band 2: building:interior"]
    assert [scale for _, scale in bands] == pytest.approx([1 / 254] * 2)


def test_gdal_s_validator_takes_our_geopackages(tmp_path: Path):
    asked = [PYTHON, "-m", "osgeo_utils.samples.validate_gpkg"]
    if not _has("osgeo_utils.samples.validate_gpkg"):
        pytest.skip(f"{PYTHON} has no osgeo_utils (Debian: apt install python3-gdal)")
    lines, nodes = roads()
    write_result(features(), tmp_path / "map.gpkg", PROVENANCE, traced=features())
    write_result(lines, tmp_path / "roads.gpkg", PROVENANCE, nodes=nodes)
    create(tmp_path / "review.gpkg", [], "EPSG:32633", {})
    for path in tmp_path.glob("*.gpkg"):
        ran = subprocess.run([*asked, path], capture_output=True, text=True, env=_environment(), check=False)
        assert ran.returncode == 0, ran.stderr
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM gpkg_geometry_columns")
    database.close()
    assert subprocess.run([*asked, path], capture_output=True, env=_environment(), check=False).returncode

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import geopandas as gpd
import pytest
import shapely
from pyproj import CRS

from hybridseg.write.lineage import abstract, attributions, licences, qgis_metadata, title
from hybridseg.write.result import write_result
from tests.run.test_provenance import CREDITS, made


def test_words_for_people() -> None:
    provenance = made("/data/town.tif", credits=CREDITS).to_dict()
    assert title(provenance, ["building", "road"], "polygons") == "building, road (polygons) of town.tif"
    assert title(provenance, list("abcdefg"), "lines") == "7 classes (lines) of town.tif"
    assert title(made("https://host/a/").to_dict(), [], "nodes") == "nodes of a"
    text = abstract(provenance)
    for part in ("hybridseg 0", "/data/town.tif", "sam2-lite (sha256 000", "theme: water", "© a city (CC-BY-4.0)."):
        assert part in text
    assert "classes:" not in text  # YAML is for machines
    assert "extent" not in text  # nor was it given
    assert attributions(provenance) == ["imagery: © a city (CC-BY-4.0)", "sam2-lite: hybridseg (Apache-2.0)"]
    assert licences(provenance) == ["CC-BY-4.0", "Apache-2.0"]
    assert (abstract({}), title({}, ["road"], "lines")) == ("", "road (lines)")


def test_qgis_reads_the_metadata() -> None:
    provenance = made(os.fsdecode(b"caf\xe9 <&>\x01.tif"), credits=CREDITS).to_dict()
    heading = title(provenance, ["l'eau & <co>"], "polygons")
    root = ET.fromstring(qgis_metadata(provenance, heading, CRS(32633).to_wkt()).encode())
    assert root.tag == "qgis"
    assert root.findtext("title") == root.findtext("identifier") == heading
    assert root.findtext("abstract") == abstract(provenance)
    assert root.findtext("type") == "dataset"
    assert [node.text for node in root.findall("rights")] == attributions(provenance)
    assert [node.text for node in root.findall("license")] == licences(provenance)
    assert "gdal" in str(root.findall("history")[-1].text)
    assert CRS.from_wkt(str(root.findtext("crs/spatialrefsys/wkt"))) == CRS(32633)


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, hybridseg.write.result, hybridseg.write.raster, hybridseg.run.provenance as p;"
        "p.installed_versions(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["a.geojson", "a.fgb", "a.parquet"])
def test_formats_without_metadata_of_qgis_get_a_file_beside(name: str, tmp_path: Path) -> None:
    features = gpd.GeoDataFrame(
        {"id": ["a"], "class": ["building"], "score": [0.9], "origin": ["coarse"], "iou_pred": [0.5],
         "stability": [0.5], "agreement": [0.5], "area_m2": [1.0]},
        geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32633",
    )  # fmt: skip
    made = {
        "source": "town.tif", "hybridseg": "1.0", "models": {"net": "ab"}, "versions": {"gdal": "3"},
        "credits": [{"of": "imagery", "attribution": "City of Graz", "licence": "CC-BY-4.0"}],
    }  # fmt: skip
    write_result(features, tmp_path / name, made)
    root = ET.fromstring((tmp_path / "a.qmd").read_text(encoding="utf-8").partition("\n")[2])
    assert root.findtext("title") == "building (polygons) of town.tif"
    assert "Column score: Chance that the object" in (root.findtext("abstract") or "")
    assert root.findtext("rights") == "imagery: City of Graz (CC-BY-4.0)"
    assert root.findtext("license") == "CC-BY-4.0"
    steps = [one.text for one in root.findall("history")]
    assert steps[0].startswith("Imagery read from town.tif")
    assert steps[1] == "Seen with net (sha256 ab)"
    wkt = root.findtext("crs/spatialrefsys/wkt") or ""
    assert ("WGS 84 / UTM zone 33N" in wkt) == (name != "a.geojson")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "a.qmd", "a.qml"])

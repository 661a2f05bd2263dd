from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pytest
import shapely
from pyproj import CRS

from hybridseg.write.lineage import (
    PACKAGES,
    Credit,
    Provenance,
    abstract,
    attributions,
    file_hash,
    licences,
    qgis_metadata,
    title,
    without_secrets,
)
from hybridseg.write.result import write_result

FACTS: dict[str, Any] = {
    "request": {"theme": "water", "themes": {"water": "classes:\n- water  # é\n"}, "extent": None},
    "models": {"sam2-lite": "0" * 64},
    "source_fingerprint": "cd34",
}
CREDITS = [Credit("imagery", "© a city", "CC-BY-4.0"), Credit("sam2-lite", "hybridseg", "Apache-2.0")]


def made(source: str = "town.tif", **changes: Any) -> Provenance:
    return Provenance.collect(source=source, **FACTS | changes)


def test_json_and_back() -> None:
    provenance = made(credits=CREDITS)
    assert json.loads(json.dumps(provenance.to_dict())) == provenance.to_dict()
    assert json.dumps(provenance.to_dict()).isascii()
    assert "\n" not in json.dumps(provenance.to_dict())
    assert provenance.to_dict()["request"] == FACTS["request"]
    assert provenance.to_dict()["credits"][0] == {"of": "imagery", "attribution": "© a city", "licence": "CC-BY-4.0"}


def test_the_request_is_kept_and_not_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest", "--secret=9"])
    settings = {
        "scene": Path("a.tif"),
        "bands": (4, 3, 2),
        "parts": frozenset({"points", "box"}),
        "extent": (np.float64(1.5), np.int64(2), float("inf"), None),
    }
    provenance = made(request=settings).to_dict()
    assert provenance["request"] == {
        "scene": "a.tif",
        "bands": [4, 3, 2],
        "parts": ["box", "points"],
        "extent": [1.5, 2, "inf", None],
    }
    assert "secret" not in json.dumps(provenance)
    assert "command" not in provenance
    with pytest.raises(TypeError, match="not object"):
        made(request={"scene": object()})


def test_collects_versions_and_time() -> None:
    provenance = made()
    assert {"python", "gdal", *PACKAGES} == set(provenance.versions)
    assert provenance.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert provenance.versions["rasterio"][0].isdigit()
    age = datetime.now(UTC) - datetime.fromisoformat(provenance.created)
    assert 0 <= age.total_seconds() < 60
    assert made(versions={"gdal": "3"}).versions == {"gdal": "3"}


def test_secrets_are_left_out() -> None:
    signed = "/vsicurl/https://user:pw@host/a.tif?sv=1&sig=abc"
    provenance = made(signed, request={"scene": signed, "more": [{"address": signed}]})
    assert provenance.source == "/vsicurl/https://host/a.tif"
    assert "pw" not in json.dumps(provenance.to_dict())
    assert "sig" not in json.dumps(provenance.to_dict())


def test_hash_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_hash(tmp_path / "a").startswith("ba7816bf8f01cfea")  # FIPS 180-2, appendix B.1


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


@pytest.mark.parametrize("text", ["a.tif", "/data/what?/a@b.tif", "s3://bucket/key.tif", "https://host/a@2x.tif", ""])
def test_plain_names_stay(text: str) -> None:
    assert without_secrets(text) == text


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, hybridseg.write.result, hybridseg.write.raster, hybridseg.write.lineage as p;"
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
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "a.qmd"])

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from hybridseg.write.lineage import PACKAGES, Provenance, without_secrets

FACTS: dict[str, Any] = {
    "theme": "water",
    "theme_fingerprint": "ab12",
    "theme_yaml": "classes:\n- water  # é\n",
    "models": {"sam2-lite": "0" * 64},
    "source_fingerprint": "cd34",
}


def test_json_and_back() -> None:
    made = Provenance.collect(source="a.tif", command=["hybridseg", "extract", "a.tif"], **FACTS)
    assert json.loads(made.to_json()) == made.to_dict()
    assert made.to_json().isascii()
    assert "\n" not in made.to_json()
    assert made.to_dict()["theme_yaml"] == FACTS["theme_yaml"]


def test_collects_versions_and_time() -> None:
    made = Provenance.collect(source="a.tif", **FACTS)
    assert {"python", "gdal", *PACKAGES} == set(made.versions)
    assert made.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert made.versions["rasterio"][0].isdigit()
    age = datetime.now(UTC) - datetime.fromisoformat(made.created)
    assert 0 <= age.total_seconds() < 60
    assert Provenance.collect(source="a.tif", versions={"gdal": "3"}, **FACTS).versions == {"gdal": "3"}


def test_secrets_are_left_out() -> None:
    signed = "/vsicurl/https://user:pw@host/a.tif?sv=1&sig=abc"
    made = Provenance.collect(source=signed, command=["hybridseg", "extract", f"--source={signed}"], **FACTS)
    assert made.source == "/vsicurl/https://host/a.tif"
    assert made.command[2] == "--source=/vsicurl/https://host/a.tif"


@pytest.mark.parametrize("text", ["a.tif", "/data/what?/a@b.tif", "s3://bucket/key.tif", "https://host/a@2x.tif", ""])
def test_plain_names_stay(text: str) -> None:
    assert without_secrets(text) == text


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, hybridseg.write.formats, hybridseg.write.raster, hybridseg.write.lineage as p;"
        "p.installed_versions(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from hybridseg import Survey, load_theme, open_scene
from hybridseg.read.scene import Scene
from hybridseg.run.provenance import PACKAGES, Credit, Provenance, as_json, file_hash
from hybridseg.run.work import provenance_of
from hybridseg.write.lineage import abstract

FACTS: dict[str, Any] = {
    "request": {"theme": "water", "themes": {"water": "classes:\n- water  # é\n"}, "extent": None},
    "models": {"sam2-lite": "0" * 64},
}
CREDITS = [Credit("imagery", "© a city", "CC-BY-4.0"), Credit("sam2-lite", "hybridseg", "Apache-2.0")]


def made(source: str = "town.tif", **changes: Any) -> Provenance:
    scene = cast(Scene, SimpleNamespace(name=source, fingerprint="cd34"))
    return Provenance.collect(scene, **FACTS | changes)


def test_json_and_back() -> None:
    provenance = made(credits=CREDITS)
    assert json.loads(json.dumps(provenance.to_dict())) == provenance.to_dict()
    assert json.dumps(provenance.to_dict()).isascii()
    assert "\n" not in json.dumps(provenance.to_dict())
    assert provenance.to_dict()["request"] == FACTS["request"]
    assert provenance.to_dict()["credits"][0] == {"of": "imagery", "attribution": "© a city", "licence": "CC-BY-4.0"}
    assert (provenance.source, provenance.source_fingerprint) == ("town.tif", "cd34")


def test_a_request_becomes_json() -> None:
    request = {
        "scene": Path("a.tif"),
        "bands": (4, 3, 2),
        "parts": frozenset({"points", "box"}),
        "extent": (np.float64(1.5), np.int64(2), float("inf"), None),
    }
    assert as_json(request) == {
        "scene": "a.tif",
        "bands": [4, 3, 2],
        "parts": ["box", "points"],
        "extent": [1.5, 2, "inf", None],
    }
    with pytest.raises(TypeError, match="not object"):
        as_json({"scene": object()})


def test_the_command_line_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest", "--secret=9"])
    provenance = made().to_dict()
    assert "secret" not in json.dumps(provenance)
    assert "command" not in provenance


def test_collects_versions_and_time() -> None:
    provenance = made()
    assert {"python", "gdal", *PACKAGES} == set(provenance.versions)
    assert provenance.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert provenance.versions["rasterio"][0].isdigit()
    age = datetime.now(UTC) - datetime.fromisoformat(provenance.created)
    assert 0 <= age.total_seconds() < 60


def test_secrets_are_left_out() -> None:
    signed = "/vsicurl/https://user:pw@host/a.tif?sv=1&sig=abc"
    assert as_json({"scene": signed, "more": [{"address": signed}]}) == {
        "scene": "/vsicurl/https://host/a.tif",
        "more": [{"address": "/vsicurl/https://host/a.tif"}],
    }


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("collections=naip&bbox=-96,40,-95,41&datetime=2021-01-01/2021-12-31", ...),
        ("ids=a,b&filter=eo:cloud_cover<9&filter-lang=cql2-text&query=%7B%7D&sortby=id&intersects=%7B%7D", ...),
        ("token=abc&collections=naip&api_key=1&subscription-key=2&limit=9", "collections=naip"),
        ("collections=naip;token=abc", "collections=naip"),
        ("collections=naip#token=abc", "collections=naip"),
        ("token=abc", ""),
        ("xbbox=secret&BBOX=secret", ""),
    ],
)
def test_of_a_search_all_is_kept_but_secrets(given: str, kept: str) -> None:
    asked = given if kept is ... else kept
    address = as_json(f"https://me:pw@host/api/search?{given}")
    assert address == "https://host/api/search" + (f"?{asked}" if asked else "")
    assert f"scene: {address}\n" in abstract({"request": {"scene": address}}) + "\n"


def test_hash_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_hash(tmp_path / "a").startswith("ba7816bf8f01cfea")  # FIPS 180-2, appendix B.1


def test_credits_say_what_shipped_models_learnt_from_and_the_licence_of_official_ones(blocks: Path) -> None:
    survey = Survey.open(open_scene(blocks), load_theme("buildings"))
    shipped = provenance_of([survey], None, {})["credits"]
    assert [credit["of"] for credit in shipped] == ["buildings-lite0", "sam2-lite"]
    for credit in shipped:
        assert credit["attribution"].startswith("learnt from OpenAerialMap imagery (CC-BY 4.0)")
    official = SimpleNamespace(classifier=survey.models.classifier, refiner_name="sam2.1-hiera-tiny", hashes={})
    plain = replace(survey, models=official)
    assert provenance_of([plain], None, {})["credits"][1] == {
        "of": "sam2.1-hiera-tiny",
        "attribution": "weights sam2.1-hiera-tiny",
        "licence": "Apache-2.0",
    }

from __future__ import annotations

import json
from pathlib import Path

import pystac
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from hybridseg.errors import OutputError
from hybridseg.write.stac import item_beside

MADE = {
    "source": "town.tif", "hybridseg": "1.0", "created": "2026-11-26T10:00:00+00:00",
    "credits": [{"of": "imagery", "attribution": "City of Graz", "licence": "CC-BY-4.0"}],
}  # fmt: skip


def grid(x: float, crs: str = "EPSG:32633", size: float = 0.5) -> GeoBox:
    return GeoBox((200, 300), Affine(size, 0, x, 0, -size, 5_240_000 if crs != "EPSG:4326" else 47.0), crs)


def test_an_item_stands_beside_the_result(tmp_path: Path) -> None:
    with item_beside(tmp_path / "map.gpkg", grid(512_000), ["building"], ["id", "score", "mine"], MADE):
        pass
    path = tmp_path / "map.stac.json"
    item = pystac.Item.from_file(str(path))
    assert item.id == "map"
    assert item.bbox is not None
    assert item.bbox[0] == pytest.approx(15.16, abs=0.05)
    assert item.datetime is not None
    assert item.datetime.isoformat() == MADE["created"]
    assert item.properties["title"] == "building (features) of town.tif"
    assert item.properties["license"] == "CC-BY-4.0"
    assert "City of Graz" in item.properties["description"]
    asset = item.assets["data"]
    assert (asset.href, asset.media_type, asset.roles) == ("./map.gpkg", "application/geopackage+sqlite3", ["data"])
    assert [one["name"] for one in asset.extra_fields["table:columns"]] == ["id", "score"]
    document = json.loads(path.read_text())
    assert document["type"] == "Feature"
    assert str(tmp_path) not in path.read_text()


def test_the_outline_is_cut_at_the_antimeridian(tmp_path: Path) -> None:
    with item_beside(tmp_path / "a.geojson", grid(179.9, "EPSG:4326", 0.001), ["building"], [], MADE):
        pass
    path = tmp_path / "a.stac.json"
    outline = json.loads(path.read_text())["geometry"]
    assert outline["type"] == "MultiPolygon"
    longitudes = [x for part in outline["coordinates"] for ring in part for x, *_ in ring]
    assert min(longitudes) >= -180
    assert max(longitudes) <= 180
    west, _, east, _ = json.loads(path.read_text())["bbox"]
    assert (west, east) == (pytest.approx(179.9), pytest.approx(-179.8))


def test_without_pystac_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridseg.write.stac.find_spec", lambda _: None)
    with (
        pytest.raises(OutputError, match=r"install hybridseg\[stac\]"),
        item_beside(tmp_path / "map.gpkg", grid(512_000), ["building"], [], MADE),
    ):
        pass

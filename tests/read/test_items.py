"""STAC Items as sources: from a file and over HTTP, bands in one asset or in several."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from hybridseg import cli
from hybridseg.errors import SourceError, SourceUnavailable
from hybridseg.read import items
from hybridseg.read.opening import open_scene
from hybridseg.read.sources import raster_files
from tests.rasters import make
from tests.read.http_server import serving

COLOURS = ("red", "green", "blue", "nir")


def item(folder: Path, name: str = "item.json", **assets: Any) -> Path:
    """Write an item; assets are hrefs or whole assets."""
    whole = {key: {"href": asset} if isinstance(asset, str) else asset for key, asset in assets.items()}
    content = {"type": "Feature", "stac_version": "1.0.0", "id": "scene-1", "assets": whole}
    (folder / name).write_text(json.dumps(content))
    return folder / name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A raster of four bands, and each of its bands alone; nir has pixels twice as large."""
    rgb = make("rgb", tmp_path)
    with rasterio.open(rgb) as file:
        pixels, profile = file.read(), file.profile
    profile.update(count=1, photometric="minisblack")
    for name, band in zip(COLOURS, (*pixels, 255 - pixels[0]), strict=True):
        half = name == "nir"
        shape = {"height": file.height // 2, "width": file.width // 2} if half else {}
        grid = {"transform": profile["transform"] * profile["transform"].scale(2)} if half else {}
        with rasterio.open(tmp_path / f"{name}.tif", "w", **profile | shape | grid) as out:
            out.write(band[::2, ::2][: file.height // 2, : file.width // 2] if half else band, 1)
    return tmp_path


@pytest.fixture
def address(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of a server, in a process of its own, of the folder's files."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(folder) as address:
        yield address


def same(one: Any, other: Any) -> None:
    first, second = (scene.read_window(scene.window, 64) for scene in (one, other))
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert one.geobox == other.geobox


def test_bands_of_their_own_assets_are_one_scene(folder: Path):
    scene = open_scene(item(folder, **{name: f"./{name}.tif" for name in COLOURS}, thumbnail="rgb.png"))
    assert scene.band_names == COLOURS
    same(scene, open_scene(folder / "rgb.tif", bands=(1, 2, 3)))
    with rasterio.open(folder / "nir.tif") as file:
        nir = file.read(1)
    raw = scene.raw([4]).read_window(scene.window, (scene.window.height, scene.window.width))
    assert np.abs(raw.pixels[0].mean() - nir.mean()) < 1


def test_bands_are_found_by_what_the_item_says_of_them(folder: Path):
    numbered = {
        f"B0{k}": {"href": str(folder / f"{name}.tif"), "eo:bands": [{"name": f"B0{k}", "common_name": name}]}
        for k, name in enumerate(COLOURS)
    }
    assert open_scene(item(folder, **numbered)).band_names == COLOURS
    listed = {"href": "rgb.tif", "bands": [{"eo:common_name": name} for name in COLOURS[:3]]}
    same(open_scene(item(folder, other="nir.tif", four=listed)), open_scene(folder / "rgb.tif"))


@pytest.mark.parametrize("key", ["visual", "image"])
def test_an_asset_of_all_colours_is_taken_by_its_name(key: str, folder: Path):
    path = item(folder, **{key: "rgb.tif", "nir": "nir.tif"})
    same(open_scene(path), open_scene(folder / "rgb.tif"))


def test_items_of_a_collection_are_tiles(folder: Path):
    one = json.loads(item(folder, visual="rgb.tif").read_text())
    (folder / "found.json").write_text(json.dumps({"type": "FeatureCollection", "features": [one, one]}))
    same(open_scene(folder / "found.json"), open_scene([folder / "rgb.tif", folder / "rgb.tif"]))


def test_an_item_behind_a_server_is_read_there(folder: Path, address: str):
    item(folder, "bands.json", **{name: f"{name}.tif" for name in COLOURS[:3]})
    item(folder, "visual.json", visual="rgb.tif")
    for name in ("bands", "visual"):
        same(open_scene(f"{address}/{name}.json"), open_scene(folder / "rgb.tif"))
    with pytest.raises(SourceUnavailable, match=r"missing\.json cannot be read"):
        open_scene(f"{address}/missing.json")


def search(folder: Path, name: str, count: int, following: str | None = None) -> None:
    """Write what an API answers a search with: so many items, and the address of the next page."""
    one = json.loads(item(folder, visual=str(folder / "rgb.tif")).read_text())
    links = [{"rel": "self", "href": "elsewhere"}] + ([{"rel": "next", "href": following}] if following else [])
    (folder / name).write_text(json.dumps({"type": "FeatureCollection", "features": [one] * count, "links": links}))


def test_a_search_of_an_api_is_a_scene_of_all_its_pages(folder: Path, address: str):
    search(folder, "search", 2, f"{address}/page2?token=b")
    search(folder, "page2", 1, "page3")
    search(folder, "page3", 0, "page3")
    asked = f"{address}/search?collections=naip&bbox=-96,40,-95,41&datetime=2021-01-01/2021-12-31"
    assert raster_files(asked) == [str(folder / "rgb.tif")] * 3
    same(open_scene(asked), open_scene([folder / "rgb.tif"] * 3))


def test_a_search_that_finds_nothing_or_too_much_is_refused(
    folder: Path, address: str, monkeypatch: pytest.MonkeyPatch
):
    search(folder, "search", 0)
    for source in (f"{address}/search?collections=naip", shutil.copy(folder / "search", folder / "saved.json")):
        with pytest.raises(SourceError, match=r"/\w+(.json)? finds no items; widen its bbox"):
            open_scene(source)
    monkeypatch.setattr(items, "_MOST", 5)
    search(folder, "search", 2, "search")  # a server that gives the same page for ever
    with pytest.raises(SourceError, match="finds more than 5 items; narrow its bbox"):
        open_scene(f"{address}/search?collections=naip")
    search(folder, "search", 2, "broken")
    (folder / "broken").write_text("{")
    with pytest.raises(SourceError, match="gives pages that are no ItemCollections"):
        open_scene(f"{address}/search")


def test_what_cannot_be_used_is_refused_in_a_line(folder: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SourceError, match=r"item scene-1 .* its rasters are nir: give the address") as error:
        open_scene(item(folder, nir="nir.tif", meta={"href": "a.xml", "type": "application/xml"}))
    assert "\n" not in str(error.value)
    with pytest.raises(SourceError, match=r"gone\.tif does not exist"):
        open_scene(item(folder, red="gone.tif", green="green.tif", blue="blue.tif"))
    odd = {"href": "rgb.tif", "roles": 5, "bands": {"a": 1}}
    with pytest.raises(SourceError, match="its rasters are first, second: give"):
        open_scene(item(folder, first=odd, second=odd | {"bands": ["red", None]}, third=7))
    (folder / "other.json").write_text('{"a": 1}')
    (folder / "broken.json").write_text("{")
    (folder / "deep.json").write_text("[" * 100_000)
    for name in ("other.json", "broken.json", "deep.json"):
        out = folder / "map.gpkg"
        assert cli.main(["extract", str(folder / name), str(out), "--theme", "buildings"]) == 2
        assert "is not a raster" in capsys.readouterr().err
        assert not out.exists()

"""Dates from a catalogue: searches of an API, on a server of this machine, and saved collections."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import rasterio
import shapely
from rasterio.windows import Window

from hybridseg import track
from hybridseg.cli import main
from hybridseg.errors import SourceError
from hybridseg.read import items as reader
from hybridseg.tracking.dates import dated_scenes
from tests.read.http_server import serving
from tests.tracking.places import ASKED, CRS, LEFT, PIXEL_M, SIDE, TOP, write
from tests.tracking.test_track import COMES, FLAGS, GOES, GROWN, GROWS, STAYS

BANDS = ("red", "green", "blue", "nir")
WHEN: tuple[dict[str, Any], ...] = (
    {"datetime": "2009-08-18T17:01:02.123Z"},
    {"datetime": "2012-07-30T21:30:00-05:00"},  # the 31st in UTC
    {"datetime": None, "start_datetime": "2016-07-01T00:00:00Z", "end_datetime": "2016-07-08T00:00:00Z"},
)
DAYS = [date(2009, 8, 18), date(2012, 7, 31), date(2016, 7, 1)]


def item(number: int, **assets: str) -> dict[str, Any]:
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": f"item-{number}", "properties": WHEN[number],
        "assets": {key: {"href": href} for key, href in assets.items()},
    }  # fmt: skip


def saved(path: Path, items: Sequence[Any], following: str | None = None) -> Path:
    links = [{"rel": "next", "href": following}] if following else []
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items), "links": links}))
    return path


def cut(path: Path, name: str, window: Window, bands: Sequence[int] = (1, 2, 3, 4)) -> str:
    """Write a part of a raster beside it."""
    with rasterio.open(path) as file:
        profile = file.profile | {
            "width": window.width, "height": window.height, "count": len(bands), "photometric": "minisblack",
            "alpha": "no", "transform": file.window_transform(window),
        }  # fmt: skip
        with rasterio.open(path.parent / name, "w", **profile) as out:
            out.write(file.read(list(bands), window=window))
    return name


@pytest.fixture
def whole(tmp_path: Path) -> list[Path]:
    """The place at three dates, which no name tells."""
    dates = ([STAYS, GROWS, GOES], [STAYS, GROWS, GOES, COMES], [STAYS, GROWN, COMES])
    return [write(tmp_path / f"{name}.tif", ponds) for name, ponds in zip("abc", dates, strict=True)]


@pytest.fixture
def items(whole: list[Path]) -> list[dict[str, Any]]:
    """Of the first date the two halves, of the second all, of the third a file a band."""
    west, east = (Window(col, 0, SIDE // 2, SIDE) for col in (0, SIDE // 2))
    single = {name: cut(whole[2], f"{name}.tif", Window(0, 0, SIDE, SIDE), [band])
              for band, name in enumerate(BANDS, 1)}  # fmt: skip
    return [
        item(2, **single),
        item(0, image=cut(whole[0], "west.tif", west)),
        item(1, image="b.tif"),
        item(0, image=cut(whole[0], "east.tif", east)),
    ]


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(tmp_path) as served:
        yield served


def test_items_of_a_day_are_a_date(whole: list[Path], items: list[Any], address: str, monkeypatch: pytest.MonkeyPatch):
    load, pages = reader._load, list[str]()
    monkeypatch.setattr(reader, "_load", lambda source: pages.append(source) or load(source))
    folder = whole[0].parent
    saved(folder / "search", items[:2], "page2")
    saved(folder / "page2", items[2:])
    out, search = folder / "ponds.gpkg", f"{address}/search?collections=naip&datetime=2009/2016"
    made = track(f"{search}&token=secret", out, run=folder / "run", **ASKED)
    assert pages == [f"{search}&token=secret", f"{address}/page2"]  # each once
    assert made.summary.dates == tuple(map(str, DAYS))
    assert sorted(made.objects["became"]) == ["gone", "grown", "new", "stable"]
    told = track(whole, dates="2009-08-18,2012-07-31,2016-07-01", **ASKED)
    columns = ["date", "status", "area_m2"]
    one, other = (result.observations[columns].sort_values(columns).reset_index(drop=True) for result in (made, told))
    assert one.equals(other)
    asked = made.provenance["request"]
    assert asked["given"] == [search]
    assert asked["scenes"][0] == f"{address}/west.tif and 1 more"
    assert asked["scenes"][1:] == [f"{address}/b.tif", f"bands from /vsicurl/{address}/red.tif"]
    assert len(gpd.read_file(out, layer="observations")) == 4 * 3


def test_a_saved_collection_is_a_search(items: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    found = saved(tmp_path / "found.json", items)
    assert main(["track", str(found), str(tmp_path / "p.gpkg"), *FLAGS, "--json", "--progress", "none"]) == 0
    assert json.loads(capsys.readouterr().out)["dates"] == list(map(str, DAYS))


def test_several_addresses_are_a_date_each(items: list[Any], tmp_path: Path):
    late, early = saved(tmp_path / "late.json", [items[0]]), saved(tmp_path / "early_2020.json", items[1:])
    scenes, days = dated_scenes([late, early])
    assert scenes == [late, early]
    assert days == [DAYS[2], DAYS[0]]
    assert dated_scenes([late, early], "2001,2002")[1] == [date(2001, 1, 1), date(2002, 1, 1)]


def test_one_day_goes_with_a_layer(items: list[Any], tmp_path: Path):
    row, col, height, width = GROWS
    corner = LEFT + col * PIXEL_M, TOP - (row + height) * PIXEL_M
    pond = shapely.box(*corner, corner[0] + width * PIXEL_M, corner[1] + height * PIXEL_M)
    gpd.GeoDataFrame({"osm_id": ["7"]}, geometry=[pond], crs=CRS).to_file(tmp_path / "old_2005.gpkg")
    found = saved(tmp_path / "found.json", [items[0]])
    made = track([found], layer=tmp_path / "old_2005.gpkg", **ASKED)
    assert made.summary.dates == ("2005-01-01", "2016-07-01")
    assert "7" in set(made.objects["track_id"])


@pytest.mark.parametrize(
    ("picked", "properties", "flags", "words"),
    [
        ([1, 3], None, [], "all items of .*found.json are of one day, 2009-08-18; give two or more dates, or --layer"),
        ([], None, [], "found.json finds no items"),
        ([1, 2], {}, [], "item item-1 of .*found.json has no datetime; give its rasters themselves, with --dates"),
        ([1, 2], {"datetime": None}, [], "has no datetime"),
        ([1, 2], {"datetime": "last spring"}, [], "has the datetime 'last spring', which is no date"),
        ([1, 2], {"datetime": 2012}, [], "has the datetime '2012', which is no date"),
        ([1, 2], "2012", [], "has no datetime"),
        ([1, 2], None, ["--dates", "2009,2012"], "--dates came with .*found.json, whose items state theirs; leave out"),
    ],
)
def test_what_gives_no_dates_is_one_line(
    items: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    picked: list[int], properties: Any, flags: list[str], words: str,
):  # fmt: skip
    chosen = [items[number] for number in picked]
    if properties is not None:
        chosen[-1]["properties"] = properties
    found, out = saved(tmp_path / "found.json", chosen), tmp_path / "ponds.gpkg"
    with pytest.raises(SourceError, match=words) as caught:
        dated_scenes([found], *flags[1:])
    assert "\n" not in str(caught.value)
    assert main(["track", str(found), str(out), *FLAGS, *flags]) == 2
    assert str(caught.value) in capsys.readouterr().err
    assert not out.exists()


def test_a_day_out_of_range_is_no_date():
    edge = reader.Item({"id": "a", "properties": {"datetime": "9999-12-31T23:59:59-05:00"}}, "a.json")
    with pytest.raises(SourceError, match="which is no date"):
        _ = edge.day

"""From scenes to a GeoPackage: water by its index, so no network, and the truth is exact."""

from __future__ import annotations

import json
import shutil
import sqlite3
from datetime import date
from pathlib import Path
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from hybridseg import load_theme, track
from hybridseg.cli import main
from hybridseg.errors import HybridsegError
from tests.tracking.places import ASKED, CRS, LEFT, PIXEL_M, SIDE, TOP, area_m2, write

STAYS, GROWS, GROWN = (20, 20, 30, 30), (20, 120, 30, 30), (20, 110, 40, 50)
GOES, COMES = (120, 20, 30, 30), (120, 120, 24, 40)
FLAGS = ["--theme", "water", "--model", "index:ndwi@0,20", "--refiner", "none", "--bands", ASKED["bands"]]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("scenes")
    dates = {"2009": [STAYS, GROWS, GOES], "2012": [STAYS, GROWS, GOES, COMES], "2016": [STAYS, GROWN, COMES]}
    return [write(folder / f"place_{year}.tif", ponds) for year, ponds in dates.items()]


@pytest.fixture(scope="module")
def made(scenes, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "ponds.gpkg"
    return track(scenes, out, report=out.with_suffix(".html"), **ASKED), out


def at(objects: gpd.GeoDataFrame, box: tuple[int, int, int, int]) -> gpd.GeoDataFrame:
    row, col, height, width = box
    middle = shapely.Point(LEFT + (col + width / 2) * PIXEL_M, TOP - (row + height / 2) * PIXEL_M)
    return objects[objects.intersects(middle)]


def test_what_became_of_each(made):
    objects = made[0].objects
    assert len(objects) == 4
    became = {name: at(objects, box)["became"].item() for name, box in
              {"stays": STAYS, "grows": GROWS, "goes": GOES, "comes": COMES}.items()}  # fmt: skip
    assert became == {"stays": "stable", "grows": "grown", "goes": "gone", "comes": "new"}
    assert at(objects, COMES)["first_seen"].item() == date(2012, 1, 1)
    assert at(objects, GOES)["last_seen"].item() == date(2012, 1, 1)


def test_areas_and_changes_are_those_of_the_ground(made):
    result, _ = made
    (whole,) = result.summary.overall
    gained = area_m2(GROWN) - area_m2(GROWS) + area_m2(COMES)
    assert whole.net_m2 == pytest.approx(gained - area_m2(GOES), abs=2 * whole.net_sd_m2)
    assert whole.gain_m2 == pytest.approx(gained, rel=0.05)
    assert whole.loss_m2 == pytest.approx(area_m2(GOES), rel=0.05)
    assert (whole.appeared, whole.vanished, whole.unknown) == (1, 1, 0)
    assert result.changes[result.changes["change"] == "gain"]["area_m2"].sum() == pytest.approx(gained, rel=0.05)


def test_the_file_has_a_row_an_object_and_date(made):
    _, out = made
    rows = gpd.read_file(out, layer="observations")
    assert len(rows) == 4 * 3
    assert rows.groupby("track_id").size().eq(3).all()
    assert set(rows["status"]) == {"present", "absent"}
    assert rows.geometry.isna().equals(rows["status"] == "absent")
    assert (rows.loc[rows["status"] == "absent", "area_m2"] == 0).all()
    assert len(gpd.read_file(out, layer="objects")) == 4


def test_qgis_steps_through_the_dates(made):
    _, out = made
    with sqlite3.connect(out) as database:
        styles = dict(database.execute("SELECT f_table_name, styleQML FROM layer_styles"))
    root = ET.fromstring(styles["observations"].split("\n", 1)[1])
    temporal = root.find("temporal")
    assert (temporal.get("enabled"), temporal.get("mode")) == ("1", "2")
    assert (temporal.get("startField"), temporal.get("endField")) == ("date", "until")
    assert ET.fromstring(styles["objects"].split("\n", 1)[1]).find("temporal") is None
    filters = [rule.get("filter") for rule in root.iter("rule")]
    assert "\"status\" = 'present'" in filters
    assert not any("origin" in text for text in filters)


def test_the_report_needs_no_network(made):
    text = made[1].with_suffix(".html").read_text()
    assert "http" not in text.replace("http://www.w3.org", "")
    assert text.count("data:image/jpeg") >= 2 * 3  # shown at first, and each step
    assert "2009-01-01 to 2016-01-01" in text


def test_ids_stay_and_only_a_date_added_is_computed(scenes, tmp_path):
    run = tmp_path / "run"
    before = track(scenes[:2], run=run, **ASKED)
    heatmaps = set((run / "parts").glob("heatmap-*"))
    after = track(scenes, run=run, **ASKED)
    assert len(set((run / "parts").glob("heatmap-*")) - heatmaps) == 1
    assert set(before.objects["track_id"]) <= set(after.objects["track_id"])
    first = [m.observations[m.observations["date"] == date(2009, 1, 1)].set_index("track_id") for m in (before, after)]
    joined = first[0].join(first[1].add_suffix("_then"))
    assert (joined["status"] == joined["status_then"]).all()
    again = track(scenes, run=run, **ASKED)
    assert list(again.objects["track_id"]) == list(after.objects["track_id"])


def test_what_clouds_hide_is_unknown_and_not_gone(scenes, tmp_path):
    hidden = write(tmp_path / "place_2020.tif", [STAYS, GROWN])
    masks = []
    for number in range(2):
        clear = np.ones((1, SIDE, SIDE), np.uint8)
        clear[:, 100:] = number == 0  # at the second date the southern part is hidden
        masks.append(tmp_path / f"clear{number}.tif")
        with rasterio.open(masks[-1], "w", driver="GTiff", count=1, height=SIDE, width=SIDE, dtype="uint8", crs=CRS,
                           transform=Affine(PIXEL_M, 0, LEFT, 0, -PIXEL_M, TOP)) as file:  # fmt: skip
            file.write(clear)
    result = track([scenes[2], hidden], clear_mask=masks, **ASKED)
    status = result.observations[result.observations["date"] == date(2020, 1, 1)].set_index("track_id")["status"]
    assert status[at(result.objects, COMES)["track_id"].item()] == "unknown"
    assert status[at(result.objects, STAYS)["track_id"].item()] == "present"
    assert at(result.objects, COMES)["became"].item() == "stable"
    assert (result.summary.overall[0].vanished, result.summary.overall[0].unknown) == (0, 1)
    assert result.summary.overall[0].net_m2 == pytest.approx(0, abs=result.summary.overall[0].net_sd_m2)


def test_a_date_that_lies_off_loses_no_ground(tmp_path):
    ponds = [STAYS, GROWS, GOES]
    pair = [write(tmp_path / "place_2009.tif", ponds), write(tmp_path / "place_2012.tif", ponds, (4, -4))]
    moved, left = (track(pair, align=align, **ASKED) for align in (True, False))
    assert moved.summary.shifts[0]["moved"]
    assert moved.summary.overall[0].gain_m2 < 0.02 * area_m2(*ponds)
    assert left.summary.overall[0].gain_m2 > 0.04 * area_m2(*ponds)
    assert set(moved.objects["became"]) == set(left.objects["became"]) == {"stable"}


def test_a_layer_keeps_its_ids(scenes, tmp_path):
    boxes = [shapely.box(LEFT + c * PIXEL_M, TOP - (r + h) * PIXEL_M, LEFT + (c + w) * PIXEL_M, TOP - r * PIXEL_M)
             for r, c, h, w in (STAYS, GROWS, GOES)]  # fmt: skip
    old = tmp_path / "old_2005.gpkg"
    gpd.GeoDataFrame({"osm_id": ["17", "18", "19"]}, geometry=boxes, crs=CRS).to_crs("EPSG:4326").to_file(old)
    objects = track([scenes[2]], layer=old, **ASKED).objects.set_index("track_id")
    assert objects.loc[["17", "18", "19"], "became"].tolist() == ["stable", "grown", "gone"]
    assert objects.drop(["17", "18", "19"])["became"].tolist() == ["new"]
    assert objects.loc["19", "first_seen"] == date(2005, 1, 1)


def test_a_layer_of_several_classes_must_name_them(scenes, tmp_path):
    old, wet = tmp_path / "old_2005.geojson", tmp_path / "wet.yaml"
    gpd.GeoDataFrame(geometry=[shapely.box(LEFT, TOP - 100, LEFT + 100, TOP)], crs=CRS).to_crs(4326).to_file(old)
    wet.write_text("name: wet\nlabel: wet\nclassifier: index:ndwi@0,20\nrefiner: none\nobjects: {kind: regions}\n")
    with pytest.raises(HybridsegError, match="no column class"):
        track([scenes[2]], layer=old, **{**ASKED, "theme": f"water,{wet}"})


def test_a_result_is_a_layer_for_the_next_year(made, scenes, tmp_path):
    new = write(tmp_path / "place_2020.tif", [STAYS, COMES])
    result = track([new], layer=made[1], **ASKED)
    ids = made[0].objects
    became = result.objects.set_index("track_id")["became"]
    assert became[at(ids, STAYS)["track_id"].item()] == "stable"
    assert became[at(ids, GROWS)["track_id"].item()] == "gone"
    assert at(ids, GOES)["track_id"].item() not in became


def test_the_command_line_says_what_changed(scenes, tmp_path, capsys):
    out = tmp_path / "ponds.gpkg"
    assert main(["track", *map(str, scenes), str(out), *FLAGS, "--json", "--progress", "none"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["became"] == {"stable": 1, "grown": 1, "gone": 1, "new": 1}
    assert said["overall"][0]["appeared"] == 1
    assert out.is_file()


def test_an_area_is_followed_alone(scenes):
    inside = shapely.box(LEFT + 100 * PIXEL_M, TOP - 80 * PIXEL_M, LEFT + 180 * PIXEL_M, TOP - 10 * PIXEL_M)
    result = track(scenes, aoi=gpd.GeoDataFrame(geometry=[inside], crs=CRS).to_crs("EPSG:4326"), **ASKED)
    assert result.objects["became"].tolist() == ["grown"]
    assert result.summary.overall[0].gain_m2 == pytest.approx(area_m2(GROWN) - area_m2(GROWS), rel=0.05)


def test_several_themes_are_one_result(scenes, tmp_path):
    wet = tmp_path / "wet.yaml"
    wet.write_text("name: wet\nlabel: wet\nclassifier: index:ndwi@0,20\nrefiner: none\nobjects: {kind: regions}\n")
    out = tmp_path / "both.gpkg"
    result = track(scenes, out, report=out.with_suffix(".html"), **{**ASKED, "theme": f"water,{wet}"})
    assert result.summary.theme == "water,wet"
    assert result.objects.groupby("class").size().to_dict() == {"water": 4, "wet": 4}
    assert result.objects["track_id"].is_unique
    assert [one.label for one in result.summary.overall] == ["water", "wet"]
    assert len(result.summary.intervals) == 2 * 2
    assert result.summary.overall[0].net_m2 == pytest.approx(result.summary.overall[1].net_m2, rel=0.05)
    assert len(gpd.read_file(out, layer="observations")) == 2 * 4 * 3
    assert "wet, with its standard error" in out.with_suffix(".html").read_text()
    assert [name for name, _ in result.summary.lines()].count("first to last") == 2


def test_a_folder_holds_the_dates(scenes):
    assert track([scenes[0].parent], **ASKED).summary.dates == ("2009-01-01", "2012-01-01", "2016-01-01")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scenes": 1}, "1 scene came; give two or more dates"),
        ({"dates": "2009,2009,2012"}, "have one date"),
        ({"dates": "2009,2012"}, "2 dates came with 3 scenes"),
        ({"out": "ponds.shp"}, "choose one of .gpkg"),
        ({"layer_date": "2001"}, "--layer-date came without --layer"),
        ({"aoi": "no.geojson"}, "no.geojson"),
        ({"theme": "water,water-ndwi"}, "look for one class"),
        ({"retry_failed": True}, "--retry-failed goes with --run"),
        ({"change": 0.7}, "change is 0.7; give a probability above 0, up to 0.5"),
    ],
)
def test_bad_input_is_one_line(scenes, tmp_path, change, words):
    asked = {**ASKED, **change}
    given = scenes[: asked.pop("scenes", 3)]
    out = tmp_path / asked.pop("out", "ponds.gpkg")
    with pytest.raises(HybridsegError, match=words) as caught:
        track(given, out, **asked)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_nothing_found_is_a_result(tmp_path):
    pair = [write(tmp_path / f"place_{year}.tif", []) for year in (2009, 2012)]
    result = track(pair, tmp_path / "none.gpkg", report=tmp_path / "none.html", **ASKED)
    assert len(result.objects) == len(result.observations) == len(result.changes) == 0
    assert result.summary.overall[0].net_m2 == 0
    assert len(gpd.read_file(tmp_path / "none.gpkg", layer="observations")) == 0


def test_inputs_are_not_written_over(made, scenes, tmp_path):
    _, kept = made
    layer, theme = tmp_path / "old.gpkg", tmp_path / "mine.yaml"
    shutil.copyfile(kept, layer)
    theme.write_text(load_theme("water").to_yaml())
    (tmp_path / "scene.gpkg").symlink_to(scenes[0])
    (tmp_path / "theme.gpkg").symlink_to(theme)
    (tmp_path / "page.html").symlink_to(layer)
    before = [path.read_bytes() for path in (layer, theme, *scenes)]
    for out, report in (("old.gpkg", None), ("scene.gpkg", None), ("theme.gpkg", None), ("new.gpkg", "page.html")):
        where = None if report is None else tmp_path / report
        with pytest.raises(HybridsegError, match="is one of the inputs"):
            track(scenes, tmp_path / out, theme=theme, layer=layer, report=where)
    assert [path.read_bytes() for path in (layer, theme, *scenes)] == before
    assert not (tmp_path / "new.gpkg").exists()

"""The store of edits: nothing is lost, nothing is written twice, the extraction is never touched."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely

from hybridseg.errors import OutputError, ReviewError
from hybridseg.read.opening import open_scene
from hybridseg.reviewing import geopackage
from hybridseg.reviewing.edits import Edits
from hybridseg.reviewing.given import objects_of
from hybridseg.reviewing.objects import OPEN, Action, Conflict, Object, Unknown, Verdict

CRS = "EPSG:32645"
FACTS = {"scene": "s", "map": "m"}


def square(x: float, y: float, side: float = 10.0) -> shapely.Polygon:
    return shapely.box(500_000 + x, 3_000_000 + y, 500_000 + x + side, 3_000_000 + y + side)


def five() -> list[Object]:
    return [
        Object(k + 1, f"building-{k}", "building", 0.5, 0.9, 0.9, 0.8, square(20 * k, 0), "refined") for k in range(5)
    ]


def records(objects: object) -> list[object]:
    """Plain values to compare by: NaN is not equal to itself."""
    return sorted((geopackage.to_record(one) for one in objects), key=lambda row: row["key"])


def replayed(edits: Edits) -> list[Object]:
    """What the record alone makes of the extraction's objects."""
    found = {one.key: one for one in five()}
    with sqlite3.connect(edits.path) as database:
        for (changes,) in database.execute("SELECT changes FROM actions ORDER BY seq"):
            for change in json.loads(changes):
                if (after := geopackage.from_record(change["after"])) is None:
                    del found[change["before"]["key"]]
                else:
                    found[after.key] = after
    return list(found.values())


@pytest.fixture
def edits(tmp_path: Path) -> Edits:
    return Edits.open(tmp_path / "edits.gpkg", five(), CRS, FACTS)


def act(edits: Edits, kind: str, *keys: int, **more: object) -> object:
    seen = {one.key: one.version for one in edits.get(keys)}
    return edits.act(Action(kind, **more), seen, "Ada")


def everything(edits: Edits) -> None:
    """One action of each kind, with undo and redo between them."""
    act(edits, "accept", 1)
    act(edits, "reject", 2)
    act(edits, "relabel", 1, label="shed")
    edits.undo(edits.head, "Ada")
    act(edits, "replace", 1, geometry=square(1, 1), origin="clicked")
    act(edits, "add", label="building", geometry=square(0, 50))
    act(edits, "split", 3, geometry=shapely.LineString([(500_045, 2_999_990), (500_045, 3_000_020)]))
    act(edits, "merge", 4, 5)
    edits.undo(edits.head, "Ada")
    edits.redo(edits.head, "Ada")
    act(edits, "delete", 6)


def test_each_action_does_what_it_says(edits: Edits):
    everything(edits)
    found = {one.key: one for one in edits.all()}
    assert {key: one.verdict for key, one in found.items()} == {
        1: "corrected", 2: "rejected", 3: "split", 4: "merged", 5: "merged", 6: "deleted",
        7: "corrected", 8: "corrected", 9: "corrected",
    }  # fmt: skip
    assert found[1].label == "building"  # the new class was undone
    assert found[1].origin == "clicked"
    assert found[1].geometry.equals(square(1, 1))
    halves = shapely.union_all([found[7].geometry, found[8].geometry])
    assert halves.equals(square(40, 0))
    assert found[7].parents == found[8].parents == ("building-2",)
    assert found[9].geometry.area == pytest.approx(200)
    assert found[9].parents == ("building-3", "building-4")
    assert found[9].who == "Ada"
    assert found[9].when.endswith("+00:00")


def test_what_is_on_the_map_is_found_by_place(edits: Edits):
    everything(edits)
    found, count = edits.within((499_990, 2_999_990, 500_500, 3_000_500), 100)
    assert count == len(found) == 4
    assert {one.key for one in found} == {1, 7, 8, 9}
    few, count = edits.within((499_990, 2_999_990, 500_500, 3_000_500), 1)
    assert count == 4
    assert [one.key for one in few] == [9]  # the largest
    assert edits.within((0, 0, 1, 1), 10) == ([], 0)


def test_the_record_replays_to_the_same_layer(edits: Edits):
    everything(edits)
    assert records(replayed(edits)) == records(edits.all())


def test_undo_and_redo_have_no_limit(edits: Edits):
    begun = records(edits.all())
    everything(edits)
    done = records(edits.all())
    steps = 7  # of eight, the relabel was undone for good: another action came after it
    for _ in range(steps):
        edits.undo(edits.head, "Ada")
    with pytest.raises(ReviewError, match="nothing to undo"):
        edits.undo(edits.head, "Ada")
    assert records(edits.all()) == begun
    for _ in range(steps):
        edits.redo(edits.head, "Ada")
    assert records(edits.all()) == done
    assert records(replayed(edits)) == done


def test_undo_outlasts_the_process(edits: Edits):
    everything(edits)
    before = records(edits.all())
    edits.close()
    again = Edits.open(edits.path, five(), CRS, FACTS)
    assert records(again.all()) == before
    again.undo(again.head, "Grace")
    assert again.get([6])[0].verdict == "added"


def test_keys_are_never_used_again(edits: Edits):
    done = act(edits, "add", label="building", geometry=square(0, 50))
    edits.undo(edits.head, "Ada")
    with pytest.raises(Unknown, match="no object 6"):
        edits.get([6])
    assert done.changed[0].key == 6
    assert act(edits, "add", label="building", geometry=square(0, 50)).changed[0].key == 7


def test_a_stale_version_is_refused_and_changes_nothing(edits: Edits):
    act(edits, "accept", 1)
    before = records(edits.all())
    with pytest.raises(Conflict, match="changed elsewhere"):
        edits.act(Action("reject"), {1: 0}, "Grace")
    with pytest.raises(Conflict, match="before you undo"):
        edits.undo(0, "Grace")
    assert records(edits.all()) == before
    assert edits.head == 1


def test_two_processes_see_each_other(edits: Edits):
    other = Edits.open(edits.path, five(), CRS, FACTS)
    act(edits, "accept", 1)
    with pytest.raises(Conflict):
        other.act(Action("reject"), {1: 0}, "Grace")
    assert [one.key for one in other.since(0, 10)] == [1]
    act(other, "reject", 2)
    edits.undo(edits.head, "Ada")  # the other's, which both know of
    assert edits.get([2])[0].verdict == "unseen"


@pytest.mark.parametrize(
    ("kind", "keys", "more", "said"),
    [
        ("accept", (1, 2), {}, "1 objects at a time, got 2"),
        ("merge", (1,), {}, "2 to 50"),
        ("add", (), {"label": "building"}, "needs an outline"),
        ("add", (), {"geometry": square(0, 0)}, "needs a class"),
        ("relabel", (1,), {}, "needs a class"),
        ("split", (1,), {"geometry": square(0, 0)}, "needs a line"),
        ("split", (1,), {"geometry": shapely.LineString([(0, 0), (1, 1)])}, "does not cut"),
        ("replace", (1,), {"geometry": shapely.Polygon([(0, 0), (1, 1), (2, 2), (0, 0)])}, "covers no ground"),
        ("accept", (9,), {}, "no object 9"),
    ],
)
def test_what_makes_no_sense_is_refused(edits: Edits, kind: str, keys: tuple[int, ...], more: dict, said: str):
    with pytest.raises(ReviewError, match=said):
        edits.act(Action(kind, **more), dict.fromkeys(keys, 0), "Ada")
    assert edits.head == 0


def test_what_is_gone_cannot_be_decided_again(edits: Edits):
    act(edits, "reject", 1)
    with pytest.raises(ReviewError, match="not on the map any more"):
        act(edits, "accept", 1)


def test_a_bow_tie_is_repaired(edits: Edits):
    crossed = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10), (0, 0)])
    done = act(edits, "add", label="building", geometry=crossed)
    assert done.changed[0].geometry.is_valid
    assert done.changed[0].geometry.area == pytest.approx(50)


def test_other_programs_read_the_file(edits: Edits):
    everything(edits)
    edits.close()
    rows = pyogrio.read_dataframe(edits.path, layer="objects")
    assert rows.crs == CRS
    assert rows.geometry.is_valid.all()
    assert rows.set_index("id").loc["building-1", "verdict"] == "rejected"
    near = pyogrio.read_dataframe(edits.path, layer="objects", bbox=square(1, 1).bounds)
    assert "building-0" in set(near["id"])
    with sqlite3.connect(edits.path) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("SELECT kind, who FROM actions ORDER BY seq").fetchone() == ("accept", "Ada")


def test_the_file_has_a_style_for_qgis_that_tells_verdicts_apart(edits: Edits):
    act(edits, "accept", 1)
    with closing(sqlite3.connect(edits.path)) as database:
        ((layer, column, style, default),) = database.execute(
            "SELECT f_table_name, f_geometry_column, styleQML, useAsDefault FROM layer_styles"
        )
        assert database.execute("PRAGMA user_version").fetchone() == (10300,)
    assert (layer, column, default) == ("objects", "geom", 1)
    filters = {rule.get("filter") for rule in ET.fromstring(style).iter("rule")}
    told = {f"\"verdict\" = '{verdict}'" for verdict in get_args(Verdict)}
    assert filters - told == {"ELSE"}
    assert {f"\"verdict\" = '{verdict}'" for verdict in (*OPEN, "rejected", "deleted")} == filters & told


def test_a_review_of_something_else_is_refused(edits: Edits, tmp_path: Path):
    with pytest.raises(ReviewError, match="another map"):
        Edits.open(edits.path, five(), CRS, {**FACTS, "map": "other"})
    other = tmp_path / "other.gpkg"
    pyogrio.write_dataframe(pyogrio.read_dataframe(edits.path, layer="objects"), other)
    with pytest.raises(ReviewError, match="no review"):
        Edits(other)
    other.write_bytes(b"no database")
    with pytest.raises(ReviewError, match="cannot be opened"):
        Edits(other)
    with pytest.raises(OutputError, match=r"choose one of \.gpkg"):
        Edits.open(tmp_path / "edits.txt", five(), CRS, FACTS)


def test_any_layer_of_polygons_can_be_reviewed(tmp_path: Path):
    layer = gpd.GeoDataFrame({"name": ["a", "b"]}, geometry=[square(0, 0), square(20, 0)], crs=CRS)
    found = objects_of(layer, CRS, "building")
    assert [(one.id, one.label, one.origin) for one in found] == [
        ("building-1", "building", "given"), ("building-2", "building", "given"),
    ]  # fmt: skip
    assert np.isnan(found[0].score)
    twice = layer.assign(id=["x", "x"])
    assert [one.id for one in objects_of(twice, CRS, "building")] == ["x", "x#2"]
    thrice = gpd.GeoDataFrame({"id": ["x", "x", "x#2"]}, geometry=[square(k, 0) for k in (0, 20, 40)], crs=CRS)
    assert [one.id for one in objects_of(thrice, CRS, "building")] == ["x", "x#3", "x#2"]
    with pytest.raises(ReviewError, match="cannot review"):
        objects_of(tmp_path / "none.gpkg", CRS, "building")


def test_objects_without_class_or_id_get_one():
    columns = {"class": [None, "shed"], "id": ["a", None], "origin": [None, "x"]}
    layer = gpd.GeoDataFrame(columns, geometry=[square(0, 0), square(20, 0)], crs=CRS)
    found = [(one.label, one.id, one.origin) for one in objects_of(layer, CRS, "building")]
    assert found == [("building", "a", "given"), ("shed", "building-2", "x")]


def test_killed_between_any_two_actions_at_most_the_one_under_way_is_lost(tmp_path: Path):
    """SIGKILL at 20 moments: what was answered is there, the file is whole, and the record replays to it."""
    rng = random.Random(0)
    for moment in range(20):
        path = tmp_path / f"{moment}.gpkg"
        Edits.open(path, five(), CRS, FACTS).close()
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:  # no return from here
            try:
                edits = Edits(path)
                for number in range(10_000):
                    act(edits, "add", label="building", geometry=square(number, 100))
                    os.write(theirs, b".")
            finally:
                os._exit(1)
        os.close(theirs)
        first = os.read(ours, 1)  # it has begun
        time.sleep(rng.uniform(0, 0.08))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        answered = len(first)
        while more := os.read(ours, 65536):
            answered += len(more)
        os.close(ours)
        edits = Edits(path)
        assert answered <= edits.head <= answered + 1
        assert len(edits.all()) == 5 + edits.head
        assert records(replayed(edits)) == records(edits.all())
        edits.close()
        with sqlite3.connect(path) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_extraction_is_never_touched(town: tuple[Path, Path], tmp_path: Path):
    from hybridseg.reviewing.desk import Desk

    before = hashlib.sha256(town[1].read_bytes()).hexdigest()
    desk = Desk.open(*town, edits=tmp_path / "edits.gpkg", device="cpu")
    act(desk.edits, "reject", 1)
    desk.export(tmp_path / "out.gpkg")
    with pytest.raises(OutputError, match="one of the inputs"):
        desk.export(town[1])
    desk.close()
    assert hashlib.sha256(town[1].read_bytes()).hexdigest() == before
    with pytest.raises(OutputError, match="one of the inputs"):
        Desk.open(*town, edits=town[1])


def test_a_file_that_is_no_review_stays_as_it_was(town: tuple[Path, Path], tmp_path: Path):
    from hybridseg.reviewing.desk import Desk

    other = tmp_path / "other.gpkg"
    other.write_bytes(town[1].read_bytes())
    with pytest.raises(ReviewError, match="no review"):
        Desk.open(*town, edits=other)
    assert other.read_bytes() == town[1].read_bytes()


def test_the_export_of_a_review_is_reviewed_as_the_map_was(town: tuple[Path, Path], tmp_path: Path):
    from hybridseg.reviewing.desk import Desk

    drawn = shapely.box(*open_scene(town[0]).geobox.boundingbox.bbox).centroid.buffer(5)
    found = town[1]
    for turn in range(2):
        desk = Desk.open(town[0], found, edits=tmp_path / f"{turn}.gpkg", device="cpu")
        for _ in range(2):
            desk.edits.act(Action("add", "building", drawn), {}, "Ada")
        found = tmp_path / f"out{turn}.gpkg"
        count = desk.export(found)
        desk.close()
    assert gpd.read_file(found, layer="out1")["id"].nunique() == count == len(gpd.read_file(town[1], layer="map")) + 4


def test_a_review_of_a_folder_of_tiles_opens_again(town: tuple[Path, Path], tmp_path: Path):
    from hybridseg.reviewing.desk import Desk

    for path in town:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for _ in range(2):
        Desk.open(tmp_path, tmp_path / town[1].name, device="cpu").close()
    with pytest.raises(ReviewError, match="--edits"):
        Desk.open(f"{tmp_path}/*.tif", device="cpu")

"""Improve and propose: decisions stand, only what nobody decided on changes, and undo takes all of it back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from hybridseg.errors import ReviewError
from hybridseg.reviewing import improve, lesson, objects, order, teaching
from hybridseg.reviewing.desk import Desk
from hybridseg.reviewing.lesson import LEAST, Lesson
from hybridseg.run.extract import extract
from hybridseg.write.result import read_result
from tests.reviewing.conftest import Client
from tests.reviewing.test_edits import records


@pytest.fixture(scope="module")
def mapped(town: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map that the classifier made: some objects are right, some lack."""
    out = tmp_path_factory.mktemp("mapped") / "map.gpkg"
    extract(str(town[0]), str(out), theme="buildings", device="cpu")
    return out


@pytest.fixture
def real(town: tuple[Path, Path], mapped: Path, tmp_path: Path) -> Iterator[Desk]:
    """A review of a map that lacks each fourth object."""
    rows = gpd.read_file(mapped, layer="map")
    rows = rows[np.arange(len(rows)) % 4 > 0].reset_index(drop=True)
    rows.to_file(tmp_path / "lacking.gpkg")
    edits = tmp_path / "edits.gpkg"
    with Desk.open(
        town[0], tmp_path / "lacking.gpkg", theme="buildings", edits=edits, who="Ada", device="cpu"
    ) as opened:
        yield opened


def decide(desk: Desk, count: int) -> list[int]:
    """Accept so many of the queue, but reject each fifth."""
    keys = list(desk.order.keys[:count])
    for number, key in enumerate(keys):
        desk.decide("reject" if number % 5 == 4 else "accept", key)
    return keys


def test_too_few_decisions_teach_nothing(real: Desk):
    decide(real, LEAST - 1)
    with pytest.raises(ReviewError, match="too few to learn from"):
        real.teaching.improve()
    with pytest.raises(ReviewError, match="too few to learn from"):
        real.teaching.begin("improve")
    assert real.teaching.job is None


def test_decisions_survive_an_improvement_and_undo_takes_it_back(real: Desk):
    decided = decide(real, LEAST)
    before, stood = records(real.edits.all()), records(real.edits.get(decided))
    found = real.teaching.improve()
    assert records(real.edits.all()) == before  # it only looked
    assert found.new  # what the map lacks
    done = real.teaching.agree(found, "Ada")
    assert len(done.changed) == len(found.changes)
    assert records(real.edits.get(decided)) == stood
    there = np.array([one.geometry for one in real.edits.all() if one.present and not one.decided], dtype=object)
    rejected = [one.geometry for one in real.edits.get(decided) if one.verdict == "rejected"]
    assert not improve.covered(np.array(rejected, dtype=object), there).any()  # they do not come back
    assert real.audit.precision().seen <= LEAST  # what went was not decided by anybody
    real.edits.undo(real.edits.head, "Ada")
    assert records(real.edits.all()) == before


def test_the_model_of_an_improvement_can_be_used_elsewhere(real: Desk, town: tuple[Path, Path], tmp_path: Path):
    decide(real, LEAST)
    real.teaching.agree(real.teaching.improve(), "Ada")
    made = extract(str(town[0]), str(tmp_path / "again.gpkg"), model=str(real.teaching.folder), device="cpu")
    assert made.summary.features > 0
    assert real.teaching.folder == tmp_path / "edits.model"


def test_what_is_decided_while_the_machine_looks_stays(real: Desk):
    nothing = improve.Improvement((), 0)
    open_ = [one for one in real.edits.all() if not one.decided][:3]
    gone = tuple((one, replace(one, verdict="withdrawn")) for one in open_)
    fresh = replace(open_[0], key=0, id="new", geometry=open_[0].geometry.buffer(0.1))
    found = replace(nothing, changes=(*gone, (None, fresh)))
    real.decide("accept", open_[0].key)
    real.teaching.agree(found, "Ada")
    assert [one.verdict for one in real.edits.get([one.key for one in open_])] == ["accepted", "withdrawn", "withdrawn"]
    assert "new" not in [one.id for one in real.edits.all()]  # it is the one that was accepted
    with pytest.raises(ReviewError, match="not on the map"):
        real.decide("accept", open_[1].key)


def test_new_objects_join_the_queue_most_doubtful_first(real: Desk):
    one = real.edits.all()[0]
    far = [shapely.affinity.translate(one.geometry, 1000 * k) for k in (1, 2, 3)]
    made = [replace(one, key=0, id=f"n{k}", geometry=g, agreement=a) for k, (g, a) in enumerate(zip(far, (0.9, 0.2, 0.5), strict=True))]  # fmt: skip # noqa: E501
    length = len(real.line)
    real.teaching.agree(improve.Improvement(tuple((None, new) for new in made), 0), "Ada")
    places = real.queue(length, 1, 5, undecided=True)
    assert [(position, new.id) for position, new in places] == [(length, "n1"), (length + 1, "n2"), (length + 2, "n0")]
    again = type(real.edits)(real.edits.path)
    real.edits.undo(real.edits.head, "Ada")
    assert real.queue(length, 1, 5, undecided=True) == []
    again.redo(again.head, "Ada")
    again.close()
    assert [new.id for _, new in real.queue(length, 1, 5)] == ["n1", "n2", "n0"]


def test_ids_stay_apart(real: Desk):
    one = real.edits.all()[0]
    made = [replace(one, key=0, geometry=shapely.affinity.translate(one.geometry, 1000 * k)) for k in (1, 2)]
    real.teaching.agree(improve.Improvement(tuple((None, new) for new in made), 0), "Ada")
    names = [found.id for found in real.edits.all()]
    assert len(set(names)) == len(names)


def test_of_two_who_agree_at_once_one_is_told(real: Desk):
    real.teaching._job = teaching.Job("propose", "building", found=improve.Improvement((), 0))
    real.teaching.take()
    with pytest.raises(ReviewError, match="nothing was found yet"):
        real.teaching.take()


def test_a_model_goes_with_its_own_improvement(real: Desk):
    decide(real, LEAST)
    real.teaching.improve()
    real.teaching.agree(improve.Improvement((), 0), "Ada")
    assert not real.teaching.folder.exists()


def test_what_is_missing_is_proposed_and_added_when_accepted(town: tuple[Path, Path], mapped: Path, tmp_path: Path):
    rows = gpd.read_file(mapped, layer="map")
    rows.iloc[::2].to_file(tmp_path / "half.gpkg")
    with Desk.open(town[0], tmp_path / "half.gpkg", theme="buildings", device="cpu") as desk:
        found = desk.teaching.propose()
        lacking = rows.iloc[1::2].geometry.to_numpy()
        proposed = np.array([one.geometry for one in found.new if not one.parents], dtype=object)
        assert improve.covered(lacking, proposed).mean() > 0.9
        assert not improve.covered(proposed, rows.iloc[::2].geometry.to_numpy()).any()
        regrouped = [one for one in found.new if one.parents]  # a union, or parts: in the place of what is there
        assert {name for one in regrouped for name in one.parents} <= set(rows["id"].iloc[::2])
        desk.teaching.agree(found, "Ada", "propose")
        kept = desk.export(tmp_path / "out.gpkg")
        assert kept == len(rows.iloc[::2])  # a proposal is not on the map
        (_, first), (_, second) = desk.queue(len(desk.order), 1, 2, undecided=True)
        desk.decide("accept", first.key)
        desk.decide("reject", second.key)
        assert [one.verdict for one in desk.edits.get([first.key, second.key])] == ["added", "rejected"]
        assert desk.export(tmp_path / "out.gpkg") == kept + 1
        assert read_result(tmp_path / "out.gpkg")["verdict"].tolist().count("added") == 1
        assert desk.teaching.propose().changes == ()  # nothing is proposed twice, nor what was rejected


def test_rejected_ground_is_none_and_undecided_ground_is_unknown(real: Desk):
    keys = decide(real, LEAST)
    taught = Lesson.of(real.edits.all(), "building", real.scene)
    assert len(taught.places) == LEAST
    assert taught.false == sum(number % 5 == 4 for number in range(LEAST))
    rejected = [one.geometry for one in real.edits.get(keys) if one.verdict == "rejected"]
    assert not shapely.union_all(taught.objects).intersects(rejected[0].centroid)
    assert shapely.union_all(taught.places).buffer(1e-6).covers(shapely.union_all(rejected))
    open_ = shapely.union_all(taught.presumed).difference(shapely.union_all([*taught.objects, *rejected]))
    assert shapely.union_all(taught.places).intersection(open_).area < 0.01 * open_.area


def test_regions_are_not_found_anew(town: tuple[Path, Path], tmp_path: Path):
    with Desk.open(town[0], edits=tmp_path / "water.gpkg", theme="water", device="cpu") as desk:
        with pytest.raises(ReviewError, match="finds regions"):
            desk.teaching.improve()
        assert desk.teaching.labels == ()
        with pytest.raises(ReviewError, match="no theme of this review finds class hut"):
            desk.teaching.propose("hut")


def test_over_http(client: Client, desk: Desk):
    assert client.get("/api/improve") == (200, {"state": "none"})
    assert client.post("/api/improve/agree", None)[0] == 422
    assert client.post("/api/improve", {"kind": "improve"})[0] == 422  # nothing is decided
    assert client.post("/api/improve", {"kind": "guess"})[0] == 422
    decide(desk, LEAST)
    status, begun = client.post("/api/improve", {"kind": "improve", "class": "building"})
    assert (status, begun["state"]) == (200, "running")
    status, refused = client.post("/api/improve", {"kind": "propose"})
    assert status == 422
    assert "under way" in refused["error"]
    end = time.monotonic() + 200
    while (job := client.get("/api/improve")[1])["state"] == "running":
        assert time.monotonic() < end
        time.sleep(0.1)
    assert job["state"] == "ready", job
    assert len(job["features"]) == job["new"] + job["gone"] + job["changed"]
    status, done = client.post("/api/improve/agree", None)
    assert status == 200
    assert done["head"] == desk.edits.head == LEAST + 1
    assert client.get("/api/improve")[1] == {"state": "none"}
    undone = client.post("/api/undo", {"head": done["head"]})
    assert undone[0] == 200
    assert desk.edits.counts()["unseen"] == len(desk.before) - LEAST


def test_a_fault_in_the_background_is_told_and_leaves_the_server(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(improve, "missing", broken)
    monkeypatch.setattr("hybridseg.reviewing.teaching.missing", broken)
    desk.teaching.begin("propose")
    end = time.monotonic() + 100
    while (job := desk.teaching.job) is not None and job.found is None and not job.error:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert job is not None
    assert "no memory" in job.error
    desk.teaching.begin("propose")  # another try may begin


def test_progress_reads_only_what_changed(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    for key in desk.order.drawn[:5]:
        desk.decide("accept", key)
    assert desk.audit.precision().seen == 5
    asked: list[int] = []
    monkeypatch.setattr(desk.edits, "get", lambda keys, get=desk.edits.get: (asked.extend(keys), get(keys))[1])
    assert desk.audit.precision().seen == 5
    assert asked == []


def test_the_estimate_counts_the_random_order_up_to_the_first_that_is_not_decided(desk: Desk):
    first, second, third, fourth = desk.order.drawn[:4]
    desk.decide("accept", fourth)
    assert desk.audit.precision() == order.Estimate(0, 0, 0.0, 1.0)
    desk.decide("accept", first)
    desk.decide("reject", second)
    assert (desk.audit.precision().right, desk.audit.precision().seen) == (1, 2)
    desk.edits.undo(desk.edits.head, "Ada")
    assert (desk.audit.precision().right, desk.audit.precision().seen) == (1, 1)
    (one,) = desk.edits.get([second])
    desk.edits.change("improve", [(one, replace(one, verdict="withdrawn"))], "Ada")
    assert desk.audit.precision().seen == 1  # nobody decided on it
    assert third in objects_open(desk)


def objects_open(desk: Desk) -> set[int]:
    return {one.key for one in desk.edits.all() if one.verdict in objects.MACHINE}


def test_a_refused_action_does_not_read_the_record_again(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    desk.decide("accept", 1)
    reads: list[int] = []
    catch_up = desk.edits._catch_up
    monkeypatch.setattr(desk.edits, "_catch_up", lambda: (reads.append(desk.edits._read_to), catch_up())[1])
    with pytest.raises(objects.Conflict):
        desk.edits.act(objects.Action("accept"), {1: 0}, "Ada")
    assert reads == [1]  # before it is tried, from where it was


def test_the_tile_size_does_not_lose_decisions(real: Desk, monkeypatch: pytest.MonkeyPatch):
    decide(real, LEAST)
    taught = Lesson.of(real.edits.all(), "building", real.scene)
    theme = real.themes[0]
    for side in (64, 512):
        monkeypatch.setattr(lesson, "TILE_PX", side)
        made = lesson.teach(taught, real.scene, theme, "cpu")
        assert made.card["objects"]["building"] == len(taught.objects)

"""Proposed unions and parts: what they would replace goes when a person accepts them, and comes back by undo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from hybridseg.reviewing import improve
from hybridseg.reviewing.desk import Desk
from hybridseg.reviewing.objects import Object
from hybridseg.run.extract import extract
from hybridseg.run.survey import Survey
from tests.reviewing.conftest import Client
from tests.reviewing.test_edits import records


@pytest.fixture(scope="module")
def regrouped_map(town: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map whose two largest objects are cut in two, and of which two neighbours are one."""
    folder = tmp_path_factory.mktemp("regrouped")
    rows = extract(str(town[0]), theme="buildings", device="cpu").features
    rows = rows.sort_values("area_m2", ascending=False, ignore_index=True)
    halves = []
    for number in (0, 1):
        left, bottom, right, top = rows.geometry[number].bounds
        middle = (left + right) / 2
        for side, box in enumerate((shapely.box(left, bottom, middle, top), shapely.box(middle, bottom, right, top))):
            half = shapely.get_parts(rows.geometry[number].intersection(box))
            one = rows.iloc[[number]].assign(id=f"half-{number}-{side}")
            halves.append(one.set_geometry(gpd.GeoSeries([half[shapely.area(half).argmax()]], one.index, rows.crs)))
    others = rows.iloc[2:].reset_index(drop=True)
    apart = shapely.distance(others.geometry.to_numpy()[:, None], others.geometry.to_numpy()[None])
    np.fill_diagonal(apart, np.inf)
    one, other = np.unravel_index(apart.argmin(), apart.shape)
    pair = others.geometry.iloc[[one, other]].union_all().convex_hull
    whole = others.iloc[[one]].assign(id="pair").set_geometry(gpd.GeoSeries([pair], others.index[[one]], rows.crs))
    made = gpd.GeoDataFrame(pd.concat([*halves, whole, others.drop(index=[one, other])], ignore_index=True))
    made.to_file(folder / "map.gpkg")
    return folder / "map.gpkg"


@pytest.fixture
def desk(town: tuple[Path, Path], regrouped_map: Path, tmp_path: Path) -> Iterator[Desk]:
    edits = tmp_path / "edits.gpkg"
    with Desk.open(town[0], regrouped_map, theme="buildings", edits=edits, who="Ada", device="cpu") as opened:
        yield opened


def proposals(desk: Desk) -> dict[frozenset[str], list[Object]]:
    """Search, agree, and return what is proposed in the place of other objects, by these."""
    desk.teaching.agree(desk.teaching.propose(), "Ada", "propose")
    found: dict[frozenset[str], list[Object]] = {}
    for one in desk.edits.all():
        if one.verdict == "proposed" and one.parents:
            found.setdefault(frozenset(one.parents), []).append(one)
    return found


def verdicts(desk: Desk, names: frozenset[str]) -> set[str]:
    return {one.verdict for one in desk.edits.named(names)}


def test_halves_are_proposed_as_one_and_go_when_it_is_accepted(desk: Desk):
    halves = [frozenset({f"half-{number}-0", f"half-{number}-1"}) for number in (0, 1)]
    found = proposals(desk)
    names = next(names for names in halves if names in found)
    (whole,) = found[names]
    before = records(desk.edits.all())
    desk.decide("accept", whole.key)
    assert verdicts(desk, names) == {"merged"}
    assert desk.edits.get([whole.key])[0].verdict == "added"
    desk.edits.undo(desk.edits.head, "Ada")
    assert records(desk.edits.all()) == before


def test_the_heatmap_is_loaded_once_for_a_search(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    loaded, load = [], Survey.heatmap
    monkeypatch.setattr(Survey, "heatmap", lambda survey: loaded.append(1) or load(survey))
    desk.teaching.propose()
    assert len(loaded) == 1


def test_the_page_is_told_what_a_proposal_would_take_the_place_of(desk: Desk, client: Client):
    for names, ones in proposals(desk).items():
        status, told = client.get(f"/api/objects/{ones[0].key}/parents")
        assert status == 200
        assert {one["properties"]["id"] for one in told["objects"]} == names
        assert client.get(f"/api/objects/{told['objects'][0]['id']}/parents")[1] == {"objects": []}


def test_the_parts_of_a_pair_are_proposed_and_the_first_that_is_accepted_takes_it_away(desk: Desk):
    found = proposals(desk)
    first, second, *_ = found[frozenset({"pair"})]
    desk.decide("accept", first.key)
    assert verdicts(desk, frozenset({"pair"})) == {"split"}
    desk.decide("accept", second.key)
    assert {one.verdict for one in desk.edits.get([first.key, second.key])} == {"added"}


def test_the_parts_of_one_follow_each_other_in_the_queue(desk: Desk):
    one = next(iter(desk.before.values()))
    given = [("a", ("pair",), 0.1), ("b", (), 0.3), ("c", ("pair",), 0.6), ("d", ("x", "y"), 0.8)]
    made = [
        replace(one, key=0, id=name, parents=parents, agreement=agreement, verdict="proposed")
        for name, parents, agreement in reversed(given)
    ]
    done = desk.teaching.agree(improve.Improvement(tuple((None, new) for new in made), 0), "Ada", "propose")
    assert [new.id for new in done.changed] == ["a", "c", "b", "d"]


def test_what_was_rejected_leaves_the_objects_and_is_not_proposed_again(desk: Desk):
    found = proposals(desk)
    for ones in found.values():
        for one in ones:
            desk.decide("reject", one.key)
    assert all(verdicts(desk, names) == {"unseen"} for names in found)
    assert {one.verdict for one in desk.edits.all() if one.parents} == {"declined"}
    again = desk.teaching.propose()
    assert not [one for one in again.new if one.parents]


def test_what_somebody_decided_on_is_not_regrouped(desk: Desk):
    for one in desk.edits.all():
        desk.decide("accept", one.key)
    assert not [one for one in desk.teaching.propose().new if one.parents]


def test_a_declined_grouping_says_nothing_of_its_ground(desk: Desk):
    survey = Survey.open(desk.scene, desk.themes[0], "sam2-lite", "cpu")
    before = improve.found_anew(desk.edits.all(), survey)
    for ones in proposals(desk).values():
        for one in ones:
            desk.decide("reject", one.key)
    known = [one for one in desk.edits.all() if one.verdict != "proposed"]
    after = improve.found_anew(known, survey)
    assert [one.id for one in after.gone] == [one.id for one in before.gone]
    assert [one.id for one in after.new] == [one.id for one in before.new]

"""Recall from squares of ground, drafts of the heatmap, and what a filter lets through."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from hybridseg.errors import ReviewError
from hybridseg.reviewing.desk import Desk
from hybridseg.reviewing.order import Recall
from hybridseg.reviewing.records import Filter
from tests.reviewing.conftest import Client

SAMPLES = [(60, 40, 400), (30, 10, 400), (100, 100, 200)]
"""Objects and squares that are looked at, and all squares."""


def _covered(precision: float, hidden: float, rate: float, clumps: int, sample: tuple[int, int, int]) -> float:
    """Share of 400 reviews of maps of 800 objects whose interval holds the truth."""
    rng, hits, (objects, looked, squares) = np.random.default_rng(1), 0, sample
    for _ in range(400):
        right = rng.random(800) < precision
        behind = np.where(right, 1.0, rng.random(800) < hidden)
        missing = clumps * rng.poisson(rate / clumps, squares).astype(float)
        truth = right.sum() / (behind.sum() + missing.sum())
        found = Recall.of(right[:objects], behind[:objects], 800, missing[:looked], squares)
        hits += found.low <= truth <= found.high
    return hits / 400


def test_the_interval_of_recall_holds_the_truth_as_often_as_it_says():
    """Missing objects one by one or in threes, many or few; in large and small samples, of little or half of all."""
    towns = [(0.9, 0.5, 0.05, 1), (0.9, 0.5, 0.3, 3), (0.6, 0.5, 1.0, 1), (0.9, 0.5, 1.0, 3)]
    shares = np.array([[_covered(*town, sample) for sample in SAMPLES] for town in towns])
    assert shares.min() >= 0.93
    assert 0.945 <= shares.mean() <= 0.975


def test_recall_says_nothing_without_a_sample_and_is_exact_when_all_was_seen():
    nothing = Recall.of(np.zeros(0, bool), np.zeros(0), 50, np.zeros(3), 10)
    assert (nothing.share, nothing.low, nothing.high) == (None, 0.0, 1.0)
    right = np.array([True] * 8 + [False] * 2)
    whole = Recall.of(right, np.array([1.0] * 8 + [1.0, 0.0]), 10, np.array([1.0, 0.0]), 2)
    assert whole.share == whole.low == whole.high == pytest.approx(0.8)
    few = Recall.of(np.ones(5, bool), np.ones(5), 100, np.zeros(2), 50)
    assert few.share == 1.0
    assert few.low < 0.9  # that nothing was missing in two squares proves little


def _middle(desk: Desk, square: str) -> shapely.Polygon:
    """A building in the middle of a square, as one that the map lacks."""
    window = desk.audit.window(square)
    x, y = desk.scene.geobox.affine @ (window.col + window.width / 2, window.row + window.height / 2)
    return shapely.box(x - 0.4, y - 0.4, x + 0.4, y + 0.4)


def test_what_is_added_in_a_square_counts_as_missing_once_the_square_is_looked_over(client: Client, desk: Desk):
    for key in desk.order.drawn[:10]:
        desk.decide("accept", key)
    assert desk.audit.recall().share is None
    _, drawn = client.get("/api/square")
    assert drawn["square"] == desk.audit.squares[0]
    assert shapely.geometry.shape(drawn["geometry"]).area == pytest.approx((224 * 0.3) ** 2, rel=1e-6)
    desk.decide("add", label="building", geometry=_middle(desk, drawn["square"]))
    assert desk.audit.recall().missing == 0  # not looked over yet
    status, then = client.post("/api/square", {"square": drawn["square"]})
    assert status == 200
    assert then["square"] == desk.audit.next() != drawn["square"]
    found = client.get("/api/progress")[1]["audit"]["recall"]
    assert (found["squares"], found["missing"]) == (1, 1)
    count, squares = len(desk.before), len(desk.audit.squares)
    assert found["share"] == pytest.approx(count / (count + squares))
    assert found["low"] < found["share"] < found["high"]
    assert client.post("/api/square", {"square": drawn["square"]})[0] == 422  # done already
    assert client.post("/api/square", {"square": desk.audit.squares[-1]})[0] == 422  # whoever chooses is no chance
    client.post("/api/undo", {"head": then["head"]})
    assert desk.audit.next() == drawn["square"]
    assert desk.audit.recall().squares == 0


def test_an_object_that_the_map_had_is_not_missing_though_it_was_drawn_anew(desk: Desk):
    square = desk.audit.next()
    assert square is not None
    desk.edits.look(square, "Ada")
    inside = next(one for one in desk.before.values() if desk.audit._place(one) in desk.audit.squares[:1])
    desk.decide("delete", inside.key)
    desk.decide("add", label=inside.label, geometry=inside.geometry)
    assert desk.audit.recall().missing == 0


def test_a_square_with_undecided_proposals_is_not_looked_over(desk: Desk):
    from dataclasses import replace

    square = desk.audit.next()
    assert square is not None
    one = next(iter(desk.before.values()))
    new = replace(one, key=0, id="new", geometry=_middle(desk, square), verdict="proposed")
    desk.edits.change("propose", [(None, new)], "Ada")
    with pytest.raises(ReviewError, match="not decided"):
        desk.audit.look(square, "Ada")


def test_a_split_object_hides_as_many_as_it_was_split_into(desk: Desk):
    key = desk.order.drawn[0]
    left, bottom, right, top = desk.before[key].geometry.bounds
    y = (bottom + top) / 2
    desk.decide("split", key, geometry=shapely.LineString([(left - 1, y), (right + 1, y)]))
    square = desk.audit.next()
    assert square is not None
    desk.audit.look(square, "Ada")
    assert desk.audit.recall().share == 0.0
    assert desk.audit.precision().right == 0


# --- filters ----------------------------------------------------------------------------------------------------------


def test_the_queue_walks_only_what_the_filter_leaves(client: Client, desk: Desk):
    middle = float(np.median([one.score for one in desk.before.values()]))
    fitting = {key for key, one in desk.before.items() if one.score >= middle and one.geometry.area <= 60}
    assert 1 < len(fitting) < len(desk.before) / 2 + 1
    path = f"/api/queue?count=50&least_score={middle}&most_m2=60"
    _, found = client.get(path)
    keys = [place["object"]["id"] for place in found["places"]]
    assert set(keys) == fitting
    assert keys == [key for key in desk.line if key in fitting]  # in the queue's own order
    assert found["matching"] == {"count": len(fitting), "left": len(fitting)}
    desk.decide("accept", keys[0])
    _, then = client.get(path)
    assert [place["object"]["id"] for place in then["places"]] == keys[1:]
    assert then["matching"] == {"count": len(fitting), "left": len(fitting) - 1}
    _, accepted = client.get("/api/queue?verdict=accepted&undecided=false")
    assert [place["object"]["id"] for place in accepted["places"]] == keys[:1]
    _, before = client.get(
        f"/api/queue?position={found['places'][1]['position'] - 1}&back=true&least_score={middle}&most_m2=60"
    )
    assert before["places"][0]["object"]["id"] == keys[0]


def test_a_filter_of_place_class_and_origin(desk: Desk):
    one = next(iter(desk.before.values()))
    here = desk.matching(Filter(extent=one.geometry.bounds))
    assert here.keys() == {k for k, o in desk.before.items() if shapely.box(*o.geometry.bounds).intersects(shapely.box(*one.geometry.bounds))}  # fmt: skip # noqa: E501
    assert desk.matching(Filter(label="shed")) == desk.matching(Filter(origin="drawn")) == {}
    desk.decide("replace", one.key, geometry=one.geometry.buffer(50))
    assert desk.matching(Filter(origin="drawn")) == {one.key: False}
    assert one.key in desk.matching(Filter(area_m2=(7000, None)))  # its area as it is now


@pytest.mark.parametrize("query", ["left=1", "verdict=perhaps", "least_score=nan", "count=0", "nothing=1"])
def test_a_filter_that_means_nothing_is_refused(client: Client, query: str):
    status, said = client.get(f"/api/queue?{query}")
    assert status == 422
    assert list(said) == ["error"]


# --- drafts -----------------------------------------------------------------------------------------------------------


def test_the_heatmap_answers_a_click_where_it_shows_an_object(client: Client, desk: Desk):
    inside = shapely.box(*desk.scene.geobox.boundingbox.bbox).buffer(-5)
    large = [one.geometry for one in desk.before.values() if one.geometry.area > 50 and inside.contains(one.geometry)]
    overlaps = []
    for truth in large[:8]:
        at = truth.representative_point()
        status, found = client.post("/api/draft", {"x": at.x, "y": at.y, "class": "building"})
        assert status == 200
        if found["geometry"]:
            drawn = shapely.geometry.shape(found["geometry"])
            assert drawn.intersects(at)
            overlaps.append(drawn.intersection(truth).area / drawn.union(truth).area)
    assert len(overlaps) >= 5
    assert np.median(overlaps) > 0.5
    assert client.post("/api/draft", {"x": 0, "y": 0, "class": "building"})[1] == {"geometry": None}
    assert client.post("/api/draft", {"x": 0, "y": 0, "class": "ship"})[1] == {"geometry": None}


def test_no_draft_fetches_a_classifier(desk: Desk):
    desk.drafts._themes["building"] = desk.themes[0].model_copy(update={"classifier": "hf:someone/something"})
    x, y = next(iter(desk.before.values())).geometry.representative_point().coords[0]
    assert desk.drafts.at(*(~desk.scene.geobox.affine @ (x, y)), "building") is None

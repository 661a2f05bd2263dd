from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise, product

import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy.special import expit, logit
from shapely import box

from hybridseg.tracking.chain import likeliest, measured, probability, told
from hybridseg.tracking.follow import ABSENT, CARRIED, PRESENT, UNKNOWN, Dated, Observation, Track
from hybridseg.tracking.settle import settle
from hybridseg.types import Window
from hybridseg.what.evidence import Evidence, evidence, log_odds

CHANGE = 0.05


def weighed(told: np.ndarray, states: tuple[bool, ...]) -> float:
    """Joint probability of states, up to a factor, from its definition."""
    moves = [CHANGE if a != b else 1 - CHANGE for a, b in pairwise(states)]
    return float(np.prod([expit(x if there else -x) for x, there in zip(told, states, strict=True)]) * np.prod(moves))


def test_path_and_probability_are_those_of_all_paths():
    odds = np.random.default_rng(0).normal(0, 3, (200, 5))
    paths = list(product((False, True), repeat=5))
    joint = np.array([[weighed(row, path) for path in paths] for row in odds])
    assert np.array_equal(likeliest(odds, CHANGE), np.array(paths)[joint.argmax(axis=1)])
    expected = joint @ np.array(paths) / joint.sum(axis=1, keepdims=True)
    assert probability(odds, CHANGE) == pytest.approx(expected, abs=1e-9)


def test_a_half_tells_each_date_by_itself():
    odds = np.random.default_rng(1).normal(0, 3, (200, 5))
    assert np.array_equal(likeliest(odds, 0.5), odds > 0)
    assert probability(odds, 0.5) == pytest.approx(expit(odds))


def test_a_hundred_thousand_objects_are_one_step():
    odds = measured(np.random.default_rng(2).uniform(0, 1, (100_000, 3)), np.ones((100_000, 3), bool))
    assert likeliest(odds, CHANGE).shape == probability(odds, CHANGE).shape == (100_000, 3)


def test_a_date_counts_against_its_surroundings_and_the_other_dates():
    all_seen = np.ones((1, 4), bool)
    alone, yards = (told(np.full((1, 4), 1.0), np.full((1, 4), ring), all_seen) for ring in (-3.0, 0.5))
    assert (alone > yards).all()
    usual, dropped = told(np.array([[1.0] * 4, [4.0, 4.0, 4.0, 1.0]]), np.full((2, 4), -2.0), np.ones((2, 4), bool))
    assert dropped[3] < usual[3]
    # that the others are dark makes a find no surer
    dark, darker = told(np.array([[-3.0, 1.0], [-6.0, 1.0]]), np.full((2, 2), -2.0), np.ones((2, 2), bool))
    assert dark[1] == darker[1]
    hidden = told(np.array([[3.0, 0.0, 3.0, 3.0]]), np.full((1, 4), -2.0), np.array([[True, False, True, True]]))
    assert hidden[0, 1] == 0
    assert hidden[0, 0] == hidden[0, 3]


@dataclass(frozen=True)
class Numbers:
    """A heatmap that is an array (H, W), one unit a pixel."""

    values: np.ndarray

    @property
    def geobox(self):
        return GeoBox(self.values.shape, Affine(1, 0, 0, 0, -1, self.values.shape[0]), "EPSG:32645")

    def read(self, window, label):
        part = self.values[window.slices(Window(0, 0, *self.values.shape[::-1]))]
        return part, part, np.ones(part.shape, bool)


def test_a_mean_of_log_odds_is_not_that_of_the_mean():
    half, whole = (evidence(Numbers(np.array(values)), "x", [box(0, 0, 4, 1)]) for values in
                   ([[1.0, 1.0, 0.2, 0.2]], [[0.6, 0.6, 0.6, 0.6]]))  # fmt: skip
    assert half.extent == pytest.approx(whole.extent)
    assert half.odds == pytest.approx((6 + logit(0.2)) / 2)
    assert whole.odds == pytest.approx(logit(0.6))


@dataclass(frozen=True)
class Said(Dated):
    """A date whose heatmap is a number for the ground around each x."""

    at: dict[float, float] = field(default_factory=dict)

    def evidence(self, label, outlines):
        middle = shapely.bounds(np.array(outlines, object))[:, [0, 2]].mean(axis=1)
        holes = [shapely.get_num_interior_rings(one) if not one.is_empty else 0 for one in outlines]
        values = [0.03 if hole or not np.isfinite(x) else self.at[min(self.at, key=lambda k: abs(k - x))]
                  for hole, x in zip(holes, middle, strict=True)]  # fmt: skip
        return Evidence(
            np.array([np.isfinite(v) for v in values], float), np.nan_to_num(values), log_odds(np.nan_to_num(values))
        )


def settled(*made: tuple[str, float, list[float], str]) -> dict[str, Track]:
    """Objects by name: from the left at which they lie, the heatmap of each date (NaN: hidden), and P where found."""
    tracks, dates = [], len(made[0][2])
    for name, left, _, found in made:
        outline = box(left, 0, left + 10, 10)
        seen_at = {d: Observation(d, PRESENT, outline, 0.9, "refined") for d in range(dates) if found[d] == "P"}
        tracks.append(Track(name, seen_at=seen_at))
    said = [Said(None, True, at={left + 5: extents[d] for _, left, extents, _ in made}) for d in range(dates)]
    return {one.id: one for one in settle(tracks, said, "building", CHANGE)}


def test_a_find_that_no_other_date_bears_out_is_left_out():
    assert not settled(("a", 0, [0.01, 0.6, 0.02, 0.01], ".P.."))


def test_what_was_missed_at_one_date_is_bridged():
    made = settled(("a", 0, [0.9, 0.3, 0.9, 0.9], "P.PP"))["a"]
    assert [one.status for one in made.seen_at.values()] == [PRESENT] * 4
    assert made.seen_at[1].origin == CARRIED
    assert made.seen_at[1].outline.equals(box(0, 0, 10, 10))


def test_ground_that_another_holds_is_not_bridged():
    made = settled(("a", 0, [0.9, 0.4, 0.9], "P.P"), ("b", 2, [0.9, 0.9, 0.9], "PPP"))
    assert made["a"].seen_at[1].status == ABSENT
    assert made["a"].seen_at[1].extent == 0


def test_what_comes_and_goes_for_good_does():
    made = settled(("a", 0, [0.01, 0.02, 0.95, 0.9], "..PP"), ("b", 50, [0.95, 0.02, 0.01, 0.03], "P..."))
    assert [one.status for one in made["a"].seen_at.values()] == [ABSENT, ABSENT, PRESENT, PRESENT]
    assert [one.status for one in made["b"].seen_at.values()] == [PRESENT, ABSENT, ABSENT, ABSENT]


def test_what_is_hidden_stays_unknown():
    made = settled(("a", 0, [0.9, float("nan"), 0.9], "P.P"))["a"]
    assert made.seen_at[1].status == UNKNOWN
    assert made.seen_at[1].doubt < 0.15  # the dates around tell of it: 0.25 would be no idea

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from scipy.special import expit
from shapely import box

from hybridseg.tracking.chain import likeliest, odds, probability
from hybridseg.tracking.follow import ABSENT, CARRIED, PRESENT, UNKNOWN, Observation, Track, settle

CHANGE = 0.05


def weighed(told: np.ndarray, states: tuple[bool, ...]) -> float:
    """Joint probability of states, up to a factor, from its definition."""
    moves = [CHANGE if a != b else 1 - CHANGE for a, b in pairwise(states)]
    return float(np.prod([expit(x if there else -x) for x, there in zip(told, states, strict=True)]) * np.prod(moves))


def test_path_and_probability_are_those_of_all_paths():
    told = np.random.default_rng(0).normal(0, 3, (200, 5))
    paths = list(product((False, True), repeat=5))
    joint = np.array([[weighed(row, path) for path in paths] for row in told])
    assert np.array_equal(likeliest(told, CHANGE), np.array(paths)[joint.argmax(axis=1)])
    expected = joint @ np.array(paths) / joint.sum(axis=1, keepdims=True)
    assert probability(told, CHANGE) == pytest.approx(expected, abs=1e-9)


def test_a_half_tells_each_date_by_itself():
    told = np.random.default_rng(1).normal(0, 3, (200, 5))
    assert np.array_equal(likeliest(told, 0.5), told > 0)
    assert probability(told, 0.5) == pytest.approx(expit(told))


def test_a_hundred_thousand_objects_are_one_step():
    told = odds(np.random.default_rng(2).uniform(0, 1, (100_000, 3)), np.ones((100_000, 3), bool))
    assert likeliest(told, CHANGE).shape == probability(told, CHANGE).shape == (100_000, 3)


def track(name: str, left: float, extents: list[float], found: str) -> Track:
    """An object as it was followed: P found, . not found, ? not seen."""
    outline = box(left, 0, left + 10, 10)
    seen_at = {
        date: Observation(date, PRESENT, outline, 0.9, "refined", 1.0, extent) if sign == "P"
        else Observation(date, ABSENT if sign == "." else UNKNOWN, seen=float(sign == "."), extent=extent)
        for date, (extent, sign) in enumerate(zip(extents, found, strict=True))
    }  # fmt: skip
    return Track(name, seen_at=seen_at)


def settled(*tracks: Track) -> dict[str, Track]:
    return {one.id: one for one in settle(tracks, CHANGE)}


def test_a_find_that_no_other_date_bears_out_is_left_out():
    assert not settled(track("a", 0, [0.01, 0.8, 0.02, 0.01], ".P.."))


def test_what_was_missed_at_one_date_is_bridged():
    made = settled(track("a", 0, [0.9, 0.2, 0.9, 0.9], "P.PP"))["a"]
    assert [one.status for one in made.seen_at.values()] == [PRESENT] * 4
    assert made.seen_at[1].origin == CARRIED
    assert made.seen_at[1].outline.equals(box(0, 0, 10, 10))


def test_ground_that_another_holds_is_not_bridged():
    made = settled(track("a", 0, [0.9, 0.4, 0.9], "P.P"), track("b", 2, [0.9, 0.9, 0.9], "PPP"))
    assert made["a"].seen_at[1].status == ABSENT


def test_what_comes_and_goes_for_good_does():
    made = settled(track("a", 0, [0.01, 0.02, 0.95, 0.9], "..PP"), track("b", 50, [0.95, 0.02, 0.01, 0.03], "P..."))
    assert [one.status for one in made["a"].seen_at.values()] == [ABSENT, ABSENT, PRESENT, PRESENT]
    assert [one.status for one in made["b"].seen_at.values()] == [PRESENT, ABSENT, ABSENT, ABSENT]


def test_what_is_hidden_stays_unknown():
    made = settled(track("a", 0, [0.9, 0.0, 0.9], "P?P"))["a"]
    assert made.seen_at[1].status == UNKNOWN
    assert made.seen_at[1].doubt < 0.1  # the dates around tell of it: 0.25 would be no idea

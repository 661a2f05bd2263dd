"""The search moves to better settings, and only by more than the noise."""

from __future__ import annotations

import numpy as np
import pytest

from hybridseg.metrics.boundary import BoundaryScore
from hybridseg.metrics.objects import Match
from hybridseg.metrics.summary import Summary
from hybridseg.search import ascend, objective
from hybridseg.theme import load_theme
from hybridseg.what import Regions, other_kinds


def test_the_search_finds_the_top_of_a_hill_and_tries_nothing_twice():
    tried = []

    def score(settings: dict) -> float:
        tried.append(tuple(settings.items()))
        return -((settings["a"] - 3) ** 2) - (settings["b"] - 1) ** 2

    best, reached = ascend({"a": 0, "b": 0}, {"a": [0, 1, 2, 3], "b": [0, 1, 2]}, score)
    assert best == {"a": 3, "b": 1}
    assert reached == 0
    assert len(tried) == len(set(tried))


def test_a_gain_within_the_noise_moves_nothing():
    best, _ = ascend({"a": 0}, {"a": [0, 1]}, lambda s: 0.0005 * s["a"])
    assert best == {"a": 0}


def test_lengths_are_tried_as_factors_of_the_themes_own():
    tried = Regions(smooth_m=2, min_area_m2=50).choices()
    assert tried["smooth_m"] == [0, 1, 2, 4, 8]
    assert tried["min_area_m2"][1] == 50


def scene(found: int, missed: int, common_m2: float, union_m2: float) -> Summary:
    """Figures of a scene; outlines are those of squares of 10 m, and agree where objects do."""
    every = found + missed
    objects = Match(np.arange(found), np.arange(found), np.ones(found), found, every)
    outlines = BoundaryScore(40.0 * found, 40.0 * found, 40.0 * found, 40.0 * every, found, every)
    return Summary(objects, outlines, common_m2, union_m2)


def test_objects_weigh_as_objects_whatever_the_size_of_their_scene():
    small, large = scene(1, 0, 100, 100), scene(1, 8, 100, 900)
    assert (small.objects.f1, large.objects.f1) == (1, pytest.approx(0.2))
    # 2 of 10 objects and their outlines are found: the mean over scenes would be 0.6 of each
    assert objective([small, large], counted=True) == pytest.approx(1.5 * (1 / 3))
    assert objective([small, large], counted=False) == pytest.approx(200 / 1000 + 0.5 / 3)
    assert objective([small, large], counted=True) == objective([large, small], counted=True)


def test_objects_that_count_are_looked_for_in_two_ways():
    buildings, solar = load_theme("buildings").objects, Regions(min_area_m2=7)
    assert [(o.kind, o.min_area_m2) for o in other_kinds(buildings)] == [("regions", buildings.min_area_m2)]
    assert [(o.kind, o.min_area_m2) for o in other_kinds(solar)] == [("instances", 7)]
    assert {name: load_theme(name).counted for name in ("buildings", "fields", "solar", "roads", "water")} == {
        "buildings": True, "fields": True, "solar": True, "roads": False, "water": False,
    }  # fmt: skip

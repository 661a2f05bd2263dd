"""The search moves to better settings, and only by more than the noise."""

from __future__ import annotations

import pytest

from hybridseg.search.ascent import ascend, choices_for, objective, policies
from hybridseg.theme import RegionPolicy, load_theme


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
    tried = choices_for(RegionPolicy(smooth_m=2, min_area_m2=50))
    assert tried["smooth_m"] == [0, 1, 2, 4, 8]
    assert tried["min_area_m2"][1] == 50
    scores = {"f1": 0.2, "area_iou": 0.8, "boundary_f1": 0.4}
    assert objective(scores, discrete=False) == pytest.approx(1.0)
    assert objective(scores, discrete=True) == pytest.approx(0.4)


def test_objects_that_count_are_looked_for_in_two_ways():
    kinds = {name: [p.kind for p in policies(load_theme(name))] for name in ("buildings", "fields", "roads", "water")}
    assert kinds["buildings"] == kinds["fields"] == ["instances", "regions"]
    assert kinds["water"] == kinds["roads"] == ["regions"]
    solar = load_theme("solar").model_copy(update={"objects": RegionPolicy(min_area_m2=7)})
    assert [p.min_area_m2 for p in policies(solar)] == [7, 7]

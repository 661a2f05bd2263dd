"""The search moves to better settings, and only by more than the noise."""

from __future__ import annotations

import geopandas as gpd
import pytest
import shapely

from hybridseg.metrics.summary import Summary, summarise
from hybridseg.search.ascent import ascend, objective
from hybridseg.what import other_kinds
from hybridseg.what.instances import Instances
from hybridseg.what.regions import Regions


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
    assert list(tried["smooth_m"]) == [0, 1, 2, 4, 8]
    assert tried["min_area_m2"][1] == 50


def test_objects_that_count_are_looked_for_in_two_ways():
    assert [kind.kind for kind in other_kinds(Instances(min_area_m2=7, max_object_m=90))] == ["regions"]
    (other,) = other_kinds(Regions(min_area_m2=7, piece_m=90))
    assert (other.kind, other.min_area_m2, other.max_object_m) == ("instances", 7, 90)


def scene(found: int, missed: int, size: float = 1.0) -> Summary:
    """Squares in a row, of which the map holds the first."""
    x0, y0 = 500_000, 4_000_000
    squares = [shapely.box(x0 + 30 * k, y0, x0 + 30 * k + 10 * size, y0 + 10 * size) for k in range(found + missed)]
    truth = gpd.GeoDataFrame(geometry=squares, crs="EPSG:32631")
    return summarise(truth.iloc[:found], truth, shapely.box(x0 - 50, y0 - 50, x0 + 9000, y0 + 90), 1.0)


def test_scenes_weigh_by_what_they_hold_and_an_empty_one_by_nothing():
    large, small = scene(30, 0), scene(0, 3)
    assert objective([large], counted=True) == pytest.approx(1.5)
    both = objective([large, small], counted=True)
    assert both == pytest.approx(60 / 63 + 0.5 * 60 / 63, rel=1e-6)
    assert objective([large, small, scene(0, 0)], counted=True) == both
    assert objective([scene(1, 0, 2.0), scene(0, 1)], counted=False) == pytest.approx(400 / 500 + 0.5 * 2 * 80 / 200)

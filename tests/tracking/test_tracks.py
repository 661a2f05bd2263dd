from __future__ import annotations

import pytest
from shapely import Polygon, box, union_all

from hybridseg.tracking.tracks import assign


def known(*outlines):
    return list(outlines)


def test_what_overlaps_is_the_same_and_the_rest_is_new():
    made = assign([known(box(0, 0, 10, 10))], [box(1, 1, 12, 11), box(50, 50, 60, 60)])
    assert made.held == {0: box(1, 1, 12, 11)}
    assert made.fresh == [1]


def test_neighbours_that_lie_a_little_off_are_not_linked():
    made = assign([known(box(0, 0, 10, 10)), known(box(11, 0, 21, 10))], [box(2, 0, 12, 10), box(13, 0, 23, 10)])
    assert made.rows == {0: [0], 1: [1]}


def test_a_pond_that_shrinks_and_one_that_grows_keep_their_ids():
    made = assign([known(box(0, 0, 100, 100)), known(box(200, 0, 210, 10))], [box(40, 40, 50, 50),
                  box(150, 0, 300, 100)])  # fmt: skip
    assert made.rows == {0: [0], 1: [1]}


def test_one_outline_over_two_objects_is_divided_among_them():
    made = assign([known(box(0, 0, 10, 10)), known(box(20, 0, 30, 10))], [box(0, 0, 30, 10)])
    assert made.held[0].area == pytest.approx(150, rel=0.02)
    assert made.held[1].area == pytest.approx(150, rel=0.02)
    assert union_all(list(made.held.values())).symmetric_difference(box(0, 0, 30, 10)).area < 1e-6
    assert made.held[0].intersection(made.held[1]).area < 1e-6


def test_a_puddle_is_merged_into_the_lake_that_takes_it_in():
    made = assign([known(box(0, 0, 100, 100)), known(box(105, 0, 107, 2))], [box(0, 0, 110, 100)])
    assert made.held == {0: box(0, 0, 110, 100)}
    assert made.merged == {1: 0}


def test_objects_of_which_each_holds_less_than_half_of_an_outline_are_all_in_it():
    lakes = [known(box(0, 0, 10, 20)), known(box(11, 0, 20, 20)), known(box(21, 0, 30, 20))]
    made = assign(lakes, [box(0, 10, 30, 18)])  # at low water: 80 of 200 m2 of each, a third of what is left
    assert made.fresh == []
    assert made.rows == {0: [0], 1: [0], 2: [0]}


def test_ground_is_of_who_held_it_at_most_dates():
    often, once = known(*[box(0, 0, 20, 10)] * 2, box(0, 0, 10, 10)), known(box(20, 0, 30, 10), box(10, 0, 30, 10))
    made = assign([often, once], [box(0, 0, 30, 10)])
    assert made.held[0].area == pytest.approx(200, rel=0.02)
    assert made.held[1].area == pytest.approx(100, rel=0.02)


def test_an_object_in_two_outlines_is_one_in_parts():
    halves = [box(0, 0, 12, 20), box(14, 0, 20, 20)]
    made = assign([known(box(0, 0, 20, 20))], halves)
    assert made.held[0].area == pytest.approx(240 + 120)
    assert made.rows == {0: [0, 1]}
    assert made.fresh == []


def test_nothing_known_and_nothing_found():
    assert assign([], [box(0, 0, 1, 1)]).fresh == [0]
    assert assign([known(Polygon(box(0, 0, 1, 1)))], []).held == {}

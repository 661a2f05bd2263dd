from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridseg.metrics.lines import clip, near_lengths


def line(*points: tuple[float, float]) -> shapely.LineString:
    return shapely.LineString(points)


def near(lines: list[shapely.LineString], others: list[shapely.LineString], radius: float) -> list[float]:
    return near_lengths(np.array(lines), np.array(others), radius)[0].tolist()


def test_by_hand() -> None:
    road = line((0, 0), (100, 0))
    # Parallel at the tolerance itself counts; a little beyond does not.
    assert near([line((0, 5), (100, 5))], [road], 5) == pytest.approx([100])
    assert near([line((0, 5.001), (100, 5.001))], [road], 5) == [0]
    # It ends 30 m earlier: 30 m are far, but for what lies within 5 m of the end: sqrt(25 - 9) at 3 m aside.
    assert near([line((0, 3), (100, 3))], [line((0, 0), (70, 0))], 5) == pytest.approx([74])
    # Across it: 5 m on either side.
    assert near([line((50, -20), (50, 20))], [road], 5) == pytest.approx([10])


def test_what_is_near_two_counts_once_and_bends_are_followed() -> None:
    bent = line((0, 0), (50, 0), (50, 50))
    # All of the first side, by all three; of the second what is within 2 m of (50, 1).
    three = [line((0, 1), (50, 1)), line((0, -1), (50, -1)), line((20, 2), (30, 2))]
    assert near([bent], three, 2) == pytest.approx([50 + 3])
    assert near([bent], [bent], 0.1) == pytest.approx([100])


def test_lengths_come_with_it_and_nothing_is_near_nothing() -> None:
    lines = np.array([line((0, 0), (3, 4)), line((0, 0), (0, 0)), shapely.LineString()])
    close, length = near_lengths(lines, np.zeros(0, object), 1)
    assert (close.tolist(), length.tolist()) == ([0, 0, 0], [5, 0, 0])
    assert near_lengths(np.zeros(0, object), lines, 1)[0].tolist() == []


def test_only_what_is_inside_is_measured() -> None:
    road, area = line((0, 0), (100, 0)), shapely.box(10, -1, 30, 1)
    close, length = near_lengths(np.array([road]), np.array([line((0, 0), (15, 0))]), 1, inside=area)
    assert (close[0], length[0]) == pytest.approx((6, 20))
    inner = line((12, 0), (13, 0))
    assert clip(np.array([inner]), area)[0] is inner


coordinates = st.tuples(st.integers(-20, 20), st.integers(-20, 20))
chains = st.lists(coordinates, min_size=2, max_size=5, unique=True).map(shapely.LineString)


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(chains, min_size=1, max_size=4), others=st.lists(chains, min_size=1, max_size=4))
def test_agrees_with_buffers(lines: list[shapely.LineString], others: list[shapely.LineString]) -> None:
    belt = shapely.union_all(shapely.buffer(others, 3, quad_segs=256))
    expected = [sum(side.intersection(belt).length for side in sides(one)) for one in lines]
    assert near(lines, others, 3) == pytest.approx(expected, abs=0.02)


def sides(chain: shapely.LineString) -> list[shapely.LineString]:
    return [line(a, b) for a, b in zip(chain.coords[:-1], chain.coords[1:], strict=True)]

from __future__ import annotations

import numpy as np
import pytest
import shapely
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score
from torchmetrics.classification import MulticlassJaccardIndex

from hybridseg.metrics import pixels
from hybridseg.metrics.bootstrap import mean_over_classes

SIDE = 40
GRID = GeoBox((SIDE, SIDE), Affine(1, 0, 0, 0, -1, SIDE), "EPSG:32633")


def table(pred: list[tuple[shapely.Polygon, int]], ref: list[tuple[shapely.Polygon, int]], **settings) -> np.ndarray:
    sides = [(np.array([p for p, _ in s], dtype=object), np.array([c for _, c in s], int)) for s in (pred, ref)]
    return sum(counts for _, counts in pixels.confusion(*sides, settings.pop("n", 2), GRID, **settings))


def box(left: int, top: int, width: int, height: int) -> shapely.Polygon:
    """From the upper left corner, rows downwards."""
    return shapely.box(left, SIDE - top - height, left + width, SIDE - top)


def test_by_hand() -> None:
    found = table([(box(0, 0, 10, 10), 0)], [(box(5, 0, 10, 10), 0), (box(0, 20, 4, 5), 1)])
    assert found.tolist() == [[1600 - 50 - 100 - 20, 50, 0], [50, 50, 0], [20, 0, 0]]
    assert pixels.iou(found) == pytest.approx([50 / 150, 0])
    assert pixels.f1(found) == pytest.approx([0.5, 0])
    assert mean_over_classes(pixels.iou(found)) == pytest.approx(1 / 6)


def test_a_class_that_is_nowhere_is_not_in_the_mean() -> None:
    found = table([(box(0, 0, 10, 10), 0)], [(box(0, 0, 10, 10), 0)], n=3)
    assert np.isnan(pixels.iou(found)[1:]).all()
    assert mean_over_classes(pixels.iou(found)) == 1


def test_small_ones_lie_on_top_whatever_the_order() -> None:
    lake, island = (box(0, 0, 20, 20), 0), (box(5, 5, 4, 4), 1)
    assert table([lake, island], [island, lake])[1:, 1:].tolist() == [[384, 0], [0, 16]]


def test_of_equal_ones_the_lowest_class_lies_on_top_whatever_the_order() -> None:
    rows = [(box(0, 0, 10, 10), 0), (box(0, 0, 10, 10), 1), (box(20, 20, 5, 5), 1), (box(20, 20, 5, 5), 0)]
    truth = [(box(0, 0, 10, 10), 0), (box(20, 20, 5, 5), 1)]
    found = table(rows, truth)
    assert found[1:].tolist() == [[0, 100, 0], [0, 25, 0]]
    np.testing.assert_array_equal(table(rows[::-1], truth), found)
    assert pixels.iou(table(rows, rows[::-1]))[0] == 1


def test_only_the_area_counts_less_what_is_ignored() -> None:
    found = table(
        [(box(0, 0, 10, 10), 0)], [(box(0, 0, 10, 10), 0)], n=1, area=box(0, 0, 8, 20), ignore=box(2, 2, 4, 4)
    )
    assert found.tolist() == [[80, 0], [0, 64]]


places = st.lists(
    st.tuples(st.integers(0, 36), st.integers(0, 36), st.integers(1, 20), st.integers(1, 20), st.integers(0, 2)),
    max_size=6,
)


@settings(max_examples=12, deadline=None)
@given(pred=places, ref=places, core=st.sampled_from([15, 64]))
def test_any_windows_agree_with_scikit_learn(pred, ref, core) -> None:
    sides = [[(box(*row[:4]), row[4]) for row in rows] for rows in (pred, ref)]
    found = table(*sides, n=3, core_px=core)
    flat = [painted(rows).ravel() for rows in reversed(sides)]
    np.testing.assert_array_equal(found, confusion_matrix(*flat, labels=range(4)))
    for ours, theirs in ((pixels.iou(found), jaccard_score), (pixels.f1(found), f1_score)):
        expected = theirs(*flat, labels=[1, 2, 3], average=None, zero_division=0)
        assert np.nan_to_num(ours) == pytest.approx(expected)


def test_agrees_with_torchmetrics() -> None:
    pred, ref = [(box(0, 0, 20, 20), 0), (box(25, 3, 9, 30), 1)], [(box(2, 3, 20, 20), 0), (box(20, 3, 9, 30), 1)]
    metric = MulticlassJaccardIndex(3, average=None)
    expected = metric(*(torch.from_numpy(painted(rows)) for rows in (pred, ref))).numpy()[1:]
    assert pixels.iou(table(pred, ref)) == pytest.approx(expected, abs=1e-6)


def painted(rows: list[tuple[shapely.Polygon, int]]) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), int)
    for polygon, number in sorted(rows, key=lambda row: (-row[0].area, -row[1])):
        left, bottom, right, top = (int(v) for v in polygon.bounds)
        mask[max(SIDE - top, 0) : SIDE - bottom, left:right] = number + 1
    return mask

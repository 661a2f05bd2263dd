from __future__ import annotations

import numpy as np
import pytest
import shapely
from shapely.affinity import translate

from hybridseg.evaluate.measure.objects import best_first, overlaps
from hybridseg.evaluate.measure.verdicts import segmentation, verdicts

HOUSE = shapely.box(0, 0, 20, 10)
HALVES = [shapely.box(0, 0, 10, 10), shapely.box(10, 0, 20, 10)]


def judged(pred: list[shapely.Polygon], truth: list[shapely.Polygon], **ignored) -> tuple[list[str], list[str]]:
    sides = np.array(pred, dtype=object), np.array(truth, dtype=object)
    found = overlaps(*sides)
    masks = [
        np.array(ignored.get(f"no_{name}", np.zeros(len(s))), bool)
        for name, s in zip(("pred", "truth"), sides, strict=True)
    ]
    of_pred, of_truth = verdicts(found, best_first(found, 0.5), (masks[0], masks[1]))
    return of_pred.tolist(), of_truth.tolist()


def test_each_kind() -> None:
    far = translate(HOUSE, 100, 0)
    assert judged([HOUSE], [HOUSE]) == (["hit"], ["hit"])
    assert judged([HOUSE], [far]) == (["false"], ["missed"])
    thirds = [shapely.box(0, 0, 6, 10), shapely.box(6, 0, 12, 10), shapely.box(12, 0, 18, 10)]
    assert judged(thirds, [HOUSE]) == (["split"] * 3, ["split"])
    assert judged([HOUSE], thirds) == (["merged"], ["merged"] * 3)


def test_a_hit_stays_a_hit_beside_a_scrap() -> None:
    # The large part is more than half of the house; the other is its scrap.
    parts = [shapely.box(0, 0, 15, 10), shapely.box(15, 0, 20, 10)]
    assert judged(parts, [HOUSE]) == (["hit", "split"], ["hit"])
    assert judged([HOUSE], parts) == (["hit"], ["hit", "merged"])


def test_two_small_ones_in_a_large_one_are_no_split() -> None:
    small = [shapely.box(0, 0, 2, 2), shapely.box(5, 0, 7, 2)]
    assert judged(small, [HOUSE]) == (["false", "false"], ["missed"])


def test_what_is_ignored() -> None:
    far = translate(HOUSE, 100, 0)
    assert judged([HOUSE, far], [HOUSE], no_pred=[False, True]) == (["hit", "ignored"], ["hit"])
    assert judged([HOUSE], [HOUSE, far], no_truth=[True, True]) == (["ignored"], ["ignored", "ignored"])
    assert judged([HOUSE], [HOUSE], no_pred=[True]) == (["hit"], ["hit"])


def clinton(pred: list[shapely.Polygon], truth: list[shapely.Polygon]) -> tuple[list[float], list[float]]:
    sides = np.array(pred, dtype=object), np.array(truth, dtype=object)
    found = segmentation(overlaps(*sides), *sides)
    return found.over.tolist(), found.under.tolist()


def test_over_and_under_segmentation_by_hand() -> None:
    assert clinton([HOUSE], [HOUSE]) == ([0], [0])
    # Each half leaves out half of the house, and none of it lies outside.
    assert clinton(HALVES, [HOUSE]) == ([0.5, 0.5], [0, 0])
    assert clinton([HOUSE], HALVES) == ([0, 0], [0.5, 0.5])
    # Moved aside by 5 of 20 m.
    over, under = clinton([translate(HOUSE, 5, 0)], [HOUSE])
    assert (over, under) == (pytest.approx([0.25]), pytest.approx([0.25]))


def test_a_segment_that_barely_touches_does_not_belong() -> None:
    assert clinton([translate(HOUSE, 19, 0)], [HOUSE]) == ([], [])
    # Its centroid lies in the house, though most of it does not.
    tall = shapely.box(9, -21, 11, 31)
    assert clinton([tall], [HOUSE])[0] == pytest.approx([1 - 20 / 200])
    assert clinton([tall], [HOUSE])[1] == pytest.approx([1 - 20 / 104])

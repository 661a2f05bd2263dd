from __future__ import annotations

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.affinity import translate
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve
from torchmetrics.classification import BinaryCalibrationError

from hybridseg.metrics.objects import overlaps
from hybridseg.metrics.scores import (
    IOUS,
    Ranking,
    calibration_error,
    mean_average_precision,
    rank,
    reliability,
    reliability_curve,
)

SQUARE = shapely.box(0, 0, 10, 10)


def ranked(pred: list[float], scores: list[float], truth: list[float], **other) -> Ranking:
    """Squares of 10 m at these places, all of one class and in one block."""
    sides = [np.array([translate(SQUARE, x, 0) for x in xs], dtype=object) for xs in (pred, truth)]
    nothing = tuple(np.zeros(len(side), int) for side in sides)
    ignored = other.get("ignored", tuple(np.zeros(len(side), bool) for side in sides))
    return rank(overlaps(*sides), np.array(scores, float), ignored, nothing, nothing, 1, 1)[0]


def test_average_precision_by_hand() -> None:
    # Shifts of 1, 2 and 3 of 10 m: IoU 9/11, 8/12 and 7/13. The surest is wrong.
    ranking = ranked([500, 1, 102, 203], [0.9, 0.8, 0.7, 0.6], [0, 100, 200, 300])
    found = ranking.average_precision()
    # At 0.5: precision 1/2, 2/3, 3/4 at recall 1/4, 1/2, 3/4; made to fall only, 3/4 up to recall 0.75, nothing after.
    assert found[0] == pytest.approx(0.75 * 76 / 101)
    assert found[IOUS.index(0.6)] == pytest.approx(2 / 3 * 51 / 101)
    assert found[IOUS.index(0.7)] == pytest.approx(1 / 2 * 26 / 101)
    assert found[IOUS.index(0.85)] == 0
    assert ranking.precisions()[75] == 0.75
    assert ranking.precisions()[76] == 0


def test_the_surest_chooses_first_even_where_another_fits_better() -> None:
    # COCO: 0.9 takes the only object with IoU 9/11, the perfect one comes too late.
    assert ranked([1, 0], [0.9, 0.8], [0]).hits[0].tolist() == [True, False]
    # Of one score the better fit goes first, whatever the order of rows.
    assert ranked([1, 0], [0.9, 0.9], [0]).hits[0].tolist() == [False, True]
    assert ranked([1, 0], [0.9, 0.9], [0]).average_precision()[0] == pytest.approx(1 / 2)


def test_what_is_ignored_counts_for_nothing() -> None:
    masks = np.array([False, False, True]), np.array([True, False])
    ranking = ranked([0, 100, 900], [0.9, 0.8, 0.7], [0, 100], ignored=masks)
    assert (ranking.hits[0] | ranking.wrong[0]).tolist() == [False, True, False]
    assert ranking.average_precision()[0] == 1


def test_average_precision_of_nothing() -> None:
    assert np.isnan(ranked([0], [0.5], []).average_precision()).all()
    assert (ranked([], [], [0]).average_precision() == 0).all()


def test_the_mean_leaves_out_classes_without_reference() -> None:
    one, none = ranked([0], [0.5], [0]), ranked([0], [0.5], [])
    assert mean_average_precision([one, none])[0] == 1


def test_a_block_counted_twice_is_as_if_it_were_there_twice() -> None:
    rng = np.random.default_rng(1)
    hits = rng.random((10, 40)) < 0.6
    blocks = rng.integers(0, 3, 40)
    truths = np.bincount(blocks, minlength=3) + 2.0
    weights = np.array([2, 0, 1])
    times = weights[blocks]
    ends = np.arange(40)
    twice = Ranking(
        np.repeat(hits, times, axis=1), np.repeat(~hits, times, axis=1), np.cumsum(times)[times > 0] - 1,
        np.zeros(0), np.zeros(times.sum(), int), np.array([weights @ truths]),
    )  # fmt: skip
    once = Ranking(hits, ~hits, ends, np.zeros(0), blocks, truths)
    assert once.average_precision(weights) == pytest.approx(twice.average_precision())


@settings(max_examples=60, deadline=None)
@given(
    outcome=st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=30), missed=st.integers(0, 10)
)
def test_agrees_with_the_curve_of_scikit_learn(outcome: list[tuple[bool, int]], missed: int) -> None:
    hit, score = (np.array(column) for column in zip(*outcome, strict=True))
    if not hit.any():
        return
    order = np.argsort(-score, kind="stable")
    hit, score = hit[order], score[order]
    ends = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    truths = np.array([hit.sum() + missed], float)
    ranking = Ranking(np.tile(hit, (10, 1)), np.tile(~hit, (10, 1)), ends, score[ends], np.zeros(len(hit), int), truths)
    precision, recall, _ = precision_recall_curve(hit, score)
    precision, recall = precision[:-1], np.rint(recall[:-1] * hit.sum()) / truths[0]
    at = np.linspace(0, 1, 101)
    expected = [max([p for p, r in zip(precision, recall, strict=True) if r >= a], default=0) for a in at]
    assert ranking.precisions() == pytest.approx(np.array(expected))


def test_reliability_by_hand() -> None:
    scores, hit = np.array([0.95, 0.95, 0.15, 1.0]), np.array([True, False, False, True])
    sums = reliability(scores, hit, np.array([0, 0, 1, 1]), 2)
    assert sums.shape == (2, 10, 3)
    score, share, number = reliability_curve(sums.sum(axis=0))
    assert number.tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0, 3]
    assert (score[[1, 9]], share[[1, 9]]) == (pytest.approx([0.15, 2.9 / 3]), pytest.approx([0, 2 / 3]))
    assert np.isnan(score[0])
    assert calibration_error(sums.sum(axis=0)) == pytest.approx(1 / 4 * 0.15 + 3 / 4 * (2.9 / 3 - 2 / 3))


def test_calibration_of_nothing_and_of_the_perfect() -> None:
    nothing = reliability(np.zeros(0), np.zeros(0, bool), np.zeros(0, int), 1)
    assert np.isnan(calibration_error(nothing[0]))
    sure = reliability(np.array([1.0, 0.0]), np.array([True, False]), np.zeros(2, int), 1)
    assert calibration_error(sure[0]) == 0


def test_reliability_agrees_with_scikit_learn_and_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    scores = rng.beta(2, 1, 500)
    hit = rng.random(500) < scores**2
    sums = reliability(scores, hit, rng.integers(0, 7, 500), 7).sum(axis=0)
    share, score = calibration_curve(hit, scores, n_bins=10)
    ours = reliability_curve(sums)
    there = ours[2] > 0
    assert (ours[0][there], ours[1][there]) == (pytest.approx(score), pytest.approx(share))
    theirs = BinaryCalibrationError(n_bins=10)(torch.from_numpy(scores), torch.from_numpy(hit))
    assert calibration_error(sums) == pytest.approx(float(theirs), abs=1e-6)

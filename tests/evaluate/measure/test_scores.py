from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from torchmetrics.classification import BinaryCalibrationError

from hybridseg.evaluate.measure.scores import calibration_error, curve, reliability


def test_by_hand() -> None:
    scores, hit = np.array([0.95, 0.95, 0.15, 1.0]), np.array([True, False, False, True])
    sums = reliability(scores, hit, np.array([0, 0, 1, 1]), 2)
    assert sums.shape == (2, 10, 3)
    score, share, number = curve(sums.sum(axis=0))
    assert number.tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0, 3]
    assert (score[[1, 9]], share[[1, 9]]) == (pytest.approx([0.15, 2.9 / 3]), pytest.approx([0, 2 / 3]))
    assert np.isnan(score[0])
    assert calibration_error(sums.sum(axis=0)) == pytest.approx(1 / 4 * 0.15 + 3 / 4 * (2.9 / 3 - 2 / 3))


def test_nothing_and_the_perfect() -> None:
    nothing = reliability(np.zeros(0), np.zeros(0, bool), np.zeros(0, int), 1)
    assert np.isnan(calibration_error(nothing[0]))
    sure = reliability(np.array([1.0, 0.0]), np.array([True, False]), np.zeros(2, int), 1)
    assert calibration_error(sure[0]) == 0


def test_agrees_with_scikit_learn_and_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    scores = rng.beta(2, 1, 500)
    hit = rng.random(500) < scores**2
    sums = reliability(scores, hit, rng.integers(0, 7, 500), 7).sum(axis=0)
    share, score = calibration_curve(hit, scores, n_bins=10)
    ours = curve(sums)
    there = ours[2] > 0
    assert (ours[0][there], ours[1][there]) == (pytest.approx(score), pytest.approx(share))
    theirs = BinaryCalibrationError(n_bins=10)(torch.from_numpy(scores), torch.from_numpy(hit))
    assert calibration_error(sums) == pytest.approx(float(theirs), abs=1e-6)

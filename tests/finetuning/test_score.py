"""Maps judged against labels, and scores as chances."""

from __future__ import annotations

import numpy as np
import pytest

from hybridseg.finetuning.score import calibrate


def test_a_score_becomes_the_chance_of_a_match():
    rng = np.random.default_rng(0)
    for count in (60, 2000):
        score = rng.uniform(0, 1, count)
        matched = rng.uniform(0, 1, count) < score**2
        points = np.array(calibrate(score, matched))
        assert (np.diff(points[:, 0]) > 0).all()
        assert (np.diff(points[:, 1]) >= 0).all()
        assert (points[0, 0], points[-1, 0]) == (0, 1)
        assert np.interp(0.9, *points.T) == pytest.approx(0.81, abs=0.15)


def test_too_few_or_uniform_outcomes_calibrate_nothing_and_a_useless_score_says_the_share():
    assert calibrate(np.full(9, 0.5), np.arange(9) > 3) is None
    assert calibrate(np.linspace(0, 1, 50), np.ones(50, bool)) is None
    score = np.linspace(0, 1, 50)
    points = np.array(calibrate(score, score < 0.4))
    assert set(points[:, 1]) == {0.4}

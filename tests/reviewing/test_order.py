"""The queue and the audit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from scipy.stats import binomtest

from hybridseg.reviewing.objects import Object
from hybridseg.reviewing.order import AUDIT, Estimate, Order, was_right


def objects(agreements: list[float], scores: list[float]) -> list[Object]:
    return [
        Object(k + 1, str(k), "building", score, 0.9, 0.9, agreement, shapely.box(0, 0, 1, 1), "refined")
        for k, (agreement, score) in enumerate(zip(agreements, scores, strict=True))
    ]


def test_disagreement_comes_first_then_uncertainty():
    made = objects([0.95, 0.31, 0.35, np.nan, 0.95], [0.5, 0.9, 0.6, 0.9, 0.99])
    assert Order.of(made, 0).keys[:4] == (4, 3, 2, 1)


def test_each_tenth_is_drawn_at_random_and_each_object_comes_once():
    made = objects(np.linspace(0, 1, 500).tolist(), [0.9] * 500)
    order = Order.of(made, 1)
    assert sorted(order.keys) == list(range(1, 501))
    for place in range(AUDIT - 1, 500, AUDIT):
        assert order.keys[place] == next(key for key in order.drawn if key not in order.keys[:place])
    assert order == Order.of(made, 1)
    assert order.drawn != Order.of(made, 2).drawn


def test_few_objects_and_none_make_a_queue():
    assert Order.of([], 0).keys == ()
    assert len(Order.of(objects([0.5], [0.5]), 0)) == 1


def test_what_was_right():
    (one,) = objects([0.5], [0.5])
    assert was_right(one, replace(one, verdict="accepted"))
    assert not was_right(one, replace(one, verdict="rejected"))
    assert not was_right(one, replace(one, verdict="deleted"))
    assert was_right(one, replace(one, verdict="corrected", geometry=shapely.box(0, 0, 1, 0.6)))
    assert not was_right(one, replace(one, verdict="corrected", geometry=shapely.box(0, 0, 1, 0.4)))
    assert not was_right(one, replace(one, verdict="corrected", label="shed"))
    assert not was_right(one, replace(one, verdict="split"))
    assert not was_right(one, replace(one, verdict="accepted", geometry=shapely.box(0, 0, 1, 0.4)))  # improved before


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(share: float):
    rng = np.random.default_rng(0)
    hits = [e.low <= share <= e.high for e in (Estimate.of(int(rng.binomial(60, share)), 60) for _ in range(400))]
    assert binomtest(sum(hits), 400, 0.95).pvalue > 0.01

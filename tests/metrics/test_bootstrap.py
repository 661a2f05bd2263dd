from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from hybridseg.metrics.bootstrap import Blocks, Bootstrap, Figure, mean_over_classes, ratio


def mean(sums: np.ndarray) -> np.ndarray:
    return ratio(sums[..., 0], sums[..., 1])


def test_the_value_is_the_division_of_the_sums() -> None:
    sums = np.array([[1, 1], [0, 3]])
    figure = Bootstrap.of(np.ones(2, bool))(sums, mean).figure
    # Not the mean of the blocks' own shares, which is 0.5. A draw is one block twice, or both.
    assert figure == Figure(0.25, 0, 1)


def test_agrees_with_scipy() -> None:
    rng = np.random.default_rng(3)
    parts, wholes = rng.poisson(4, 60), rng.poisson(4, 60) + 4
    sums = np.stack([parts, wholes], axis=-1)
    ours = Bootstrap.of(np.ones(60, bool), rounds=4000)(sums, mean).figure
    theirs = scipy.stats.bootstrap(
        (parts, wholes), lambda a, b, axis=-1: a.sum(axis) / b.sum(axis), paired=True, vectorized=True,
        method="percentile", n_resamples=4000, rng=rng,
    ).confidence_interval  # fmt: skip
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, abs=0.01), pytest.approx(theirs.high, abs=0.01))


def test_seed_decides() -> None:
    sums = np.random.default_rng(0).poisson(5, (30, 2))
    holds = np.ones(30, bool)
    one, again, other = (Bootstrap.of(holds, seed=seed)(sums, mean).figure for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_empty_blocks_are_not_drawn() -> None:
    holds = np.array([True, False, True, True])
    draws = Bootstrap.of(holds)
    assert (draws.draws.sum(axis=0) > 0).sum() == 3
    assert (draws.draws[:, 1] == 0).all()
    assert (draws.draws.sum(axis=1) == 3).all()


def test_one_block_has_no_interval_and_nothing_no_value() -> None:
    sums = np.array([[3.0, 4.0], [0.0, 0.0]])
    assert Bootstrap.of(np.array([True, False]))(sums, mean).figure == Figure(0.75)
    assert Bootstrap.of(np.ones(2, bool))(np.zeros((2, 2)), mean).figure == Figure(None)
    alone = Bootstrap.of(np.array([True, False])).weighted(lambda weights: float(weights.sum()), 10)
    assert alone.figure == Figure(2)


def test_figures_that_are_no_sums_get_the_weight_of_each_block() -> None:
    values = np.random.default_rng(0).normal(size=40)
    draws = Bootstrap.of(np.ones(40, bool))
    sums = np.stack([values, np.ones(40)], axis=-1)
    by_weight = draws.weighted(lambda weights: float(weights @ values / weights.sum()), 1000).figure
    by_sums = draws(sums, mean).figure
    assert (by_weight.value, by_weight.low) == (pytest.approx(by_sums.value), pytest.approx(by_sums.low))


def test_a_difference_comes_from_the_same_draws() -> None:
    rng = np.random.default_rng(0)
    hard = rng.uniform(0, 1, 50)  # what makes both fail on the same blocks
    one, two = (np.stack([hard + gain, np.ones(50)], axis=-1) for gain in (0.0, 0.1))
    draws = Bootstrap.of(np.ones(50, bool))
    difference = (draws(two, mean) - draws(one, mean)).figure
    assert difference.value == pytest.approx(0.1)
    assert (difference.low, difference.high) == (pytest.approx(0.1), pytest.approx(0.1))
    assert draws(one, mean).figure.high - draws(one, mean).figure.low > 0.1
    assert (draws(one, mean) - draws(np.zeros((50, 2)), mean)).figure == Figure(None)


def test_blocks() -> None:
    blocks = Blocks.over((0, 0, 100, 50), object_m=1)
    assert blocks.side_m == pytest.approx(np.sqrt(50))
    assert blocks.size == 8 * 15
    assert blocks.of(np.array([[0, 0], [99, 49], [-5, 70]])).tolist() == [7 * 15, 14, 0]
    assert Blocks.over((0, 0, 100, 50), object_m=20).side_m == 80
    assert blocks.sums(np.array([3, 3, 0]), np.array([1.0, 2.0, 5.0]))[[0, 1, 3], 0].tolist() == [5, 0, 3]
    assert Blocks.over((7, 7, 7, 7), object_m=1).size == 1


def test_ratio_and_mean_of_classes() -> None:
    assert ratio(np.array([1, 0]), np.array([2, 0])).tolist()[0] == 0.5
    assert np.isnan(ratio(np.array([0]), np.array([0]))).all()
    assert mean_over_classes(np.array([[1, np.nan], [0, 1]])).tolist() == [1, 0.5]
    assert np.isnan(mean_over_classes(np.array([np.nan])))

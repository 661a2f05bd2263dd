"""Whether a score of 0.8 means right in 8 of 10 cases."""

from __future__ import annotations

import numpy as np

from hybridseg.evaluate.measure.bootstrap import ratio

BINS = 10


def reliability(scores: np.ndarray, hit: np.ndarray, groups: np.ndarray, n_groups: int, bins: int = BINS) -> np.ndarray:
    """Sums from which the reliability curve is drawn.

    Args:
        scores: (n,) float64, 0 to 1.
        hit: (n,) bool, whether each was right.
        groups: (n,) int, keep sums of these apart (blocks of ground).
        n_groups: how many groups there are.
        bins: of equal width; the last one holds 1 as well.

    Returns:
        (n_groups, bins, 3) float64: number, sum of scores, number of hits.
    """
    sums = np.zeros((n_groups, bins, 3))
    place = np.minimum((scores * bins).astype(int), bins - 1)
    np.add.at(sums, (groups, place), np.stack([np.ones(len(scores)), scores, hit], axis=-1))
    return sums


def curve(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean score, share of hits, number) of each bin from sums (bins, 3), nan for empty bins."""
    number = sums[..., 0]
    return ratio(sums[..., 1], number), ratio(sums[..., 2], number), number


def calibration_error(sums: np.ndarray) -> np.ndarray:
    """Expected calibration error from sums (..., bins, 3): mean gap between score and share of hits, 0 is best.

    Guo et al. 2017 (On calibration of modern neural networks), each bin by the objects in it.
    """
    gaps = np.abs(sums[..., 1] - sums[..., 2]).sum(axis=-1)
    return ratio(gaps, sums[..., 0].sum(axis=-1))

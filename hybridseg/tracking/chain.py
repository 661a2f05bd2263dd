"""Whether objects are there, told from the evidence of all dates together: a chain of two states, present and absent.

A linear-chain conditional random field (Lafferty et al. 2001; of land cover through time: Abercrombie & Friedl 2016).
Its evidence at a date is what the date's heatmap says of the object's ground; between two dates it rarely comes or
goes. So a find that no other date bears out is left out, and a date at which a house was missed is bridged.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from hybridseg.what.evidence import log_odds

MEASURED = 2.0
"""Log odds of presence for each unit of log odds of an index's mean on the object's ground."""
BIAS, WEIGHT, OTHERS = -1.36, 1.45, -1.01
"""Of `told`. Fitted by `python -m benchmarks.track_fit` to 24 rendered towns, of which
no figure in docs/track.md is."""


def measured(extent: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return log odds (N, T) of presence by an index's mean on each object's ground; 0 where nothing is told.

    Args:
        extent: (N, T) means.
        known: (N, T) whether the date tells.
    """
    return np.where(known, MEASURED * log_odds(extent), 0.0)


def told(ground: np.ndarray, ring: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return log odds (N, T) of presence by a classifier's heatmaps; 0 where nothing is told.

    A house stands out from what lies around it; and ground that the classifier takes for a house, or half takes, at
    the other dates says less when it does so once more.

    Args:
        ground: (N, T) mean log odds of the class on each object's ground.
        ring: (N, T) the same around it.
        known: (N, T) whether the date tells.
    """
    contrast = np.where(known, ground - ring, 0.0)
    count = known.sum(axis=1, keepdims=True) - known
    rises = contrast.clip(0)
    others = (rises.sum(axis=1, keepdims=True) - rises) / np.maximum(count, 1)
    return np.where(known, BIAS + WEIGHT * contrast + OTHERS * others, 0.0)


def likeliest(odds: np.ndarray, change: float) -> np.ndarray:
    """Return the likeliest states (N, T), true where present (Viterbi 1967).

    Args:
        odds: (N, T) log odds of presence by each date.
        change: probability that an object comes or goes between two dates.
    """
    cost = logit(1 - change)
    best = odds[:, 0]  # log odds of the best path that ends present against the best that ends absent
    came = []  # path that ends present (absent) came from the other state
    for now in odds.T[1:]:
        came.append((best > cost, best < -cost))
        best = np.clip(best, -cost, cost) + now
    states = [best > 0]
    for left, entered in reversed(came):
        states.append(np.where(states[-1], ~entered, left))
    return np.stack(states[::-1], axis=1)


def probability(odds: np.ndarray, change: float) -> np.ndarray:
    """Return the probability (N, T) of presence, by all dates (forward and backward); arguments as of `likeliest`."""

    def past(run: np.ndarray) -> np.ndarray:
        before = [np.zeros(len(run))]
        for now in run.T[:-1]:
            before.append(logit(change + (1 - 2 * change) * expit(before[-1] + now)))
        return np.stack(before, axis=1)

    return expit(odds + past(odds) + past(odds[:, ::-1])[:, ::-1])

"""Whether objects are there, told from the evidence of all dates together: a chain of two states, present and absent.

A hidden Markov model of each object (Rabiner 1989; of land cover through time: Abercrombie & Friedl 2016). Its evidence
at a date is what the date's heatmap says of the object's ground; between two dates it rarely comes or goes. So a find
that no other date bears out is left out, and a date at which a house was missed is bridged.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

WEIGHT = 2.0
"""Log odds of presence for each unit of log odds of the heatmap's mean: in rendered towns, objects found where the mean
was .6 to .7, .7 to .8, .8 to .85, .85 to .9, .9 to .95 were truly there in .42, .78, .94, .97, .99 of the cases."""
MOST = 6.0
"""No date says more than this of an object, before it is weighed."""


def odds(extent: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return log odds (N, T) of presence by each date alone; 0 where nothing is told.

    Args:
        extent: (N, T) mean probability of the class on each object's ground.
        seen: (N, T) whether the date tells.
    """
    return np.where(seen, WEIGHT * np.clip(logit(np.nan_to_num(extent)), -MOST, MOST), 0.0)


def likeliest(told: np.ndarray, change: float) -> np.ndarray:
    """Return the likeliest states (N, T), true where present (Viterbi 1967).

    Args:
        told: (N, T) log odds of presence by each date.
        change: probability that an object comes or goes between two dates.
    """
    cost = logit(1 - change)
    best = told[:, 0]  # log odds of the best path that ends present against the best that ends absent
    came = []  # path that ends present (absent) came from the other state
    for now in told.T[1:]:
        came.append((best > cost, best < -cost))
        best = np.clip(best, -cost, cost) + now
    states = [best > 0]
    for left, entered in reversed(came):
        states.append(np.where(states[-1], ~entered, left))
    return np.stack(states[::-1], axis=1)


def probability(told: np.ndarray, change: float) -> np.ndarray:
    """Return the probability (N, T) of presence, by all dates (forward and backward); arguments as of `likeliest`."""

    def past(run: np.ndarray) -> np.ndarray:
        before = [np.zeros(len(run))]
        for now in run.T[:-1]:
            before.append(logit(change + (1 - 2 * change) * expit(before[-1] + now)))
        return np.stack(before, axis=1)

    return expit(told + past(told) + past(told[:, ::-1])[:, ::-1])

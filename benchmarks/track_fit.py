"""Fit what a classifier's heatmaps say of presence (`hybridseg.tracking.chain`) to rendered towns.

python -m benchmarks.track_fit      prints the parameters, and how well they tell events in towns left out of the fit

Each object that was followed has 2^T sequences of presence. The chain's parameters, and the probability that an object
comes or goes, are those that make the true sequences the likeliest (a conditional random field, fitted by maximum
likelihood; dates that are hidden are summed over). An object is true where it shares half of either's ground with a
house. The towns are none of those whose figures `benchmarks.track` gives.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit, logsumexp
from sklearn.model_selection import GroupKFold

from benchmarks.track import CHOSEN_BY, DATES, render, same
from hybridseg import track
from hybridseg.tracking import chain, run, settle

STATES = np.array(list(product((0, 1), repeat=DATES)))
MOVES = (STATES[:, 1:] != STATES[:, :-1]).sum(axis=1)
WEIGHTS = ("BIAS", "WEIGHT", "OTHERS")
FOLDS = 6
CHANGES = (0.0005, 0.001, 0.002, 0.005, 0.01)


def said(seed: int, folder: Path) -> dict[str, np.ndarray]:
    """What the heatmaps say of a town's objects, and the truth: (N, T) each."""
    place = render(seed, folder)
    kept: dict[str, Any] = {}

    def keep(ground: np.ndarray, ring: np.ndarray, known: np.ndarray) -> np.ndarray:
        kept.update(ground=ground, ring=ring, known=known)
        return chain.told(ground, ring, known)

    def keep_outlines(outlines: np.ndarray) -> np.ndarray:
        kept["outlines"] = outlines
        return around(outlines)

    around = settle._around
    settle.told, settle._around = keep, keep_outlines
    try:
        track(place.files, theme="buildings", clear_mask=place.masks)
    finally:
        settle.told, settle._around = chain.told, around
    shared = np.stack([same(np.array(place.houses), one) for one in kept.pop("outlines")])
    house, real = shared.argmax(axis=1), shared.max(axis=1) > 0
    there = place.there[house] & real[:, None]
    hidden = place.hidden[house] & real[:, None]
    return kept | {"there": there, "sure": ~hidden & kept["known"], "town": np.full(len(real), seed)}


def scores(data: dict[str, np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Log weight (N, 2^T) of each sequence."""
    for name, value in zip(WEIGHTS, weights, strict=False):
        setattr(chain, name, float(value))
    return chain.told(data["ground"], data["ring"], data["known"]) @ STATES.T - weights[-1] * MOVES


def fit(data: dict[str, np.ndarray]) -> np.ndarray:
    """The weights of `told`, and the log odds against a change."""
    fits = ((data["there"][:, None].astype(int) == STATES) | ~data["sure"][:, None]).all(axis=2)

    def loss(weights: np.ndarray) -> float:
        of = scores(data, weights)
        return float(np.mean(logsumexp(of, axis=1) - logsumexp(of, axis=1, b=fits)))

    return minimize(loss, [0.0, 1.0, 0.0, 3.0], method="L-BFGS-B").x


def events(data: dict[str, np.ndarray], weights: Sequence[float], change: float) -> np.ndarray:
    """Events told rightly, told, and true, of the objects that were followed, with another probability of a change."""
    best = STATES[scores(data, [*weights[:-1], logit(1 - change)]).argmax(axis=1)].astype(bool)
    told, true = (np.diff(one.astype(int), axis=1) for one in (best, data["there"]))
    sure = data["sure"][:, 1:] & data["sure"][:, :-1]
    return np.array(
        [((told == true) & (told != 0) & sure).sum(), ((told != 0) & sure).sum(), ((true != 0) & sure).sum()]
    )


def main(seeds: Sequence[int]) -> None:
    """Fit and print."""
    with tempfile.TemporaryDirectory() as folder:
        towns = [said(seed, Path(folder)) for seed in seeds]
    data = {name: np.concatenate([town[name] for town in towns]) for name in towns[0]}
    counts = dict.fromkeys(CHANGES, np.zeros(3))
    for rest, left_out in GroupKFold(min(FOLDS, len(seeds))).split(data["town"], groups=data["town"]):
        weights = fit({name: values[rest] for name, values in data.items()})
        rows = {name: values[left_out] for name, values in data.items()}
        counts = {change: count + events(rows, weights, change) for change, count in counts.items()}
    weights = fit(data)
    print({name: round(float(value), 2) for name, value in zip(WEIGHTS, weights, strict=False)})
    print(f"likeliest change {expit(-weights[-1]):.4f}; in use {run.BY_CLASSIFIER}; objects {len(data['town'])}")
    for change, (right, told, true) in counts.items():
        precision, recall = right / told, right / true
        f1 = 2 * precision * recall / (precision + recall)
        print(f"change {change}, towns left out: precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}")


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or list(CHOSEN_BY))

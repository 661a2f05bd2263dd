"""Fit what a classifier's heatmaps say of presence (`hybridseg.tracking.chain`) to rendered towns.

python -m benchmarks.track_fit [--run FOLDER] [SEED ...]      writes benchmarks/results/track_fit.json

Prints the parameters, and how well they tell events in towns left out of the fit: of objects that were followed, and of
all houses as `benchmarks.track` counts. With --run, a command that was killed goes on where it was.

Each object that was followed has 2^T sequences of presence. The chain's parameters, and the probability that an object
comes or goes, are those that make the true sequences the likeliest (a conditional random field, fitted by maximum
likelihood; dates that are hidden are summed over). An object is true where it shares half of either's ground with a
house. The towns are none of those whose figures `benchmarks.track` gives.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit, logsumexp
from sklearn.model_selection import GroupKFold

from benchmarks.accuracy import RESULTS
from benchmarks.track import arguments
from benchmarks.track_towns import CHOSEN_BY, DATES, Sequence_, Sums, rates, render, same, towns
from hybridseg import track
from hybridseg.tracking import chain, run, settle

STATES = np.array(list(product((0, 1), repeat=DATES)))
MOVES = (STATES[:, 1:] != STATES[:, :-1]).sum(axis=1)
WEIGHTS = ("BIAS", "WEIGHT", "OTHERS")
FOLDS = 6
CHANGES = (0.0005, 0.001, 0.002, 0.005, 0.01)


def said(seed: int, place: Sequence_, folder: Path) -> dict[str, np.ndarray]:
    """What the heatmaps say of a town's objects, and the truth: (N, T) each."""
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
        track(place.files, theme="buildings", clear_mask=place.masks, run=folder / f"run{seed}")
    finally:
        settle.told, settle._around = chain.told, around
    shared = np.stack([same(np.array(place.houses), one) for one in kept.pop("outlines")])
    house, real = shared.argmax(axis=1), shared.max(axis=1) > 0
    there = place.there[house] & real[:, None]
    hidden = place.hidden[house] & real[:, None]
    return kept | {"there": there, "sure": ~hidden & kept["known"], "town": np.full(len(real), seed)}


def use(weights: Sequence[float]) -> None:
    """Let the chain use weights."""
    for name, value in zip(WEIGHTS, weights, strict=False):
        setattr(chain, name, float(value))


def scores(data: dict[str, np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Log weight (N, 2^T) of each sequence."""
    use(weights)
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


def main(seeds: Sequence[int], folder: Path) -> None:
    """Fit, print and write."""
    rendered, rows = {}, []
    for seed in seeds:
        began = time.process_time()
        rendered[seed] = render(seed, folder)
        rows.append(said(seed, rendered[seed], folder))
        print(f"town {seed}: {len(rows[-1]['town'])} objects, {time.process_time() - began:.0f} s", flush=True)
    data = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    counts = dict.fromkeys(CHANGES, np.zeros(3))
    counted: list[Sums] = []
    for rest, left_out in GroupKFold(min(FOLDS, len(seeds))).split(data["town"], groups=data["town"]):
        weights = fit({name: values[rest] for name, values in data.items()})
        others = {name: values[left_out] for name, values in data.items()}
        counts = {change: count + events(others, weights, change) for change, count in counts.items()}
        use(weights)
        counted += towns(np.unique(others["town"]).tolist(), folder, False, rendered)
    weights = fit(data)
    made = {
        "towns": len(seeds), "folds": min(FOLDS, len(seeds)), "objects": len(data["town"]),
        "weights": {name: round(float(value), 2) for name, value in zip(WEIGHTS, weights, strict=False)},
        "likeliest_change": round(float(expit(-weights[-1])), 4), "change": run.BY_CLASSIFIER,
        "followed_left_out": {str(change): _named(*count) for change, count in counts.items()},
        "all_left_out": rates(counted),
    }  # fmt: skip
    for name, value in made.items():
        print(f"{name}: {value}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "track_fit.json").write_text(json.dumps(made, indent=1) + "\n")


def _named(right: float, told: float, true: float) -> dict[str, float]:
    named = {"precision": right / told, "recall": right / true, "f1": 2 * right / (told + true)}
    return {name: round(float(value), 3) for name, value in named.items()}


if __name__ == "__main__":
    with arguments(seeds={"nargs": "*", "type": int}) as (asked, place):
        main(asked.seeds or CHOSEN_BY, place)

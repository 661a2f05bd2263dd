"""Coordinate search over a theme's settings: each in turn takes the value that scores best, until none moves."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hybridseg.metrics.summary import Summary
from hybridseg.settings import Settings as Model

Settings = dict[str, Any]
GATES: Mapping[str, Sequence[float]] = {
    "agreement": (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    "iou_pred": (0.0, 0.4, 0.5, 0.6, 0.7, 0.8),
    "stability": (0.0, 0.5, 0.6, 0.7, 0.8, 0.9),
}
LEAST_GAIN = 1e-3
"""A value must gain this much over the one at hand, so that noise does not move it."""


def ascend(
    start: Settings, choices: Mapping[str, Sequence[Any]], score: Callable[[Settings], float], rounds: int = 2
) -> tuple[Settings, float]:
    """The best settings found, and their score. Each call of `score` is one try; the same settings are tried once."""
    tried: dict[tuple[Any, ...], float] = {}

    def value(settings: Settings) -> float:
        key = tuple(settings[name] for name in sorted(settings))
        if key not in tried:
            tried[key] = score(settings)
        return tried[key]

    best, reached = dict(start), value(dict(start))
    for _ in range(rounds):
        before = reached
        for name, options in choices.items():
            for option in options:
                candidate = best | {name: option}
                if value(candidate) > reached + LEAST_GAIN:
                    best, reached = candidate, value(candidate)
        if reached == before:
            break
    return best, reached


def settings_of(model: Model, names: Mapping[str, Any]) -> Settings:
    """Return the present values of some of a model's fields."""
    return {name: getattr(model, name) for name in names}


def objective(scores: Sequence[Summary], counted: bool) -> float:
    """Return what is made best over all scenes: objects found, or ground covered, and by half outlines met.

    Args:
        scores: of each scene; hits, misses, areas and lengths are added up, so a scene weighs by what it holds.
        counted: whether objects count one by one.
    """
    whole = functools.reduce(operator.add, scores)
    return (whole.objects.f1 if counted else whole.area_iou) + 0.5 * whole.outlines.f1

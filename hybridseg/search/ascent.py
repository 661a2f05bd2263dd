"""Coordinate search over a theme's settings: each in turn takes the value that scores best, until none moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hybridseg.theme import Gate, GridPolicy, InstancePolicy, ObjectPolicy, RegionPolicy, Theme

Settings = dict[str, Any]
OBJECTS: Mapping[str, Mapping[str, Sequence[float]]] = {
    "instances": {
        "min_score": (0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        "rise": (0.04, 0.07, 0.1, 0.15, 0.22, 0.3),
        "extent": (0.3, 0.4, 0.5, 0.6, 0.7),
        "peak": (0.1, 0.2, 0.3, 0.4, 0.5),
    },
    "regions": {
        "extent": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        "min_score": (0.3, 0.5, 0.6, 0.7, 0.8),
    },
}
"""Values tried, by kind of policy. Lengths and areas are tried as factors of what the theme says, see `SCALED`."""
SCALED: Mapping[str, Mapping[str, Sequence[float]]] = {
    "instances": {"smooth_m": (0.0, 0.5, 1.0, 2.0), "min_area_m2": (0.5, 1.0, 2.0, 4.0)},
    "regions": {"smooth_m": (0.0, 0.5, 1.0, 2.0, 4.0), "min_area_m2": (0.5, 1.0, 3.0, 10.0)},
}
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
    """Return the best settings found, and their score; the same settings are tried once."""
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


def choices_for(policy: ObjectPolicy) -> dict[str, list[float]]:
    """Return the values to try for each of a policy's settings."""
    found = {name: list(values) for name, values in OBJECTS[policy.kind].items()}
    for name, factors in SCALED[policy.kind].items():
        own = getattr(policy, name) or 1.0
        found[name] = [round(own * factor, 4) for factor in factors]
    return found


def settings_of(model: ObjectPolicy | Gate, names: Mapping[str, Any]) -> Settings:
    """Return the present values of some fields of a policy or gate."""
    return {name: getattr(model, name) for name in names}


def objective(scores: Mapping[str, float], discrete: bool) -> float:
    """Return F1 of objects, or IoU of ground where objects do not count, plus half of boundary F1."""
    return scores["f1" if discrete else "area_iou"] + 0.5 * scores["boundary_f1"]


def policies(theme: Theme) -> list[ObjectPolicy]:
    """Return the theme's own policy; for objects that count one by one also the other kind.

    Connected extent is the better one where objects stand apart and their interior is hard to learn.
    """
    own = theme.objects
    if not theme.discrete or isinstance(own, GridPolicy):
        return [own]
    if isinstance(own, InstancePolicy):
        return [own, RegionPolicy(min_area_m2=own.min_area_m2, piece_m=own.max_object_m, overlap_m=0)]
    return [own, InstancePolicy(min_area_m2=own.min_area_m2, max_object_m=own.piece_m)]

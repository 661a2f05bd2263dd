"""Thresholds for each place from the other places, so that no place is quoted that chose its own: docs/validation.md.

Coarse first: every setting of a grid is tried on every place once; a place gets the setting that is best on average on
the others. Then the gate of refined masks in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from benchmarks.places import Place
from hybridseg.run.survey import Survey
from hybridseg.search import Trial, objective
from hybridseg.shape import AsTraced
from hybridseg.tables import Refined
from hybridseg.theme import Theme
from hybridseg.where.gate import Gate

Settings = dict[str, float]
OBJECTS: Mapping[str, Mapping[str, Sequence[float]]] = {
    "instances": {
        "rise": (0.1, 0.15, 0.22, 0.3, 0.4),
        "join": (1.0, 0.4, 0.3, 0.2),
        "min_score": (0.6, 0.7, 0.8),
        "extent": (0.4, 0.5),
    },
    "regions": {"extent": (0.3, 0.4, 0.5, 0.6, 0.7), "min_score": (0.5, 0.6, 0.7, 0.8)},
}
GATES: Mapping[str, Sequence[float]] = {
    "iou_pred": (0.5, 0.6, 0.7),
    "stability": (0.6, 0.7, 0.8, 0.9),
    "agreement": (0.3, 0.5, 0.6, 0.7),
}


def every(choices: Mapping[str, Sequence[float]]) -> list[Settings]:
    """All combinations."""
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


def best_elsewhere(scores: np.ndarray, place: int | None) -> int:
    """The setting, by number, that is best on average.

    Args:
        scores: (settings, places).
        place: number of the place that has no vote; None: all have one.
    """
    votes = scores if place is None else np.delete(scores, place, axis=1)
    return int(votes.mean(axis=1).argmax())


@dataclass
class Validation:
    """A theme's places with their heatmaps, on which settings are tried; what was tried is kept.

    places: two or more of the theme; those that trained weights choose settings, and get none that may be quoted.
    """

    theme: Theme
    places: Sequence[Place]
    refiner: str = "sam2-lite"
    _refined: dict[Any, Refined] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Look at every place once."""
        self.trials = [Trial(p, Survey.open(p.scene, self.theme, self.refiner, ground=p.extent)) for p in self.places]
        for trial in self.trials:
            trial.survey.heatmap()

    def themes(self) -> tuple[dict[str, Theme], Theme]:
        """The theme for each place, with settings from the others, and the one with settings from all."""
        tried = every(OBJECTS[self.theme.objects.kind])
        scores = np.array([[self._coarse(n, self._with(s)) for n in range(len(self.places))] for s in tried])
        folds = [*range(len(self.places)), None]
        *each, final = [self._gated(self._with(tried[best_elsewhere(scores, n)]), n) for n in folds]
        return {place.name: theme for place, theme in zip(self.places, each, strict=True)}, final

    def _gated(self, theme: Theme, left_out: int | None) -> Theme:
        """The theme with the gate that is best on the other places."""
        if theme.refiner == "none":
            return theme
        gates = [Gate(**gate) for gate in every(GATES)]
        scores = np.array(
            [
                [np.nan if n == left_out else self._hybrid(n, theme, gate) for n in range(len(self.places))]
                for gate in gates
            ]
        )
        return theme.model_copy(update={"gate": gates[best_elsewhere(scores, left_out)]})

    def _with(self, settings: Settings) -> Theme:
        return self.theme.model_copy(update={"objects": self.theme.objects.model_copy(update=settings)})

    def _coarse(self, number: int, theme: Theme) -> float:
        return objective([self.trials[number].coarse(_unshaped(theme))], self.theme.counted)

    def _hybrid(self, number: int, theme: Theme, gate: Gate) -> float:
        trial, key = self.trials[number], (number, theme.objects.model_dump_json())
        if key not in self._refined:
            self._refined[key] = trial.refine(theme)
        gated = _unshaped(theme).model_copy(update={"gate": gate})
        return objective([trial.score(gated, self._refined[key])], self.theme.counted)


def _unshaped(theme: Theme) -> Theme:
    """Shaping takes long and moves outlines little: the search goes without it."""
    return theme.model_copy(update={"shape": AsTraced()})

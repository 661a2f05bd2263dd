"""Thresholds for each place from the other places, so that no place is quoted that chose its own: docs/validation.md.

For each place, `hybridseg.search.ascend` on the others: first how objects are found, by coarse outlines, then the gate
of refined masks. It starts from the defaults of the kind of objects, not from the theme, in which all places had a say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.places import Place
from hybridseg.run.survey import Survey
from hybridseg.search import GATES, Settings, Trial, ascend, objective, settings_of
from hybridseg.shape import AsTraced
from hybridseg.tables import Refined
from hybridseg.theme import Theme
from hybridseg.where.gate import Gate

OBJECTS: Mapping[str, Mapping[str, Sequence[float]]] = {
    "instances": {
        "rise": (0.07, 0.1, 0.15, 0.22, 0.3),
        "join": (1.0, 0.4, 0.3, 0.2),
        "min_score": (0.55, 0.65, 0.75),
        "extent": (0.3, 0.4, 0.5),
    },
    "regions": {"extent": (0.3, 0.4, 0.5, 0.6, 0.7), "min_score": (0.5, 0.6, 0.7, 0.8)},
}


def grid_of(objects: Any) -> Mapping[str, Sequence[float]]:
    """Return the settings to try; parts that are merged by their borders are cut finely, whatever the threshold."""
    grid = OBJECTS[objects.kind]
    return {k: grid[k] for k in ("min_score", "extent")} if getattr(objects, "merge", None) else grid


@dataclass
class Validation:
    """A theme's places with their heatmaps, on which settings are tried; what was tried is kept.

    places: two or more of the theme; those that trained weights choose settings, and get none that may be quoted.
    """

    theme: Theme
    places: Sequence[Place]
    refiner: str = "sam2-lite"
    _tried: dict[Any, float] = field(default_factory=dict)
    _refined: dict[Any, Refined] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Look at every place once."""
        self.trials = [Trial(p, Survey.open(p.scene, self.theme, self.refiner, ground=p.extent)) for p in self.places]
        for trial in self.trials:
            trial.survey.heatmap()

    def themes(self) -> tuple[dict[str, Theme], Theme]:
        """The theme for each place, with settings from the others, and the one with settings from all."""
        everywhere = range(len(self.places))
        each = {self.places[n].name: self._best([m for m in everywhere if m != n]) for n in everywhere}
        return each, self._best(everywhere)

    def _best(self, voting: Sequence[int]) -> Theme:
        """The theme with the settings that have the best mean over some places, given by number."""
        choices = grid_of(self.theme.objects)
        start = settings_of(type(self.theme.objects)(), choices)
        objects, _ = ascend(start, choices, lambda s: self._mean(self._with(s), None, voting))
        theme = self._with(objects)
        if theme.refiner == "none":
            return theme
        gate, _ = ascend(settings_of(Gate(), GATES), GATES, lambda s: self._mean(theme, Gate(**s), voting))
        return theme.model_copy(update={"gate": Gate(**gate)})

    def _with(self, settings: Settings) -> Theme:
        return self.theme.model_copy(update={"objects": self.theme.objects.model_copy(update=settings)})

    def _mean(self, theme: Theme, gate: Gate | None, voting: Sequence[int]) -> float:
        return float(np.mean([self._score(number, theme, gate) for number in voting]))

    def _score(self, number: int, theme: Theme, gate: Gate | None) -> float:
        """Score one place, its coarse outlines where no gate is given."""
        trial, objects = self.trials[number], (number, theme.objects.model_dump_json())
        key = (*objects, gate and gate.model_dump_json())
        if key not in self._tried:
            # shaping takes long and moves outlines little: the search goes without it
            unshaped = theme.model_copy(update={"shape": AsTraced()})
            if gate is None:
                summary = trial.coarse(unshaped)
            else:
                if objects not in self._refined:
                    self._refined[objects] = trial.refine(unshaped)
                summary = trial.score(unshaped.model_copy(update={"gate": gate}), self._refined[objects])
            self._tried[key] = objective([summary], self.theme.counted)
        return self._tried[key]

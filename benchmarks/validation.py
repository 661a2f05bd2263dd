"""Thresholds for each place from the other places, so that no place is quoted that chose its own: docs/validation.md.

Coarse first: every setting of a grid is tried on every place once; a place gets the setting that is best on average on
the others. Then the gate of refined masks in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np

from benchmarks.places import Place
from hybridseg.evaluate.measure.quick import quick_scores
from hybridseg.nn.classifier import load_classifier
from hybridseg.nn.refiners import load_refiner
from hybridseg.read.source import Source
from hybridseg.run.pipeline import Counts, Pipeline
from hybridseg.theme import Gate, Theme
from hybridseg.tune.run import OPEN, TOLERANCE_PX, passing
from hybridseg.tune.search import objective

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
    work: Path
    refiner: str = "sam2-lite"
    _refined: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Look at every place once."""
        network = load_classifier(self.theme.classifier)
        for number, place in enumerate(self.places):
            source = Source.open(place.scene)
            gsd_m = self.theme.gsd_m(source.gsd_m, network.gsd_m)
            Pipeline(self.theme, None).heatmap(source, network, gsd_m, place.extent, self._heatmap(number), Counts())

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

    def _heatmap(self, number: int) -> Path:
        return self.work / f"{self.theme.name}-{number}.tif"

    def _coarse(self, number: int, theme: Theme) -> float:
        place, source = self.places[number], Source.open(self.places[number].scene)
        pipeline, counts = Pipeline(_unshaped(theme), None), Counts()
        prompts = pipeline.prompts(source, self._heatmap(number), place.extent, counts)
        features = pipeline.features(source, prompts, [None] * len(prompts), counts, place.extent)
        return self._score(place, source, features)

    def _hybrid(self, number: int, theme: Theme, gate: Gate) -> float:
        place, source = self.places[number], Source.open(self.places[number].scene)
        key = (number, theme.objects.model_dump_json())
        pipeline, counts = Pipeline(_unshaped(theme), load_refiner(self.refiner)), Counts()
        if key not in self._refined:
            unrefused = Pipeline(theme.model_copy(update={"gate": OPEN}), pipeline.refiner)
            prompts = unrefused.prompts(source, self._heatmap(number), place.extent, counts)
            self._refined[key] = prompts, unrefused.refine(source, prompts, counts)
        prompts, outcome = self._refined[key]
        passed = [passing(result, gate) for result in outcome]
        return self._score(place, source, pipeline.features(source, prompts, passed, counts, place.extent))

    def _score(self, place: Place, source: Source, features: gpd.GeoDataFrame) -> float:
        scores = quick_scores(features, place.truth, place.area, TOLERANCE_PX * source.gsd_m)
        return objective(scores, self.theme.discrete)


def _unshaped(theme: Theme) -> Theme:
    """Shaping takes long and moves outlines little: the search goes without it."""
    return theme.model_copy(update={"shape": "none"})

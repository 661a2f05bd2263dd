"""Settings, calibration and scores of a new classifier, cross-fitted on two folds of validation ground."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hybridseg import nn
from hybridseg.finetuning.score import Judged, calibrate, f1_interval, judge
from hybridseg.labels.labelled import Labelled, LabelledGrid
from hybridseg.labels.split import Split, cross_fits
from hybridseg.run.progress import Progress
from hybridseg.search import objective, search_theme, write_theme
from hybridseg.theme import Theme

MIN_OBJECTS_TO_SEARCH = 20
"""Fewer objects than this choose no settings: the search would fit them, and lose elsewhere."""
HERE = "."
"""The classifier of a theme that lies in its own model folder, wherever that is moved to."""
CROSSED = "each fold of the validation blocks, with settings searched on the other; the head was chosen on both"
HALF = "one fold of the validation blocks, with settings searched on the other; the head was chosen on both"
UNCROSSED = "validation blocks, on which settings and head were chosen too: expect less elsewhere"
UNSEARCHED = "validation blocks; the head was chosen on them, the settings are the theme's"


@dataclass(frozen=True)
class Settled:
    """What was found for one theme.

    theme: with its settings.
    judged: on each fold of each place.
    what: how far the figures can be trusted.
    """

    theme: Theme
    judged: list[Judged]
    what: str

    def figures(self) -> list[dict[str, Any]]:
        """Return figures of each place, and of all with an interval of F1, as for a card."""
        label = self.theme.label
        rows = [{"class": label, **one.figures()} for one in self.judged]
        if self.judged:
            whole = functools.reduce(operator.add, [one.summary for one in self.judged]).to_dict()
            figures = {name: round(float(value), 3) for name, value in whole.items()}
            rows.append({"class": label, "place": "all", **figures, "f1_interval": f1_interval(self.judged)})
        return rows

    def calibration(self) -> list[list[float]] | None:
        """Return points (score, chance), from the polygons of all folds; None where there are too few."""
        if not self.judged:
            return None
        score, matched = (np.concatenate([getattr(one, name) for one in self.judged]) for name in ("score", "matched"))
        return calibrate(score, matched)


@dataclass(frozen=True)
class Settle:
    """Completes a model folder once the network is there.

    Where there are two folds of validation ground with enough objects, settings are searched on one and judged on the
    other, and the other way round; the better of the two is kept, and the calibration is fitted on polygons that no
    search has seen.

    out: the model folder.
    grids, splits: labelled scenes and their validation ground.
    searching: whether settings are searched at all.
    refiner: for all themes; None: each theme's own, or sam2-lite in the search.
    """

    out: Path
    grids: Sequence[LabelledGrid]
    splits: Sequence[Split]
    searching: bool
    refiner: str | None
    device: str
    progress: Progress

    def __call__(self, net: Any, card: Mapping[str, Any], themes: Sequence[Theme], how: str) -> dict[str, Any]:
        """Write the folder, first as it is, since the search looks with it, then with all that was found.

        Returns:
            the card.
        """
        nn.weights.save_weights(net, self.out, card)
        settled = [self._settle(theme) for theme in themes]
        for one in settled:
            name = "theme.yaml" if len(themes) == 1 else f"theme-{one.theme.name}.yaml"
            ready = one.theme.model_copy(update={"classifier": HERE})
            write_theme(ready, self.out / name, f"{one.theme.name} {how}")
        tables = {one.theme.label: table for one in settled if (table := one.calibration()) is not None}
        settings = {
            one.theme.label: one.theme.score_fingerprint(one.judged[0].refiner)
            for one in settled
            if one.theme.label in tables
        }
        scores = {
            "command": "hybridseg finetune",
            "what": "; ".join(dict.fromkeys(one.what for one in settled)),
            "places": [row for one in settled for row in one.figures()],
        }
        whole = {**card, "scores": scores, "calibration": tables, "calibration_settings": settings}
        nn.weights.save_weights(net, self.out, whole)
        return whole

    def _settle(self, theme: Theme) -> Settled:
        folds = self._folds(theme.label)
        ready = theme.model_copy(update={"classifier": str(self.out), "refiner": self.refiner or theme.refiner})
        everything = [place for fold in folds for place in fold]
        if not everything:
            return Settled(ready, [], UNSEARCHED)
        enough = sum(place.objects for place in everything) >= MIN_OBJECTS_TO_SEARCH
        if not (self.searching and (enough or not theme.objects.counted)):
            return Settled(ready, judge(ready, everything, self.device, self.progress), UNSEARCHED)
        rounds = []
        for searched, judged in cross_fits([sum(place.objects for place in fold) for fold in folds]):
            refiner = self.refiner or "sam2-lite"
            found, _ = search_theme(ready, folds[searched], refiner, self.device, self.progress)
            rounds.append((found, judge(found, folds[judged], self.device, self.progress), searched != judged))
        best, _, crossed = max(rounds, key=lambda one: objective([j.summary for j in one[1]], theme.counted))
        # one refiner for the folder: figures of a fold judged with another would not be those of the model
        own = [judged for found, judged, _ in rounds if found.refiner == best.refiner]
        what = (CROSSED if len(own) == len(rounds) else HALF) if crossed else UNCROSSED
        return Settled(best, [one for judged in own for one in judged], what)

    def _folds(self, label: str) -> list[list[Labelled]]:
        """The places of each fold that hold objects of a class."""
        folds = []
        for number in range(max(len(split.folds) for split in self.splits)):
            parts = [
                grid.labelled.of_class(label).within(split.area(grid.grid.affine, number))
                for grid, split in zip(self.grids, self.splits, strict=True)
            ]
            folds.append([part for part in parts if part.objects])
        return folds

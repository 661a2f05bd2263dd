"""How good a new classifier is on ground that it did not learn from: settings, calibration and scores."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from hybridseg import nn
from hybridseg.labels.labelled import Labelled, LabelledGrid
from hybridseg.labels.split import Split, cross_fits
from hybridseg.metrics.bootstrap import Blocks, Bootstrap, two_sided_f1
from hybridseg.metrics.objects import match, share
from hybridseg.metrics.summary import Summary, summarise
from hybridseg.run.progress import Progress
from hybridseg.run.survey import Survey
from hybridseg.search import objective, search_theme, write_theme
from hybridseg.theme import Theme

LEAST = 10
"""Fewer polygons than this do not calibrate a score."""
ENOUGH = 200
"""From so many polygons on isotonic regression, which takes any rising shape; below logistic, which has two numbers.

After Niculescu-Mizil and Caruana 2005 (ICML), section 5: isotonic overfits small sets; they put the turn near 1000
samples, for a curve of any shape. With ties pooled and few steps kept, 200 do here.
"""
POINTS = 21
TOLERANCE_PX = 2


def calibrate(score: np.ndarray, matched: np.ndarray) -> list[list[float]] | None:
    """Return points (score, chance) of a rising curve from 0 to 1 in score; None where there is too little to learn.

    Args:
        score: (N,) in [0, 1].
        matched: (N,) bool.
    """
    if len(score) < LEAST or matched.all() or not matched.any():
        return None
    if len(score) >= ENOUGH:
        inner = np.quantile(score, np.linspace(0, 1, POINTS)[1:-1])
        at = np.unique(np.concatenate([[0.0, 1.0], inner]))
        curve = IsotonicRegression(y_min=0, y_max=1).fit(score, matched)
        chance = curve.predict(at.clip(inner[0], inner[-1]))  # beyond, a few polygons would make a chance of 0 or of 1
    else:
        at = np.linspace(0, 1, POINTS)
        fitted = LogisticRegression(C=10).fit(score[:, None], matched)
        chance = fitted.predict_proba(at[:, None])[:, 1]
        if fitted.coef_[0, 0] <= 0:  # the score tells nothing: each polygon gets the share that is right
            chance = np.full(len(at), matched.mean())
    return [[round(float(a), 4), round(float(c), 4)] for a, c in zip(at, chance, strict=True)]


@dataclass(frozen=True)
class Judged:
    """A theme's map of one labelled place, against the labels."""

    place: str
    refiner: str
    """Name of the one in use, or `none`."""
    score: np.ndarray
    """(N,) the classifier's own score of each polygon."""
    matched: np.ndarray
    """(N,) bool, whether the polygon matches an object at IoU 0.5."""
    summary: Summary
    sums: np.ndarray
    """(blocks, 4): matched and all polygons, matched and all objects, of each block of ground."""


def figures_of(judged: Sequence[Judged]) -> dict[str, Any]:
    """Return the figures of all places together, as for a card: of whole objects, of outlines and areas on the ground.

    Objects count where their inner point lies on the ground, as in the interval of F1: the border of a block cuts
    slivers from others, which nobody could find.
    """
    hits, pred, found, truth = np.concatenate([one.sums for one in judged]).sum(axis=0).tolist()
    precision, recall = share(hits, pred, none_expected=not truth), share(found, truth, none_expected=not pred)
    of_objects = {"objects": truth, "found": pred, "f1": harmonic_mean([precision, recall])}
    summary = functools.reduce(operator.add, [one.summary for one in judged]).to_dict()
    figures = {**summary, **of_objects, "precision": precision, "recall": recall}
    return {name: round(float(value), 3) for name, value in figures.items()}


def judge(theme: Theme, places: Sequence[Labelled], device: str, progress: Progress) -> list[Judged]:
    """Map labelled places with a theme and compare.

    Args:
        theme: with the classifier to judge.
        places: ground to judge it on.
        device: auto, cpu, cuda, mps.
        progress: is told of each place.
    """
    progress.start("judge", len(places), "scenes")
    judged = []
    for place in places:
        survey = Survey.open(place.scene, theme, device=device, ground=place.extent)
        features = survey.features(survey.refine(survey.prompts())).rows
        judged.append(_compare(survey, features, place))
        progress.step()
    return judged


def f1_interval(judged: Sequence[Judged]) -> list[float] | None:
    """Return the 95 % interval of object F1 over all places, from draws of blocks of ground; None of too few blocks."""
    sums = np.concatenate([one.sums for one in judged])
    figure = Bootstrap.of(np.asarray(sums.any(axis=1)))(sums, two_sided_f1).figure
    return None if figure.low is None or figure.high is None else [round(figure.low, 3), round(figure.high, 3)]


def _compare(survey: Survey, features: gpd.GeoDataFrame, place: Labelled) -> Judged:
    truth = place.truth
    if survey.theme.objects.in_pieces and place.extent is not None:  # regions are cut at the extent: so is the truth
        truth = truth.clip(shapely.box(*place.extent), keep_geom_type=True)
    inside, real = (layer[layer.representative_point().within(place.area)] for layer in (features, truth))
    inside = inside.reset_index(drop=True)
    matched, found = np.zeros(len(inside), bool), np.zeros(len(real), bool)
    matched[match(inside.geometry, truth.geometry, iou=0.5).pred] = True
    found[match(features.geometry, real.geometry, iou=0.5).truth] = True
    tolerance_m = TOLERANCE_PX * survey.scene.gsd_m
    return Judged(
        place=Path(place.scene.name).name,
        refiner=survey.models.refiner_name,
        score=inside["score"].to_numpy(float),
        matched=matched,
        summary=summarise(features, place.truth, place.area, tolerance_m),
        sums=_block_sums(place, inside.geometry, matched, real.geometry, found),
    )


def _block_sums(
    place: Labelled, pred: gpd.GeoSeries, matched: np.ndarray, truth: gpd.GeoSeries, found: np.ndarray
) -> np.ndarray:
    """(blocks, 4) sums for `two_sided_f1`."""
    utm = gpd.GeoSeries([place.area], crs=place.scene.crs).estimate_utm_crs()
    area = gpd.GeoSeries([place.area], crs=place.scene.crs).to_crs(utm)
    blocks = Blocks.over(area.total_bounds, float(np.sqrt(truth.to_crs(utm).area.median())) if len(truth) else 1.0)
    sides = []
    for shapes, hit in ((pred, matched), (truth, found)):
        middles = shapely.get_coordinates(shapes.to_crs(utm).representative_point().to_numpy())
        sides.append(blocks.sums(blocks.of(middles), np.column_stack([hit, np.ones(len(hit))]).astype(float)))
    return np.concatenate(sides, axis=1)


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
        rows = [{"class": label, "place": one.place, **figures_of([one])} for one in self.judged]
        if self.judged:
            interval = f1_interval(self.judged)
            rows.append({"class": label, "place": "all", **figures_of(self.judged), "f1_interval": interval})
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

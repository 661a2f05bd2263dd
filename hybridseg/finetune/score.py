"""What a score means: the chance that a polygon matches an object at IoU 0.5, learnt on the validation blocks."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np

from hybridseg.evaluate.measure.objects import match
from hybridseg.evaluate.measure.quick import quick_scores
from hybridseg.labels.labelled import Labelled
from hybridseg.read.source import Source
from hybridseg.run.engine import Progress
from hybridseg.run.pipeline import Counts, Pipeline
from hybridseg.run.sight import look_through
from hybridseg.theme import Theme

LEAST = 10
"""Fewer polygons than this say nothing of their scores."""
ENOUGH = 200
"""From so many polygons on isotonic regression, which takes any rising shape; below logistic, which has two numbers.

After Niculescu-Mizil and Caruana 2005 (ICML), section 5: isotonic overfits small sets; they put the turn near 1000
samples, for a curve of any shape. With ties pooled and few steps kept, 200 do here.
"""
POINTS = 21
TOLERANCE_PX = 2


def calibrate(score: np.ndarray, matched: np.ndarray) -> list[list[float]] | None:
    """Points (score, chance) of a rising curve from 0 to 1 in score; None where there is too little to learn from.

    Args:
        score: (N,) in [0, 1].
        matched: (N,) bool.
    """
    if len(score) < LEAST or matched.all() or not matched.any():
        return None
    from sklearn.isotonic import IsotonicRegression
    from sklearn.linear_model import LogisticRegression

    if len(score) >= ENOUGH:
        at = np.unique(np.concatenate([[0.0, 1.0], np.quantile(score, np.linspace(0, 1, POINTS))]))
        curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(score, matched)
        chance = curve.predict(at)
    else:
        at = np.linspace(0, 1, POINTS)
        fitted = LogisticRegression(C=10).fit(score[:, None], matched)
        chance = fitted.predict_proba(at[:, None])[:, 1]
        if fitted.coef_[0, 0] <= 0:  # the score says nothing: each polygon gets the share that is right
            chance = np.full(len(at), matched.mean())
    return [[round(float(a), 4), round(float(c), 4)] for a, c in zip(at, chance, strict=True)]


def judge(
    theme: Theme, places: Sequence[Labelled], device: str, progress: Progress
) -> tuple[list[list[float]] | None, list[dict[str, Any]]]:
    """The calibration of a theme's scores on validation ground, and how good its map is there, place by place.

    Args:
        theme: with the classifier to judge.
        places: the ground to judge it on.
        device: auto, cpu, cuda, mps.
        progress: is told of each place.

    Returns:
        points (score, chance) as of `calibrate`, and for each place its name and figures.
    """
    from hybridseg.nn.classifier import load_classifier
    from hybridseg.nn.refiners import load_refiner

    classifier = load_classifier(theme.classifier, device)
    refiner = None if theme.refiner == "none" else load_refiner(theme.refiner, device)
    scores, matches, lines = [], [], []
    progress.start("judge", len(places), "scenes")
    for place in places:
        source = place.scene
        features = _map(theme, source, classifier, refiner, place)
        score, matched = _matched(features, place)
        scores.append(score)
        matches.append(matched)
        found = quick_scores(features, place.truth, place.area, TOLERANCE_PX * source.gsd_m)
        lines.append({"place": Path(source.path).name, **{k: round(float(v), 3) for k, v in found.items()}})
        progress.step()
    return calibrate(np.concatenate(scores), np.concatenate(matches)), lines


def _map(theme: Theme, source: Source, classifier: Any, refiner: Any, place: Labelled) -> gpd.GeoDataFrame:
    counts = Counts()
    gsd_m = theme.gsd_m(source.gsd_m, classifier.gsd_m)
    with tempfile.TemporaryDirectory(prefix="hybridseg-") as folder:
        path = Path(folder) / "heatmap.tif"
        sight = look_through(theme, source, classifier, refiner, Path(folder))
        pipeline = Pipeline(theme, sight.refiner, grid=sight.grid)
        pipeline.heatmap(source, sight.network, gsd_m, place.extent, path, counts)
        prompts = pipeline.prompts(source, path, place.extent, counts)
        outcome = pipeline.refine(source, prompts, counts)
        return pipeline.features(source, prompts, outcome, counts, place.extent)


def _matched(features: gpd.GeoDataFrame, place: Labelled) -> tuple[np.ndarray, np.ndarray]:
    """Score, and whether it matches, of each polygon whose middle lies in the place's area; whole, not cut."""
    inside = features[features.representative_point().within(place.area)].reset_index(drop=True)
    paired = match(inside.geometry, place.truth.geometry, iou=0.5)
    matched = np.zeros(len(inside), bool)
    matched[paired.pred] = True
    return inside["score"].to_numpy(float), matched

"""Search for a theme's thresholds, prompts and gate on labelled scenes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import yaml

from hybridseg.errors import OutputError, ThemeError
from hybridseg.evaluate.measure.quick import quick_scores
from hybridseg.labels.labelled import Labelled
from hybridseg.run.engine import Progress, Quiet
from hybridseg.run.model import check_label
from hybridseg.run.pipeline import Counts, Pipeline
from hybridseg.run.sight import Sight, look_through
from hybridseg.search.ascent import GATES, Settings, ascend, choices_for, objective, policies, settings_of
from hybridseg.theme import Gate, GridPolicy, Theme
from hybridseg.where.refine import Refined

TOLERANCE_PX = 2
PARTS = {
    True: [("box", "hint"), ("box", "points", "hint")],
    False: [("hint",), ("points", "hint")],  # boxes of lakes and road networks hold mostly something else
}
"""Kinds of prompt to try, by whether objects count one by one."""
QUIET = Quiet()
OPEN = Gate(iou_pred=0, stability=0, agreement=0)


def write_theme(theme: Theme, out: Path, comment: str) -> Path:
    """Write a theme's settings, those that differ from the defaults, under a line of comment; return the path.

    Raises:
        OutputError: the file cannot be written.
    """
    settings = theme.model_dump(mode="json", exclude_defaults=True)
    if "objects" in settings:
        settings["objects"] = {"kind": theme.objects.kind, **settings["objects"]}
    try:
        out.write_text(f"# {comment}\n" + yaml.safe_dump(settings, sort_keys=False))
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from error
    return out


def search_theme(
    start: Theme, places: Sequence[Labelled], refiner: str, device: str = "auto", progress: Progress = QUIET
) -> tuple[Theme, str]:
    """Return the theme with the best settings found, and a line with their scores.

    Args:
        start: the theme to start from.
        places: scenes with all their objects of the theme.
        refiner: what refines; the theme gets `none` where the coarse outlines score better.
        device: auto, cpu, cuda, mps.
        progress: told how far the search is.

    Raises:
        ThemeError: the theme has no settings to search.
    """
    if isinstance(start.objects, GridPolicy):
        raise ThemeError(f"theme {start.name} is everything mode, which has nothing to tune; give another theme")
    from hybridseg.nn.classifier import load_classifier
    from hybridseg.nn.refiners import load_refiner

    classifier, asked = load_classifier(start.classifier, device), load_refiner(refiner, device)
    check_label(start, classifier.classes)
    with tempfile.TemporaryDirectory(prefix="hybridseg-") as folder:
        trials = []
        progress.start("heatmaps", len(places), "scenes")
        for number, place in enumerate(places):
            source = place.scene
            path, gsd_m = Path(folder) / f"{number}.tif", start.gsd_m(source.gsd_m, classifier.gsd_m)
            sight = look_through(start, source, classifier, asked, Path(folder))
            Pipeline(start, None).heatmap(source, sight.network, gsd_m, place.extent, path, Counts())
            trials.append(_Trial(place, path, sight, start.discrete))
            progress.step()
        progress.start("search objects", None, "settings tried")
        coarse, coarse_score = _tune_objects(start, trials, progress)
        progress.start("search prompts", len(PARTS[start.discrete]), "kinds, each with its gate")
        refined, score = _tune_refining(coarse, trials, progress)
    name = refiner if score > coarse_score else "none"
    best = refined if score > coarse_score else coarse
    report = f"coarse {coarse_score:.3f}, refined {score:.3f} (object F1 or area IoU, plus half of boundary F1)"
    return best.model_copy(update={"refiner": name, "shape": start.shape}), report


def _tune_objects(theme: Theme, trials: Sequence[_Trial], progress: Progress) -> tuple[Theme, float]:
    """Return the theme with the best policy and the best of its settings, and its score."""
    # shaping takes long and moves outlines little: the search goes without it
    tried = [theme.model_copy(update={"objects": policy, "shape": "none"}) for policy in policies(theme)]
    found = [_tune_policy(one, trials, progress) for one in tried]
    return max(found, key=lambda pair: pair[1])


def _tune_policy(theme: Theme, trials: Sequence[_Trial], progress: Progress) -> tuple[Theme, float]:
    choices = choices_for(theme.objects)

    def with_objects(settings: Settings) -> Theme:
        return theme.model_copy(update={"objects": theme.objects.model_copy(update=settings)})

    def score(settings: Settings) -> float:
        progress.step()
        return float(np.mean([trial.coarse(with_objects(settings)) for trial in trials]))

    best, reached = ascend(settings_of(theme.objects, choices), choices, score)
    return with_objects(best), reached


def _tune_refining(theme: Theme, trials: Sequence[_Trial], progress: Progress) -> tuple[Theme, float]:
    """Return the theme with the best prompts and gate, and its score; a gate is tried without refining again."""
    best, reached = theme, -1.0
    for chosen in PARTS[trials[0].discrete]:
        candidate = theme.with_prompts(parts=frozenset(chosen))
        refined = [trial.refine(candidate) for trial in trials]

        def score(settings: Settings, theme: Theme = candidate, refined: list[Any] = refined) -> float:
            gated = theme.model_copy(update={"gate": Gate(**settings)})
            return float(np.mean([t.gated(gated, outcome) for t, outcome in zip(trials, refined, strict=True)]))

        gate, value = ascend(settings_of(theme.gate, GATES), GATES, score)
        progress.step()
        if value > reached:
            best, reached = candidate.model_copy(update={"gate": Gate(**gate)}), value
    return best, reached


@dataclass(frozen=True)
class _Trial:
    """A labelled scene with its heatmap, to try settings on."""

    place: Labelled
    heatmap: Path
    sight: Sight
    discrete: bool

    def coarse(self, theme: Theme) -> float:
        """Return the objective without a refiner."""
        pipeline, counts = Pipeline(theme, None), Counts()
        prompts = pipeline.prompts(self.place.scene, self.heatmap, self.place.extent, counts)
        return self._score(
            pipeline.features(self.place.scene, prompts, [None] * len(prompts), counts, self.place.extent)
        )

    def refine(self, theme: Theme) -> tuple[gpd.GeoDataFrame, list[Refined | None]]:
        """Return the prompts and their masks, all of them past the gate."""
        counts = Counts()
        pipeline = Pipeline(theme.model_copy(update={"gate": OPEN}), self.sight.refiner, grid=self.sight.grid)
        prompts = pipeline.prompts(self.place.scene, self.heatmap, self.place.extent, counts)
        return prompts, pipeline.refine(self.place.scene, prompts, counts)

    def gated(self, theme: Theme, refined: tuple[gpd.GeoDataFrame, list[Refined | None]]) -> float:
        """Return the objective of refined prompts behind the theme's gate."""
        prompts, outcome = refined
        passed = [_through(result, theme.gate) for result in outcome]
        pipeline = Pipeline(theme, None, grid=self.sight.grid)
        return self._score(pipeline.features(self.place.scene, prompts, passed, Counts(), self.place.extent))

    def _score(self, features: gpd.GeoDataFrame) -> float:
        place, tolerance_m = self.place, TOLERANCE_PX * self.place.scene.gsd_m
        return objective(quick_scores(features, place.truth, place.area, tolerance_m), self.discrete)


def _through(result: Refined | None, gate: Gate) -> Refined | None:
    if result is None:
        return None
    v = result.verdict
    passes = v.iou_pred >= gate.iou_pred and v.stability >= gate.stability and v.agreement >= gate.agreement
    return result if passes else replace(result, outline=None)

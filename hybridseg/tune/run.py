"""The verb `tune`: from a theme and labelled scenes to the theme with the settings that score best there."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
import yaml

from hybridseg.errors import OutputError, ThemeError
from hybridseg.evaluate.measure.quick import quick_scores
from hybridseg.read.source import Source
from hybridseg.run.arguments import parse_bands
from hybridseg.run.engine import Progress, Quiet
from hybridseg.run.model import check_label
from hybridseg.run.pipeline import Counts, Extent, Pipeline
from hybridseg.run.sight import Sight, look_through
from hybridseg.theme import Gate, GridPolicy, Theme, load_theme
from hybridseg.tune.search import GATES, Settings, ascend, choices_for, objective, policies, settings_of
from hybridseg.where.refine import Refined

TOLERANCE_PX = 2
PARTS = {
    True: [("box", "hint"), ("box", "points", "hint")],
    False: [("hint",), ("points", "hint")],  # boxes of lakes and road networks hold mostly something else
}
"""What the refiner may be told, by whether objects count one by one."""
QUIET = Quiet()
OPEN = Gate(iou_pred=0, stability=0, agreement=0)


@dataclass(frozen=True)
class Labelled:
    """A scene with all its objects drawn within `area` (the scene's CRS).

    extent: the part of the scene to look at; bands: its red, green and blue ones, where it does not say.
    """

    scene: Path
    truth: gpd.GeoDataFrame
    area: shapely.Geometry
    extent: Extent | None = None
    bands: Sequence[int] | None = field(default=None, kw_only=True)


def tune(
    theme: str,
    out: Path,
    *,
    scene: str,
    labels: str,
    within: str | None = None,
    bands: str | None = None,
    refiner: str = "sam2-lite",
    device: str = "auto",
    progress: Progress | None = None,
) -> Path:
    """Find a theme's thresholds, prompts and gate on labelled scenes, and write them as a theme's YAML.

    Args:
        theme: what to start from: a name or the path of a theme's YAML.
        out: the YAML to write; then `hybridseg extract SCENE OUT --theme FILE`.
        scene: raster, or several with commas between; not those that the classifier was trained on.
        labels: polygon layer with every object of the theme, one for each scene.
        within: polygon layer inside which every object is drawn, one for each scene; default: the whole scene.
        bands: numbers of the red, green and blue bands, as in 4,3,2.
        refiner: as for extract; the theme gets `none` where the coarse outlines score better.
        device: auto, cpu, cuda, mps.
        progress: told how far the search is (Python only).
    """
    start = load_theme(theme)
    scenes, layers = scene.split(","), labels.split(",")
    areas = within.split(",") if within else [None] * len(scenes)
    if not len(scenes) == len(layers) == len(areas):
        raise ThemeError(f"{len(scenes)} scenes came with {len(layers)} labels; give a layer for each scene, in order")
    chosen = parse_bands(bands)
    places = [_labelled(Path(s), layer, area, chosen) for s, layer, area in zip(scenes, layers, areas, strict=True)]
    best, report = search(start, places, refiner, device, progress or QUIET)
    return write_theme(best.model_copy(update={"name": out.stem}), out, f"{start.name} tuned on {scene}: {report}")


def write_theme(theme: Theme, out: Path, comment: str) -> Path:
    """Write a theme with what differs from the defaults, under a line of comment."""
    settings = theme.model_dump(mode="json", exclude_defaults=True)
    if "objects" in settings:
        settings["objects"] = {"kind": theme.objects.kind, **settings["objects"]}
    try:
        out.write_text(f"# {comment}\n" + yaml.safe_dump(settings, sort_keys=False))
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from error
    return out


def search(
    start: Theme, places: Sequence[Labelled], refiner: str, device: str = "auto", progress: Progress = QUIET
) -> tuple[Theme, str]:
    """The theme with the best settings found, and a line that says what they score."""
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
            source = Source.open(place.scene, place.bands)
            path, gsd_m = Path(folder) / f"{number}.tif", start.gsd_m(source.gsd_m, classifier.gsd_m)
            sight = look_through(start, source, classifier, asked, Path(folder))
            Pipeline(start, None).heatmap(source, sight.network, gsd_m, place.extent, path, Counts())
            trials.append(_Trial(place, source, path, sight, start.discrete))
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
    """The best policy, with the best of its settings."""
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
    """Prompts first, each with its best gate: a gate is searched without refining again."""
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
    """A labelled scene with its heatmap, on which settings are tried."""

    place: Labelled
    source: Source
    heatmap: Path
    sight: Sight
    discrete: bool

    def coarse(self, theme: Theme) -> float:
        """Objective without a refiner."""
        pipeline, counts = Pipeline(theme, None), Counts()
        prompts = pipeline.prompts(self.source, self.heatmap, self.place.extent, counts)
        return self._score(pipeline.features(self.source, prompts, [None] * len(prompts), counts, self.place.extent))

    def refine(self, theme: Theme) -> tuple[gpd.GeoDataFrame, list[Refined | None]]:
        """Prompts and what becomes of them behind an open gate."""
        counts = Counts()
        pipeline = Pipeline(theme.model_copy(update={"gate": OPEN}), self.sight.refiner, grid=self.sight.grid)
        prompts = pipeline.prompts(self.source, self.heatmap, self.place.extent, counts)
        return prompts, pipeline.refine(self.source, prompts, counts)

    def gated(self, theme: Theme, refined: tuple[gpd.GeoDataFrame, list[Refined | None]]) -> float:
        """Objective of refined prompts with the theme's gate closed on them."""
        prompts, outcome = refined
        passed = [passing(result, theme.gate) for result in outcome]
        pipeline = Pipeline(theme, None, grid=self.sight.grid)
        return self._score(pipeline.features(self.source, prompts, passed, Counts(), self.place.extent))

    def _score(self, features: gpd.GeoDataFrame) -> float:
        place, tolerance_m = self.place, TOLERANCE_PX * self.source.gsd_m
        return objective(quick_scores(features, place.truth, place.area, tolerance_m), self.discrete)


def passing(result: Refined | None, gate: Gate) -> Refined | None:
    """The result without its outline where it does not reach what the gate asks."""
    if result is None:
        return None
    v = result.verdict
    passes = v.iou_pred >= gate.iou_pred and v.stability >= gate.stability and v.agreement >= gate.agreement
    return result if passes else replace(result, outline=None)


def _labelled(scene: Path, labels: str, within: str | None, bands: Sequence[int] | None) -> Labelled:
    source = Source.open(scene, bands)
    truth = _layer(labels, source)
    bounds = shapely.box(*source.geobox.boundingbox.bbox)
    area = bounds if within is None else shapely.intersection(bounds, _layer(within, source).union_all())
    if area.is_empty:
        raise ThemeError(f"{within} lies beside {scene}; give the ground within which every object is drawn")
    return Labelled(scene, truth, area, bands=bands)


def _layer(path: str, source: Source) -> gpd.GeoDataFrame:
    try:
        layer = gpd.read_parquet(path) if path.endswith(".parquet") else gpd.read_file(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise ThemeError(f"cannot read labels from {path}: {str(error).splitlines()[0]}") from error
    if layer.crs is None or layer.empty or not layer.geom_type.isin(["Polygon", "MultiPolygon"]).all():
        raise ThemeError(f"{path} must hold polygons with a CRS; give a layer of every object in the scene")
    return layer[["geometry"]].to_crs(source.crs)

"""The search for a theme's settings on labelled scenes, and the verb `tune`."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from hybridseg.errors import ThemeError
from hybridseg.files import check_output, replacing
from hybridseg.labels.labelled import Labelled, read_labelled
from hybridseg.metrics.summary import Summary, summarise
from hybridseg.read.opening import open_scene
from hybridseg.run.progress import Progress, Quiet
from hybridseg.run.request import Paths, join_arguments, parse_bands
from hybridseg.run.survey import Survey
from hybridseg.shape import AsTraced
from hybridseg.tables import Refined
from hybridseg.theme import Theme, load_theme, theme_path
from hybridseg.types import Settings as Model
from hybridseg.what import other_kinds
from hybridseg.where.gate import Gate

Settings = dict[str, Any]
GATES: Mapping[str, Sequence[float]] = {
    "agreement": (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    "iou_pred": (0.0, 0.4, 0.5, 0.6, 0.7, 0.8),
    "stability": (0.0, 0.5, 0.6, 0.7, 0.8, 0.9),
}
LEAST_GAIN = 1e-3
"""A value must gain this much over the one at hand, so that noise does not move it."""
ROUNDS = 2
"""Times that all settings are gone through, one by one."""


def ascend(
    start: Settings, choices: Mapping[str, Sequence[Any]], score: Callable[[Settings], float]
) -> tuple[Settings, float]:
    """The best settings found, and their score. Each call of `score` is one try; the same settings are tried once."""
    tried: dict[tuple[Any, ...], float] = {}

    def value(settings: Settings) -> float:
        key = tuple(settings[name] for name in sorted(settings))
        if key not in tried:
            tried[key] = score(settings)
        return tried[key]

    best, reached = dict(start), value(dict(start))
    for _ in range(ROUNDS):
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


TOLERANCE_PX = 2
PARTS = {
    True: [("box", "hint"), ("box", "points", "hint")],
    False: [("hint",), ("points", "hint")],  # boxes of lakes and road networks hold mostly something else
}
"""Parts of prompts that are tried, by whether objects count one by one."""
QUIET = Quiet()


def write_theme(theme: Theme, out: Path, comment: str) -> Path:
    """Write a theme's settings, those that differ from the defaults, under a line of comment; return the path.

    Raises:
        OutputError: the file cannot be written.
    """
    settings = theme.model_dump(mode="json", exclude_defaults=True)
    for part in ("objects", "shape"):
        if part in settings:
            settings[part] = {"kind": getattr(theme, part).kind, **settings[part]}
    settings.pop("by_bands", None)  # what follows was found for this classifier
    with replacing(out) as beside:
        beside.write_text(f"# {comment}\n" + yaml.safe_dump(settings, sort_keys=False))
    return out


def search_theme(
    start: Theme, places: Sequence[Labelled], refiner: str, device: str = "auto", progress: Progress = QUIET
) -> tuple[Theme, str]:
    """Return the theme with the best settings found, and a line that says what they score.

    Args:
        start: the theme to start from.
        places: labelled scenes, not those that the classifier was trained on.
        refiner: the one to search with; the theme gets `none` where the coarse outlines score better.
        device: auto, cpu, cuda, mps.
        progress: told how far the search is.

    Raises:
        ThemeError: the theme has nothing to search, or its classifier does not know its class.
    """
    if not start.objects.choices():
        raise ThemeError(f"theme {start.name} finds objects by {start.objects.kind}, which has nothing to tune")
    trials = []
    progress.start("heatmaps", len(places), "scenes")
    for place in places:
        survey = Survey.open(place.scene, start, refiner, device, ground=place.extent)
        survey.heatmap()
        trials.append(Trial(place, survey))
        progress.step()
    progress.start("search objects", None, "settings tried")
    coarse, coarse_score = _search_objects(start, trials, progress)
    progress.start("search prompts", len(PARTS[start.counted]), "kinds, each with its gate")
    refined, score = _search_refining(coarse, trials, progress)
    name = refiner if score > coarse_score else "none"
    best = refined if score > coarse_score else coarse
    report = f"coarse {coarse_score:.3f}, refined {score:.3f} (object F1 or area IoU, plus half of boundary F1)"
    return best.model_copy(update={"refiner": name, "shape": start.shape}), report


def _search_objects(theme: Theme, trials: Sequence[Trial], progress: Progress) -> tuple[Theme, float]:
    """The best way to find objects, with the best of its settings."""
    kinds = [theme.objects, *(other_kinds(theme.objects) if theme.counted else ())]
    # shaping takes long and moves outlines little: the search goes without it
    tried = [theme.model_copy(update={"objects": kind, "shape": AsTraced()}) for kind in kinds]
    found = [_search_kind(one, trials, progress) for one in tried]
    return max(found, key=lambda pair: pair[1])


def _search_kind(theme: Theme, trials: Sequence[Trial], progress: Progress) -> tuple[Theme, float]:
    choices = theme.objects.choices()

    def with_objects(settings: Settings) -> Theme:
        return theme.model_copy(update={"objects": theme.objects.model_copy(update=settings)})

    def score(settings: Settings) -> float:
        progress.step()
        return objective([trial.coarse(with_objects(settings)) for trial in trials], theme.counted)

    best, reached = ascend(settings_of(theme.objects, choices), choices, score)
    return with_objects(best), reached


def _search_refining(theme: Theme, trials: Sequence[Trial], progress: Progress) -> tuple[Theme, float]:
    """Prompts first, each with its best gate: a gate is searched without refining again."""
    best, reached = theme, -1.0
    for chosen in PARTS[theme.counted]:
        candidate = theme.with_prompts(parts=frozenset(chosen))
        refined = [trial.refine(candidate) for trial in trials]

        def score(settings: Settings, theme: Theme = candidate, refined: Sequence[Refined] = refined) -> float:
            gated = theme.model_copy(update={"gate": Gate(**settings)})
            pairs = zip(trials, refined, strict=True)
            return objective([trial.score(gated, masks) for trial, masks in pairs], theme.counted)

        gate, value = ascend(settings_of(theme.gate, GATES), GATES, score)
        progress.step()
        if value > reached:
            best, reached = candidate.model_copy(update={"gate": Gate(**gate)}), value
    return best, reached


@dataclass(frozen=True)
class Trial:
    """A labelled scene with its survey, whose heatmap is there; settings are tried on it."""

    place: Labelled
    survey: Survey

    def coarse(self, theme: Theme) -> Summary:
        """Score a theme's coarse outlines."""
        survey = replace(self.survey, theme=theme)
        return self.score(theme, Refined.from_prompts(survey.prompts()))

    def refine(self, theme: Theme) -> Refined:
        """Return the masks of a theme's prompts."""
        survey = replace(self.survey, theme=theme)
        return survey.refine(survey.prompts())

    def score(self, theme: Theme, refined: Refined) -> Summary:
        """Score masks with a theme's gate and shape."""
        survey, place = replace(self.survey, theme=theme), self.place
        features = survey.features(refined).rows
        return summarise(features, place.truth, place.area, TOLERANCE_PX * survey.scene.gsd_m)


def tune(
    theme: str,
    out: Path,
    *,
    scene: Paths,
    labels: Paths,
    within: Paths | None = None,
    bands: str | None = None,
    refiner: str = "sam2-lite",
    device: str = "auto",
    progress: Progress | None = None,
) -> Path:
    """Find a theme's thresholds, prompts and gate on labelled scenes, and write them as a theme's YAML.

    Args:
        theme: what to start from: a name or the path of a theme's YAML.
        out: the YAML to write; then `hybridseg extract SCENE OUT --theme FILE`.
        scene: one raster or several; not those that the classifier was trained on.
        labels: layer with every object of the theme, one for each scene, in order.
        within: polygon layer inside which every object is drawn, one for each scene; default: the whole scene.
        bands: numbers of the red, green and blue bands, as in 4,3,2.
        refiner: as for extract; the theme gets `none` where the coarse outlines score better.
        device: auto, cpu, cuda, mps.
        progress: told how far the search is (Python only).

    Returns:
        the path of the YAML.

    Raises:
        HybridsegError: bad input; one line that says what came, what is allowed and what to do.
    """
    start, chosen = load_theme(theme), parse_bands(bands)
    given = join_arguments(scene, labels, within)
    check_output(out, (".yaml", ".yml"), [theme_path(theme), *(path for of_scene in given for path in of_scene)])
    places: list[Labelled] = []
    for path, layer, area in given:
        opened = open_scene(path, bands=chosen)
        places.append(read_labelled(opened, layer, {start.label: None}, complete_within=area).of_class(start.label))
    best, report = search_theme(start, places, refiner, device, progress or Quiet())
    scenes = ", ".join(Path(place.scene.name).name for place in places)
    return write_theme(best.model_copy(update={"name": out.stem}), out, f"{start.name} tuned on {scenes}: {report}")

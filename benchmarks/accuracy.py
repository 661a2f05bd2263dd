"""Coarse only, box prompts only, the full hybrid, and everything mode labelled by the heatmap, side by side.

python -m benchmarks.accuracy [DATA [THEME ...]] [--left-out]      writes benchmarks/results/accuracy.md and .json

On places that trained no weight, each with the theme that ships, whose thresholds these places helped to choose. With
--left-out each gets thresholds that other places chose (docs/validation.md; an hour or more on two cores), and
left_out.md and .json are written instead. Both layers are clipped to where the reference speaks.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from benchmarks.places import Place, places
from benchmarks.validation import Validation, grid_of
from hybridseg import extract
from hybridseg.evaluation.picture import against_truth, draw_features
from hybridseg.metrics.lines import apls
from hybridseg.metrics.objects import match
from hybridseg.metrics.summary import clip_polygons, summarise
from hybridseg.metrics.touching import groups_touching, united
from hybridseg.shape import AsTraced, Lines
from hybridseg.theme import Theme, load_theme
from hybridseg.what import Grid
from hybridseg.where.gate import Gate

RESULTS = Path(__file__).parent / "results"
REFINER = "sam2-lite"
RUNS: dict[str, dict[str, Any]] = {
    "coarse only": {"refiner": "none"},
    "box prompts only": {"refiner": REFINER, "prompts": "box"},
    "hybrid": {"refiner": REFINER},
    "everything": {"refiner": REFINER, "everything": True},
}
TOLERANCE_PX = 2
ROAD_TOLERANCE_PX = 3
_HEAD = (
    f"F1 at IoU 0.5; boundary F1 at {TOLERANCE_PX} source pixels; relaxed F1 of roads at {ROAD_TOLERANCE_PX} pixels, "
    "APLS of their centrelines (4 m); joined F1: buildings that touch count as one on both sides."
)
_CHOSEN = {
    "accuracy": "Made by `make scores`: themes as they ship; these places helped to choose their thresholds.",
    "left_out": "Made by `python -m benchmarks.accuracy ../shared/data --left-out`: each place with thresholds that "
    "the other places of its theme chose (docs/validation.md).",
}
FIGURES = ("f1", "precision", "recall", "mean_iou", "area_iou", "boundary_f1")


def measure(place: Place, theme: Theme, run: str, work: Path, picture: Path | None = None) -> dict[str, float]:
    """Scores of one run on one place, with a theme's settings."""
    settings = dict(RUNS[run])
    variant = everything(theme) if settings.pop("everything", False) else theme
    path = work / f"{theme.name}-variant.yaml"
    path.write_text(variant.to_yaml())
    features = extract(place.scene, theme=path, extent=place.extent, **settings).features
    pixel_m = place.scene.gsd_m
    scores = summarise(features, place.truth, place.area, TOLERANCE_PX * pixel_m).to_dict()
    pred, truth = clip_polygons(features, place.area), clip_polygons(place.truth, place.area)
    scores["refined"] = float((pred["origin"] == "refined").mean()) if len(pred) else 0.0
    if place.theme == "buildings":  # fields, too, touch, but no mask has a whole parish as one
        layers = (pred.geometry.to_numpy(), truth.geometry.to_numpy())
        scores["joined_f1"] = match(*(united(layer, groups_touching(layer)) for layer in layers)).f1
    if picture is not None:
        draw_features(Path(place.scene.name), against_truth(pred, truth), picture)
    if place.theme == "roads":
        scores["relaxed_f1"] = relaxed_f1(pred.geometry, truth.geometry, ROAD_TOLERANCE_PX * pixel_m)
        lines = extract(place.scene, theme=path, extent=place.extent, as_="lines", **settings).features
        scores["apls"] = apls(lines.clip(place.area).geometry.to_numpy(), centrelines(truth).to_numpy())
    return scores


def centrelines(surfaces: gpd.GeoDataFrame) -> gpd.GeoSeries:
    """Middles of reference surfaces, by the same thinning as the result's; nothing is joined across gaps."""
    return Lines(join_gap_m=0).network(surfaces.assign(**{"class": "road", "score": 1.0})).lines.geometry


def relaxed_f1(pred: gpd.GeoSeries, truth: gpd.GeoSeries, tolerance_m: float) -> float:
    """F1 of ground within a tolerance of the other's (Mnih 2013, Machine Learning for Aerial Image Labeling, 2.4)."""
    found, real = shapely.union_all(pred.to_numpy()), shapely.union_all(truth.to_numpy())
    precision = found.intersection(real.buffer(tolerance_m)).area / max(found.area, 1e-9)
    recall = real.intersection(found.buffer(tolerance_m)).area / max(real.area, 1e-9)
    return 2 * precision * recall / max(precision + recall, 1e-9)


def everything(theme: Theme) -> Theme:
    """A theme's variant in everything mode: a grid of lone points, half a usual object apart."""
    object_m = {"buildings": 12.0, "solar": 10.0, "fields": 300.0, "water": 160.0, "roads": 120.0}[theme.name]
    policy = Grid(step_m=object_m / 2, object_m=object_m, min_area_m2=theme.objects.min_area_m2)
    gate = Gate(iou_pred=theme.gate.iou_pred, stability=theme.gate.stability, agreement=0)
    prompts = theme.prompts.model_copy(update={"parts": frozenset({"points"})})
    return theme.model_copy(update={"objects": policy, "gate": gate, "prompts": prompts, "shape": AsTraced()})


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    head = ("theme", "place", "run", "objects", "found", *FIGURES, "joined_f1", "relaxed_f1", "apls", "settings")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row.get(name, "") for name in head]
        lines.append(f"| {' | '.join(f'{c:.3f}' if isinstance(c, float) else str(c) for c in cells)} |")
    return "\n".join(lines)


def spread(rows: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over the places of each theme and run, as Markdown."""
    lines = ["| theme | run | places | F1 (roads: within 3 px; water: IoU) | least | boundary F1 |", "|" + "---|" * 6]
    for theme, run in dict.fromkeys((row["theme"], row["run"]) for row in rows):
        mine = [row for row in rows if (row["theme"], row["run"]) == (theme, run)]
        main = np.array([row[{"roads": "relaxed_f1", "water": "area_iou"}.get(theme, "f1")] for row in mine])
        edge = np.array([row["boundary_f1"] for row in mine])
        lines.append(
            f"| {theme} | {run} | {len(mine)} | {main.mean():.3f} ± {main.std():.3f} | {main.min():.3f} | "
            f"{edge.mean():.3f} ± {edge.std():.3f} |"
        )
    return "\n".join(lines)


def settings_of(theme: Theme, found: list[Place], left_out: bool) -> dict[str, Theme]:
    """The theme for each place: as it ships, or with the thresholds that the other places chose."""
    if not left_out:
        return {place.name: theme for place in found}
    chosen, final = Validation(theme, found).themes()
    print(theme.name, "settings from all places:", final.objects, final.gate, flush=True)
    return chosen


def main(data: Path, themes: list[str], left_out: bool = False) -> None:
    """Measure and write the tables; rows of themes not asked for stay as they were."""
    RESULTS.mkdir(exist_ok=True)
    name_of = "left_out" if left_out else "accuracy"
    path = RESULTS / f"{name_of}.json"
    with tempfile.TemporaryDirectory() as folder:
        found = places(data, Path(folder))
        for name in themes:
            mine = [place for place in found if place.theme == name]
            settings, rows = settings_of(load_theme(name), mine, left_out), []
            for place in mine:
                if place.trained:
                    continue
                objects = settings[place.name].objects
                chosen = objects.model_dump(include=set(grid_of(objects))) if left_out else "as shipped"
                for run in ("coarse only", "hybrid") if left_out else RUNS:
                    scores = measure(place, settings[place.name], run, Path(folder))
                    rows.append({"theme": name, "place": place.name, "run": run, **scores, "settings": chosen})
                    print(rows[-1], flush=True)
            write(path, [r for r in _rows(path) if r["theme"] != name] + rows, f"{_CHOSEN[name_of]} {_HEAD}")


def write(path: Path, rows: list[dict[str, Any]], head: str) -> None:
    """Write rows as JSON and, with their means, as Markdown."""
    rows.sort(key=lambda row: row["theme"])
    path.write_text(json.dumps(rows, indent=1) + "\n")
    path.with_suffix(".md").write_text(f"{head}\n\n{spread(rows)}\n\n{table(rows)}\n")


def _rows(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text()) if path.exists() else []


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--left-out"] or ["../shared/data"]
    main(Path(words[0]), words[1:] or ["buildings", "fields", "roads", "solar", "water"], "--left-out" in sys.argv[1:])

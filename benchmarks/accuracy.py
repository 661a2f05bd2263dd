"""Coarse only, box prompts only, the full hybrid, and everything mode labelled by the heatmap, side by side.

python -m benchmarks.accuracy [DATA [THEME ...]] [--as-shipped]      writes benchmarks/results/accuracy.md and .json

On places that trained no weight, each with thresholds that other places chose (docs/validation.md); that search takes
hours. With --as-shipped every place is measured with the theme that ships, whose thresholds these places helped to
choose. Both layers are clipped to where the reference speaks.
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
from benchmarks.validation import OBJECTS, Validation
from hybridseg import extract
from hybridseg.evaluation.picture import against_truth, draw_features
from hybridseg.metrics.lines import apls
from hybridseg.metrics.summary import clip_polygons, summarise
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
    f"Made by `make scores`. F1 at IoU 0.5; boundary F1 at {TOLERANCE_PX} source pixels; relaxed F1 of roads at "
    f"{ROAD_TOLERANCE_PX} pixels, APLS of their centrelines (4 m). Of rows as shipped, and of those that name no "
    "settings, the thresholds were chosen on these places, too; the others follow docs/validation.md."
)
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
    head = ("theme", "place", "run", "objects", "found", *FIGURES, "relaxed_f1", "apls", "settings")
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


def settings_of(theme: Theme, found: list[Place], as_shipped: bool) -> dict[str, Theme]:
    """The theme for each place: as it ships, or with the thresholds that the other places chose."""
    if as_shipped:
        return {place.name: theme for place in found}
    chosen, final = Validation(theme, found).themes()
    print(theme.name, "settings from all places:", final.objects, final.gate, flush=True)
    return chosen


def main(data: Path, themes: list[str], as_shipped: bool = False) -> None:
    """Measure and write the tables; rows of themes not asked for stay as they were."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "accuracy.json"
    rows = [r for r in json.loads(path.read_text()) if r.get("theme") not in themes] if path.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        found = places(data, Path(folder))
        for name in themes:
            mine = [place for place in found if place.theme == name]
            settings = settings_of(load_theme(name), mine, as_shipped)
            for place in mine:
                if place.trained:
                    continue
                objects = settings[place.name].objects
                chosen = "as shipped" if as_shipped else objects.model_dump(include=set(OBJECTS[objects.kind]))
                for run in RUNS:
                    scores = measure(place, settings[place.name], run, Path(folder))
                    rows.append({"theme": name, "place": place.name, "run": run, **scores, "settings": chosen})
                    print(rows[-1], flush=True)
    rows.sort(key=lambda r: r["theme"])
    print(spread(rows))
    path.write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / "accuracy.md").write_text(f"{_HEAD}\n\n{spread(rows)}\n\n{table(rows)}\n")


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--as-shipped"] or ["../shared/data"]
    main(
        Path(words[0]), words[1:] or ["buildings", "fields", "roads", "solar", "water"], "--as-shipped" in sys.argv[1:]
    )

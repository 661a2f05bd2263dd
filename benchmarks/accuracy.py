"""Coarse only, box prompts only, the full hybrid, and everything mode labelled by the heatmap, side by side.

python -m benchmarks.accuracy [DATA [THEME ...]]      writes benchmarks/results/accuracy.md and .json

On places that nothing was trained on. Both layers are clipped to where the reference speaks.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import geopandas as gpd
import shapely
import yaml

from benchmarks.places import Place, places
from hybridseg import extract
from hybridseg.evaluate.measure.quick import quick_scores, within
from hybridseg.evaluate.show.picture import against_truth, draw_features
from hybridseg.theme import Gate, GridPolicy, load_theme

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
FIGURES = ("f1", "precision", "recall", "mean_iou", "area_iou", "boundary_f1")


def measure(place: Place, run: str, work: Path, picture: Path | None = None) -> dict[str, float]:
    """Scores of one run on one place."""
    settings = dict(RUNS[run])
    theme = everything(place.theme, work) if settings.pop("everything", False) else place.theme
    features = extract(place.scene.path, None, theme=theme, extent=place.extent, **settings)
    pixel_m = place.scene.gsd_m
    scores = quick_scores(features, place.truth, place.area, TOLERANCE_PX * pixel_m)
    pred, truth = within(features, place.area), within(place.truth, place.area)
    scores["refined"] = float((pred["origin"] == "refined").mean()) if len(pred) else 0.0
    if picture is not None:
        draw_features(Path(place.scene.path), against_truth(pred, truth), picture)
    if place.theme == "roads":
        scores["relaxed_f1"] = relaxed_f1(pred.geometry, truth.geometry, ROAD_TOLERANCE_PX * pixel_m)
    return scores


def relaxed_f1(pred: gpd.GeoSeries, truth: gpd.GeoSeries, tolerance_m: float) -> float:
    """F1 of ground within a tolerance of the other's (Mnih 2013, Machine Learning for Aerial Image Labeling, 2.4)."""
    found, real = shapely.union_all(pred.to_numpy()), shapely.union_all(truth.to_numpy())
    precision = found.intersection(real.buffer(tolerance_m)).area / max(found.area, 1e-9)
    recall = real.intersection(found.buffer(tolerance_m)).area / max(real.area, 1e-9)
    return 2 * precision * recall / max(precision + recall, 1e-9)


def everything(name: str, work: Path) -> str:
    """A theme's variant in everything mode: a grid of lone points, half a usual object apart."""
    theme = load_theme(name)
    object_m = {"buildings": 12.0, "solar": 10.0, "fields": 300.0, "water": 160.0, "roads": 120.0}[name]
    policy = GridPolicy(step_m=object_m / 2, object_m=object_m, min_area_m2=theme.objects.min_area_m2)
    gate = Gate(iou_pred=theme.gate.iou_pred, stability=theme.gate.stability, agreement=0)
    prompts = theme.prompts.model_copy(update={"parts": frozenset({"points"})})
    variant = theme.model_copy(update={"objects": policy, "gate": gate, "prompts": prompts, "shape": "none"})
    path = work / f"{name}-everything.yaml"
    path.write_text(yaml.safe_dump(variant.model_dump(mode="json")))
    return str(path)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    head = ("theme", "place", "run", "objects", "found", *FIGURES, "relaxed_f1")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row.get(name, "") for name in head]
        lines.append(f"| {' | '.join(f'{c:.3f}' if isinstance(c, float) else str(c) for c in cells)} |")
    return "\n".join(lines)


def main(data: Path, themes: list[str]) -> None:
    """Measure and write the table; rows of themes not asked for stay as they were."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "accuracy.json"
    rows = [r for r in json.loads(path.read_text()) if r.get("theme") not in themes] if path.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        for place in places(data, Path(folder)):
            if place.theme not in themes:
                continue
            for run in RUNS:
                scores = measure(place, run, Path(folder))
                rows.append({"theme": place.theme, "place": place.name, "run": run, **scores})
                print(rows[-1], flush=True)
    rows.sort(key=lambda r: r["theme"])
    path.write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / "accuracy.md").write_text(
        f"Made by `make scores`. F1 at IoU 0.5; boundary F1 at {TOLERANCE_PX} source pixels; relaxed F1 of roads at "
        f"{ROAD_TOLERANCE_PX} pixels.\n\n{table(rows)}\n"
    )


if __name__ == "__main__":
    arguments = sys.argv[1:] or ["../shared/data"]
    main(Path(arguments[0]), arguments[1:] or ["buildings", "fields", "roads", "solar", "water"])

"""Coarse only, box prompts only and the full hybrid against reference data, on places that nothing was trained on.

python -m benchmarks.accuracy ../shared/data      writes benchmarks/results/accuracy.md and .json
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import shapely

from hybridseg import extract
from hybridseg.evaluate.boundary import boundary_f1
from hybridseg.evaluate.objects import area_iou, match
from hybridseg.evaluate.picture import against_truth, draw_features
from hybridseg.read.source import Source

RESULTS = Path(__file__).parent / "results"
RUNS = {
    "coarse only": {"refiner": "none"},
    "box prompts only": {"prompts": "box"},
    "hybrid": {},
}
TOLERANCE_PX = 2


@dataclass(frozen=True)
class Place:
    """A scene with its reference; `extent` (the scene's CRS) where only a part was kept from training."""

    name: str
    scene: str
    reference: str
    extent: tuple[float, float, float, float] | None = None


PLACES = [
    # web map tile column x = 386695 at zoom 19
    Place(
        "Banepa, val column",
        "banepa_z19.tif",
        "banepa_buildings.geojson",
        (9520308.309970, 3202329.3, 9520384.746976, 3202940.8),
    ),
    Place("Kampala west", "kampala_west_z20.tif", "kampala_west_buildings.geojson"),
]


def measure(place: Place, folder: Path, settings: dict[str, str], picture: Path | None = None) -> dict[str, float]:
    """Scores of one run on one place; both layers are clipped to the place first."""
    scene = folder / "scenes" / place.scene
    source = Source.open(scene)
    pred = extract(scene, None, extent=place.extent, **settings)
    truth = gpd.read_file(folder / "scenes" / place.reference).to_crs(pred.crs)
    area = shapely.box(*(place.extent or source.geobox.boundingbox.bbox))
    pred, truth = _clip(pred, area), _clip(truth, area)
    if picture is not None:
        draw_features(scene, against_truth(pred, truth), picture)
    metric = truth.estimate_utm_crs()
    pred, truth = pred.to_crs(metric), truth.to_crs(metric)
    found = match(pred.geometry, truth.geometry)
    edges = boundary_f1(pred.geometry, truth.geometry, TOLERANCE_PX * source.gsd_m)
    return {
        "objects": len(truth), "found": len(pred), "precision": found.precision, "recall": found.recall, "f1": found.f1,
        "mean_iou": found.mean_iou, "boundary_f1": edges.f1, "area_iou": area_iou(pred.geometry, truth.geometry),
        "refined": float((pred["origin"] == "refined").mean()) if len(pred) else 0.0,
    }  # fmt: skip


def _clip(features: gpd.GeoDataFrame, area: shapely.Polygon) -> gpd.GeoDataFrame:
    features = features.set_geometry(features.geometry.make_valid())
    return features.clip(area).explode().query("geometry.geom_type == 'Polygon'").reset_index(drop=True)


def main(data: Path) -> None:
    """Measure everything and write the table."""
    RESULTS.mkdir(exist_ok=True)
    rows = []
    for place in PLACES:
        for run, settings in RUNS.items():
            rows.append({"place": place.name, "run": run, **measure(place, data, settings)})
            print(rows[-1], flush=True)
    (RESULTS / "accuracy.json").write_text(json.dumps(rows, indent=1) + "\n")
    columns = ("f1", "precision", "recall", "mean_iou", "boundary_f1", "area_iou")
    head = f"| place | run | objects | found | {' | '.join(columns)} |"
    lines = [head, "|" + "---|" * (len(columns) + 4)]
    for row in rows:
        values = " | ".join(f"{row[c]:.3f}" for c in columns)
        lines.append(f"| {row['place']} | {row['run']} | {row['objects']} | {row['found']} | {values} |")
    (RESULTS / "accuracy.md").write_text(
        "Made by `make scores`. F1 at IoU 0.5; boundary F1 at 2 source pixels.\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"))

"""What one encoding for both sweeps saves, and what it costs: a head on the refiner's own encoder, Banepa.

python -m benchmarks.once [DATA]      writes benchmarks/results/once.json

A linear head is fitted on the western third; both ways map the rest, one after the other. Where windows are shared,
objects are refined at the GSD of the sweep; where each object has its own, at the zoom that suits it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import geopandas as gpd
import rasterio
import shapely

from hybridseg.finetuning.run import finetune
from hybridseg.metrics.summary import summarise
from hybridseg.run.extract import extract
from hybridseg.search import write_theme
from hybridseg.theme import load_theme

RESULTS = Path(__file__).parent / "results" / "once.json"
TOLERANCE_M = 0.3


def main(data: Path) -> None:
    """Fit, map both ways, write."""
    scene = data / "scenes" / "banepa_z19.tif"
    with rasterio.open(scene) as file:
        left, bottom, right, top = file.bounds
    truth = gpd.read_file(data / "scenes" / "banepa_buildings.geojson").to_crs("EPSG:3857")[["geometry"]]
    third = left + (right - left) / 3
    rest = (third + 10, bottom, right, top)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        truth.to_file(work / "labels.gpkg")
        gpd.GeoDataFrame(geometry=[shapely.box(left, bottom, third, top)], crs=truth.crs).to_file(work / "within.gpkg")
        model = finetune(
            scene=str(scene), labels=str(work / "labels.gpkg"), theme="buildings", backbone="sam2", out=work / "model",
            complete_within=str(work / "within.gpkg"), search_settings=False, refiner="sam2-lite", quiet=True,
        ).folder  # fmt: skip
        theme = load_theme(model / "theme.yaml")
        extract(scene, None, model=model, extent=(third + 10, top - 50, third + 60, top))  # warms up
        for windows in ("own", "shared"):
            path = write_theme(theme.with_prompts(windows=windows), work / f"{windows}.yaml", f"windows: {windows}")
            result = extract(scene, None, theme=path, extent=rest)
            scores = summarise(result.features, truth, shapely.box(*rest), TOLERANCE_M).to_dict()
            took = result.summary.seconds
            found[windows] = {
                **{name: round(float(scores[name]), 3) for name in ("f1", "boundary_f1", "objects")},
                **{f"{sweep}_s": round(took[sweep], 1) for sweep in ("classify", "refine")},
            }
            print(windows, found[windows], flush=True)
    for windows in found.values():
        windows["times_the_time_of_own"] = round(_both(windows) / _both(found["own"]), 2)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def _both(took: dict[str, float]) -> float:
    return took["classify_s"] + took["refine_s"]


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"))

"""Memory by the number of objects: what the second sweep and the join hold beside the pixels.

    python -m benchmarks.objects [--traced] [OBJECTS ...]      writes benchmarks/results/objects.json

Rendered prompts (octagons of 10 m on a grid of 15 m) go through `Survey.refine` with an engine that gives each support
back as its mask, so that no network and no imagery hide what the tables take; then they are joined and shaped as the
theme buildings says, or left as traced, and written. Each count runs in a process of its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from affine import Affine

from benchmarks.accuracy import RESULTS
from hybridseg import Survey, load_theme, open_scene
from hybridseg.nn.models import Models
from hybridseg.read.scene import Scene
from hybridseg.read.tiles import transformed
from hybridseg.run.engine import Done
from hybridseg.run.store import Store
from hybridseg.run.tasks import RefineTask
from hybridseg.tables import Prompts
from hybridseg.types import NetworkSpec
from hybridseg.write.result import write_result

CRS, LEFT, TOP, STEP_M, GSD_M = "EPSG:32645", 500_000, 3_000_000, 15, 0.3
SPEC = NetworkSpec(("building",), stride=2, snap_px=32, gsd_m=0.25, coarsest_gsd_m=0.6)


@dataclass(frozen=True)
class Echo:
    """An engine that gives each support back as its mask."""

    def run(self, tasks: Sequence[Any], store: Store) -> Iterator[Done]:
        """Yield the masks of refining; other tasks are done."""
        for task in tasks:
            if not isinstance(task, RefineTask):
                yield Done(task, task())
                continue
            supports = np.array([p.support for p in task.prompts])
            outlines = transformed(supports, task.scene.geobox.affine)
            figures = dict.fromkeys(("iou_pred", "stability", "agreement"), 0.9)
            yield Done(task, gpd.GeoDataFrame(pd.DataFrame(figures, range(len(outlines))), geometry=outlines, crs=CRS))


def prompts(count: int) -> Prompts:
    """So many octagons on a grid."""
    return Prompts.from_batches(
        (_some(count, np.arange(count)[k : k + 10_000]) for k in range(0, count, 10_000)), count
    )


def _some(count: int, numbers: np.ndarray) -> gpd.GeoDataFrame:
    """Those of some numbers."""
    side = int(np.ceil(np.sqrt(count)))
    x = LEFT + STEP_M * (numbers % side + 0.5)
    y = TOP - STEP_M * (numbers // side + 0.5)
    points = shapely.points(x, y)
    frame = pd.DataFrame({"id": [f"building-{k:09d}" for k in numbers], "class": "building", "score": 0.9})
    frame = frame.assign(peak_x=x, peak_y=y, positive=shapely.multipoints(points[:, None], axis=1))
    frame["negative"] = shapely.multipoints(shapely.points(np.stack([x + 15, y], 1))[:, None], axis=1)
    frame["support"] = shapely.buffer(points, 5, quad_segs=2)
    return Prompts.from_frame(frame, CRS).rows


def empty_raster(path: Path, side_m: int) -> Path:
    """Write a raster over the grid, of which no block takes room on the disk."""
    side_px = int(np.ceil(side_m / GSD_M))
    profile = {"driver": "GTiff", "width": side_px, "height": side_px, "count": 3, "dtype": "uint8", "crs": CRS}
    where = {"transform": Affine(GSD_M, 0, LEFT, 0, -GSD_M, TOP), "photometric": "rgb", "tiled": True}
    with rasterio.open(path, "w", sparse_ok=True, **profile, **where):
        return path


def rss_gb() -> float:
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure(count: int, traced: bool) -> dict[str, float]:
    """Peaks after each step (GB), beyond what was held before the first."""
    side = int(np.ceil(np.sqrt(count))) * STEP_M
    with tempfile.TemporaryDirectory() as folder:
        return _measured(count, side, traced, open_scene(empty_raster(Path(folder) / "empty.tif", side), nodata="none"))


def _measured(count: int, side: int, traced: bool, scene: Scene) -> dict[str, Any]:
    classifier = SimpleNamespace(spec=SPEC, sha256="0" * 64, name="none", card={})
    refiner = SimpleNamespace(sha256="0" * 64, size_px=512, mask_px=128, name="echo")
    theme = load_theme("buildings").shaped("traced" if traced else "regular")
    survey = Survey(scene, theme, Models(classifier, refiner), engine=Echo())  # type: ignore[arg-type]
    base, row = rss_gb(), {"objects": count, "shape": theme.shape.kind, "side_km": side / 1000}
    last = time.process_time()

    def lap(step: str) -> None:
        nonlocal last
        row[f"{step}_gb"], row[f"{step}_s"] = round(rss_gb() - base, 3), round(time.process_time() - last, 1)
        print(row, file=sys.stderr, flush=True)
        last = time.process_time()

    asked = prompts(count)
    lap("prompts")
    refined = survey.refine(asked)
    lap("refine")
    features = survey.features(refined)
    lap("features")
    assert len(features) == count, "each object once"
    del refined
    for suffix in ("gpkg", "parquet"):
        write_result(features.rows, survey.store.folder / f"map.{suffix}", {})
        lap(suffix)
    return row | {"process_gb": round(rss_gb(), 2)}


def main(counts: Sequence[int], traced: bool) -> None:
    """Measure each count in a process of its own, and write the result in place of a former one."""
    path = RESULTS / "objects.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    for count in counts:
        command = [sys.executable, "-m", "benchmarks.objects", "--one", str(count), *(["--traced"] if traced else [])]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        made = json.loads(done.stdout)
        print(made, flush=True)
        kept = [row for row in rows if (row["shape"], row["objects"]) != (made["shape"], made["objects"])]
        rows = sorted([*kept, made], key=lambda row: (row["shape"], row["objects"]))
        path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdecimal()]
    if "--one" in sys.argv:
        print(json.dumps(measure(numbers[0], "--traced" in sys.argv)))
    else:
        main(numbers or [10_000, 100_000, 1_000_000], "--traced" in sys.argv)

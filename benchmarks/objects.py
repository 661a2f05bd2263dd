"""Memory by the number of objects: what the second sweep and the join hold beside the pixels.

    python -m benchmarks.objects [OBJECTS ...]      writes benchmarks/results/objects.json

Rendered prompts (octagons of 10 m on a grid of 15 m) go through `Survey.refine` with an engine that gives each support
back as its mask, so that no network and no imagery hide what the tables take. Each count runs in a process of its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from benchmarks.accuracy import RESULTS
from hybridseg import Survey, load_theme, open_scene
from hybridseg.nn.models import Models
from hybridseg.run.engine import Done
from hybridseg.run.store import Store
from hybridseg.run.tasks import RefineTask
from hybridseg.shape import AsTraced
from hybridseg.tables import Prompts
from hybridseg.types import NetworkSpec

CRS, LEFT, TOP, STEP_M = "EPSG:32645", 500_000, 3_000_000, 15
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
            to_crs = task.scene.geobox.affine
            outlines = [shapely.affinity.affine_transform(p.support, to_crs.to_shapely()) for p in task.prompts]
            figures = dict.fromkeys(("iou_pred", "stability", "agreement"), 0.9)
            yield Done(task, gpd.GeoDataFrame(pd.DataFrame(figures, range(len(outlines))), geometry=outlines, crs=CRS))


def prompts(count: int) -> Prompts:
    """So many octagons on a grid."""
    side = int(np.ceil(np.sqrt(count)))
    x = LEFT + STEP_M * (np.arange(count) % side + 0.5)
    y = TOP - STEP_M * (np.arange(count) // side + 0.5)
    points = shapely.points(x, y)
    frame = pd.DataFrame({"id": [f"building-{k:09d}" for k in range(count)], "class": "building", "score": 0.9})
    frame = frame.assign(peak_x=x, peak_y=y, positive=shapely.multipoints(points[:, None], axis=1))
    frame["negative"] = shapely.multipoints(shapely.points(np.stack([x + 15, y], 1))[:, None], axis=1)
    frame["support"] = shapely.buffer(points, 5, quad_segs=2)
    return Prompts.from_frame(frame, CRS)


def rss_gb() -> float:
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure(count: int) -> dict[str, float]:
    """Peaks after each step (GB), beyond what was held before the first."""
    side = int(np.ceil(np.sqrt(count))) * STEP_M
    pixels = np.broadcast_to(np.uint8(9), (3, 64, 64))
    grid = GeoBox((64, 64), Affine(0.3, 0, LEFT, 0, -0.3, TOP), CRS)
    scene = open_scene(np.ascontiguousarray(pixels), geobox=grid)
    classifier = SimpleNamespace(spec=SPEC, sha256="0" * 64, name="none", card={})
    refiner = SimpleNamespace(sha256="0" * 64, size_px=512, mask_px=128, name="echo")
    theme = load_theme("buildings").model_copy(update={"shape": AsTraced()})
    survey = Survey(scene, theme, Models(classifier, refiner), engine=Echo())  # type: ignore[arg-type]
    base, begun = rss_gb(), time.process_time()
    asked = prompts(count)
    table = rss_gb() - base
    refined = survey.refine(asked)
    refining = rss_gb() - base
    features = survey.features(replace(refined))
    assert len(features) == count, "each object once"
    return {
        "objects": count, "side_km": side / 1000, "prompts_gb": round(table, 3), "refine_gb": round(refining, 3),
        "features_gb": round(rss_gb() - base, 3), "cpu_s": round(time.process_time() - begun, 1),
    }  # fmt: skip


def main(counts: Sequence[int]) -> None:
    """Measure each count in a process of its own, and write the result."""
    rows = []
    for count in counts:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.objects", "--one", str(count)],
            check=True,
            capture_output=True,
            text=True,
        )
        rows.append(json.loads(done.stdout))
        print(rows[-1], flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "objects.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(int(sys.argv[2]))))
    else:
        main([int(word) for word in sys.argv[1:]] or [10_000, 100_000, 1_000_000])

"""How long an evaluation of many polygons against as many takes.

python -m benchmarks.evaluate_speed [100000]      writes benchmarks/results/evaluate_speed.json
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from hybridseg.evaluation import evaluate

RESULTS = Path(__file__).parent / "results"
SPACING_M = 18.0
LIMIT_S = 120.0


def houses(n: int, seed: int = 0) -> gpd.GeoDataFrame:
    """L-shaped houses of 6 corners, 8 to 16 m long, in rows: some touch and some overlap, as maps have them."""
    rng = np.random.default_rng(seed)
    width, height = rng.uniform(8, 16, (2, n))
    corners = np.array([[0, 0], [1, 0], [1, 0.5], [0.5, 0.5], [0.5, 1], [0, 1]])
    local = corners * np.stack([width, height], axis=-1)[:, None]
    turn = rng.uniform(0, 0.3, n)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    place = np.stack(np.divmod(np.arange(n), round(n**0.5)), axis=-1) * SPACING_M + rng.uniform(0, 3, (n, 2))
    outlines = np.einsum("ijn,nkj->nki", rotation, local) + place[:, None] + [500_000, 5_000_000]
    classes = np.where(rng.random(n) < 0.8, "house", "shed")
    return gpd.GeoDataFrame({"class": classes}, geometry=shapely.polygons(outlines), crs="EPSG:32633")


def mapped(truth: gpd.GeoDataFrame, seed: int = 1) -> gpd.GeoDataFrame:
    """The same drawn by another hand: each corner off by half a metre, a tenth elsewhere, with scores."""
    rng = np.random.default_rng(seed)
    outlines = shapely.get_coordinates(truth.geometry.to_numpy()).reshape(len(truth), -1, 2)
    outlines[:, :-1] += rng.normal(0, 0.5, outlines[:, :-1].shape) + rng.normal(0, 0.5, (len(truth), 1, 2))
    outlines[:, -1] = outlines[:, 0]
    outlines[rng.random(len(truth)) < 0.1] += SPACING_M / 2
    geometry = shapely.make_valid(shapely.polygons(outlines))
    return truth.set_geometry(gpd.GeoSeries(geometry, crs=truth.crs)).assign(score=rng.uniform(0, 1, len(truth)))


def main(n: int) -> None:
    """Time one evaluation and write what it took."""
    truth = houses(n)
    pred = mapped(truth)
    wall, cpu = time.perf_counter(), time.process_time()
    report = evaluate(pred, truth)
    result = {
        "polygons": [len(pred), len(truth)],
        "wall_s": round(time.perf_counter() - wall, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "limit_s_at_100000": LIMIT_S,
        "load_before": round(os.getloadavg()[2], 1),
        "cores": os.cpu_count(),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "f1": report["f1"],
        "notes": report.notes,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "evaluate_speed.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)

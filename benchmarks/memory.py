"""Peak memory of extractions from square rasters: does it grow with the raster?

    python -m benchmarks.memory [SIDE_PX@GSD_M ...]      default 4096@0.25 20000@0.05; writes results/memory.json

A raster repeats a rendered town; the command line runs in a process of its own, whose peak and seconds of processor
time are those that the kernel reports. The peak is that of the largest window of the first sweep: 16 Mpx at 0.25 m, as
400 at 0.05 m, are a square kilometre, which has windows with their whole halo; a smaller raster has smaller windows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rasterio
from rasterio.windows import Window

from benchmarks.accuracy import RESULTS
from townscape import render_town

TOWN_PX = 1024
SHOWN = ("windows_classified", "windows_in_raster", "windows_refined", "prompts", "features", "runtime")


def repeat_town(path: Path, side_px: int, gsd_m: float) -> None:
    """A tiled GeoTIFF of `side_px` squared, filled with one town again and again, without overviews."""
    town = render_town(TOWN_PX, gsd_m, seed=5, density=0.5)
    profile = {
        "driver": "GTiff", "width": side_px, "height": side_px, "count": 3, "dtype": "uint8", "tiled": True,
        "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1, "photometric": "rgb",
        "crs": str(town.geobox.crs), "transform": town.geobox.affine,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        for row in range(0, side_px, TOWN_PX):
            for col in range(0, side_px, TOWN_PX):
                height, width = min(TOWN_PX, side_px - row), min(TOWN_PX, side_px - col)
                file.write(town.image[:, :height, :width], window=Window(col, row, width, height))


def measure(side_px: int, gsd_m: float) -> dict[str, Any]:
    """Extract from a raster of this side."""
    with tempfile.TemporaryDirectory() as folder:
        scene, out = Path(folder) / "large.tif", Path(folder) / "large.gpkg"
        repeat_town(scene, side_px, gsd_m)
        command = [sys.executable, "-m", "hybridseg", "extract", str(scene), str(out), "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            summary = json.loads(process.stdout.read())
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "side_px": side_px, "gsd_m": gsd_m, "mpx": round(side_px**2 / 1e6),
        "peak_resident_gb": round(used.ru_maxrss / 1e6, 2),
        "cpu_minutes": round((used.ru_utime + used.ru_stime) / 60, 1), **{key: summary[key] for key in SHOWN},
    }  # fmt: skip


def main(rasters: Sequence[tuple[int, float]]) -> None:
    """Measure and write the results."""
    rows = []
    for side_px, gsd_m in rasters:
        rows.append(measure(side_px, gsd_m))
        print(rows[-1], flush=True)
        (RESULTS / "memory.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    asked = [word.split("@") for word in sys.argv[1:] or ("4096@0.25", "20000@0.05")]
    main([(int(side_px), float(gsd_m)) for side_px, gsd_m in asked])

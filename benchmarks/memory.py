"""Peak memory of one extraction from a raster of 20,000 x 20,000 px.

    python -m benchmarks.memory [SIDE_PX]      writes benchmarks/results/memory.json

The raster repeats a rendered town (0.05 m, as drones see it); the command line runs in a process of its own, whose peak
is the one that the kernel reports.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import rasterio
from rasterio.windows import Window

from benchmarks.accuracy import RESULTS
from townscape import render_town

TOWN_PX = 1024
SHOWN = ("windows_classified", "windows_in_raster", "windows_refined", "prompts", "features")


def repeat_town(path: Path, side_px: int) -> None:
    """A tiled GeoTIFF of `side_px` squared, filled with one town again and again, without overviews."""
    town = render_town(TOWN_PX, 0.05, seed=5, density=0.5)
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


def main(side_px: int) -> None:
    """Measure and write the result."""
    with tempfile.TemporaryDirectory() as folder:
        scene, out = Path(folder) / "large.tif", Path(folder) / "large.gpkg"
        repeat_town(scene, side_px)
        command = [sys.executable, "-m", "hybridseg", "extract", str(scene), str(out), "--json"]
        begun = time.monotonic()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        summary = json.loads(done.stdout)
    result = {
        "side_px": side_px, "peak_resident_gb": round(peak_gb, 2), "minutes": round((time.monotonic() - begun) / 60, 1),
        **{key: summary[key] for key in SHOWN},
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "memory.json").write_text(json.dumps(result, indent=1) + "\n")
    print(result)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)

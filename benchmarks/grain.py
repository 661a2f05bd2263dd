"""The grain of the figures: how far a map of buildings moves where nothing on the ground does.

    python -m benchmarks.grain [DATA]      writes benchmarks/results/grain.json

Kampala's scene is mapped as it is, and with its georeference moved by one pixel, in 16 bits instead of 8, and with its
rows from south to north. Each object of the first map is held to the one of the other that it agrees with best (IoU,
after the move is taken back).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
import shapely
from affine import Affine

from benchmarks.accuracy import RESULTS
from hybridseg import extract
from hybridseg.metrics.objects import overlaps

SCENE = "scenes/kampala_west_z20.tif"


def variants(scene: Path, folder: Path) -> dict[str, tuple[Path, tuple[float, float]]]:
    """Files of the same ground by what they differ in, and how far each was moved (in units of the CRS)."""
    with rasterio.open(scene) as file:
        pixels, affine, crs = file.read(), file.transform, file.crs
    step = affine * (1, 1) - np.array(affine * (0, 0))
    south_up = affine * Affine.translation(0, pixels.shape[1]) * Affine.scale(1, -1)
    asked = {
        "as it is": (pixels, affine, (0.0, 0.0)),
        "moved by a pixel": (pixels, affine * Affine.translation(1, 1), tuple(step)),
        "16 bits": (pixels.astype(np.uint16) * 16, affine, (0.0, 0.0)),
        "south-up": (pixels[:, ::-1], south_up, (0.0, 0.0)),
    }
    found = {}
    for name, (values, transform, moved) in asked.items():
        path = folder / f"{name.replace(' ', '-')}.tif"
        shape = {"count": values.shape[0], "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
        with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **shape) as file:
            file.write(values)
        found[name] = path, moved
    return found


def main(data: Path) -> None:
    """Map each and write how they agree."""
    rows, first = [], None
    with tempfile.TemporaryDirectory() as folder:
        for name, (path, moved) in variants(data / SCENE, Path(folder)).items():
            geometry = extract(path, theme="buildings").features.geometry.to_numpy()
            geometry = shapely.transform(geometry, lambda xy, by=moved: xy - np.array(by))
            first = geometry if first is None else first
            pairs, best = overlaps(first, geometry), np.zeros(len(first))
            np.maximum.at(best, pairs.pred, pairs.ious)
            rows.append({
                "scene": name, "objects": len(geometry), "mean_iou": round(float(best.mean()), 3),
                "found_again": round(float((best >= 0.5).mean()), 3),
            })  # fmt: skip
            print(rows[-1], flush=True)
    (RESULTS / "grain.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"))

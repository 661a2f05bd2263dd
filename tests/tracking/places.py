"""A place with ponds at several dates, in four bands, whose water is known exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from scipy import ndimage as ndi

CRS = "EPSG:32614"
LEFT, TOP, PIXEL_M = 486000.0, 5209000.0, 5.0
SIDE = 256
ASKED = {"theme": "water", "model": "index:ndwi@0,20", "refiner": "none", "bands": "red=1,green=2,blue=3,nir=4"}
"""Water by its index: no network."""

Box = tuple[int, int, int, int]
"""Row, column, height and width in pixels."""


def ground(seed: int = 0) -> np.ndarray:
    """(4, H, W) of land with edges that stay from date to date."""
    rng = np.random.default_rng(seed)
    fields = ndi.zoom(rng.uniform(0.5, 1.5, (16, 16)), SIDE / 16, order=0)
    grain = ndi.gaussian_filter(rng.normal(0, 12, (SIDE, SIDE)), 0.7)
    return np.clip(np.array([90, 80, 70, 150])[:, None, None] * fields + grain, 1, 255)


def write(
    path: Path, ponds: list[Box], shift_px: tuple[int, int] = (0, 0), light: float = 1.0, **profile: object
) -> Path:
    """Write a scene with ponds; its pixels lie `shift_px` (right, down) off where they belong."""
    image = ground() * light
    for row, col, height, width in ponds:
        image[:, row : row + height, col : col + width] = np.array([20, 60, 70, 10])[:, None, None]
    image = np.roll(image, shift_px[::-1], (1, 2))
    settings = {
        "driver": "GTiff",
        "photometric": "minisblack", "alpha": "no", "count": 4, "height": SIDE, "width": SIDE,
        "dtype": "uint8", "crs": CRS,
        "transform": Affine(PIXEL_M, 0, LEFT, 0, -PIXEL_M, TOP),
    } | profile  # fmt: skip
    with rasterio.open(path, "w", **settings) as file:
        file.write(np.clip(image, 1, 255).astype(np.uint8))
    return path


def area_m2(*boxes: Box) -> float:
    return sum(height * width for _, _, height, width in boxes) * PIXEL_M**2

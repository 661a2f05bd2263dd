"""Makes the rendered scenes of this folder, on which the embedded models find what their themes look for.

    python -m tests.data.render

They stand in for the labelled imagery beside the project, which not everybody has. They are kept as files, and not
made anew for each test, so that they are the same on every machine. Nothing is measured on them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from scipy import ndimage as ndi

SIDE = 384
"""Side of the scenes in pixels."""
GSD_M = {"fields": 2.5, "roads": 1.0, "solar": 0.3, "water": 3.0}

CROPS = [
    (110, 120, 60), (150, 140, 95), (90, 110, 50), (170, 160, 120), (70, 90, 45), (130, 110, 75), (120, 140, 70),
    (185, 170, 110),
]  # fmt: skip
ROOFS = [(170, 160, 150), (120, 80, 70), (150, 150, 155), (110, 105, 100)]

Image = np.ndarray
"""(3, H, W) float, RGB from 0 to 255."""


def noise(seed: int, scale_px: float) -> np.ndarray:
    """(SIDE, SIDE) of mean 0 and deviation 1, smooth over so many pixels."""
    field = ndi.gaussian_filter(np.random.default_rng(seed).normal(size=(SIDE, SIDE)), scale_px)
    return np.asarray((field - field.mean()) / field.std())


def ground(colour: tuple[int, int, int], seed: int, contrast: float) -> Image:
    """A surface of one colour with texture of three sizes."""
    texture = 0.5 * noise(seed, 0.7) + 0.6 * noise(seed + 1, 3) + 0.8 * noise(seed + 2, 12)
    return np.array(colour)[:, None, None] + contrast * texture * np.array([1, 1, 0.8])[:, None, None]


def render_fields() -> Image:
    """Fields in skew columns, with stripes of the plough and dark hedges between them."""
    rng = np.random.default_rng(3)
    rows, cols = np.mgrid[:SIDE, :SIDE]
    along, across = rows * np.cos(0.3) - cols * np.sin(0.3), cols * np.cos(0.3) + rows * np.sin(0.3)
    column = np.searchsorted(np.cumsum(rng.integers(40, 110, 20)) - 300, across)
    number = np.zeros((SIDE, SIDE), int)
    for k in range(21):
        ends = np.cumsum(rng.integers(30, 100, 40)) - 500
        number[column == k] = 41 * k + np.searchsorted(ends, along[column == k])
    crops = np.array(CROPS)[rng.integers(0, len(CROPS), number.max() + 1)]
    image = np.moveaxis(crops[number].astype(float), -1, 0) + 3 * np.sin(1.1 * along) + ground((0, 0, 0), 1, 4)
    hedge = ndi.binary_dilation(ndi.morphological_gradient(number, 3) > 0)
    return np.where(hedge, ground((60, 75, 40), 8, 8), image)


def render_water() -> Image:
    """Lakes with a green shore among fields."""
    lake = noise(5, 22) > 1.0
    shore = ndi.binary_dilation(lake, iterations=3) & ~lake
    image = np.where(shore, ground((62, 84, 44), 3, 6), render_fields())
    return np.where(lake, ground((30, 48, 60), 9, 0.7), image)


def render_roads() -> Image:
    """Streets that cross, and one that does not, with houses and trees between them."""
    rng = np.random.default_rng(4)
    rows, cols = np.mgrid[:SIDE, :SIDE]
    road = np.zeros((SIDE, SIDE), bool)
    streets = [(0, 80, 383, 110), (0, 290, 383, 265), (100, 0, 125, 383), (310, 0, 290, 383), (155, 335, 260, 350)]
    for x0, y0, x1, y1 in streets:
        along = (((cols - x0) * (x1 - x0) + (rows - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2)).clip(0, 1)
        road |= np.hypot(cols - x0 - along * (x1 - x0), rows - y0 - along * (y1 - y0)) < 4.5
    image = ground((88, 100, 66), 1, 14)
    for _ in range(170):
        x, y, width, height = *rng.integers(0, SIDE, 2), *rng.integers(8, 16, 2)
        if not road[max(0, y - 10) : y + height + 10, max(0, x - 10) : x + width + 10].any():
            image[:, y : y + height, x : x + width] = np.array(ROOFS[rng.integers(4)])[:, None, None]
    for _ in range(500):
        x, y, radius = *rng.integers(0, SIDE, 2), rng.uniform(2, 5)
        tree = np.hypot(cols - x, rows - y) < radius
        if not (tree & road).any():
            image[:, tree] = np.array([50, 70, 40])[:, None] + rng.normal(0, 6)
    return np.where(road, ground((135, 132, 130), 5, 4), image)


def render_solar() -> Image:
    """Flat roofs with rows of dark modules."""
    rng = np.random.default_rng(6)
    image = ground((120, 110, 92), 1, 10)
    roof, module = ground((175, 172, 168), 11, 3), ground((38, 46, 74), 15, 3)
    module[:, :, ::7] += 25
    for top in (30, 150, 270):
        for left in (30, 150, 270):
            image[:, top - 15 : top + 90, left - 15 : left + 95] = roof[:, top - 15 : top + 90, left - 15 : left + 95]
            for row in range(top, top + 20 * int(rng.integers(2, 5)), 20):
                width = int(rng.integers(50, 78))
                image[:, row : row + 14, left : left + width] = module[:, row : row + 14, left : left + width]
                image[:, row + 7, left : left + width] += 20
    return image


RENDER: dict[str, Callable[[], Image]] = {
    "fields": render_fields,
    "roads": render_roads,
    "solar": render_solar,
    "water": render_water,
}


def write(theme: str, folder: Path) -> Path:
    """Write the scene of a theme as a GeoTIFF of JPEG tiles."""
    gsd_m, path = GSD_M[theme], folder / f"{theme}.tif"
    pixels = ndi.gaussian_filter(RENDER[theme](), (0, 0.5, 0.5)).clip(0, 255).astype(np.uint8)
    profile = {
        "driver": "GTiff", "width": SIDE, "height": SIDE, "count": 3, "dtype": "uint8", "crs": "EPSG:32631",
        "transform": Affine(gsd_m, 0, 500_000, 0, -gsd_m, 5_000_000), "tiled": True, "blockxsize": 128,
        "blockysize": 128, "compress": "jpeg", "jpeg_quality": 80, "photometric": "ycbcr",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels)
    return path


if __name__ == "__main__":
    for name in RENDER:
        write(name, Path(__file__).parent)

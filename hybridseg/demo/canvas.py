"""The plan of a town and the surfaces it is painted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from affine import Affine
from PIL import Image
from rasterio.features import rasterize
from scipy import ndimage
from shapely import Polygon
from shapely.geometry.base import BaseGeometry

OVERSAMPLE = 2
Rgb = tuple[float, float, float]
Wing = tuple[float, float, float, float]
"""A rectangle on a house's own axes: x, y of its centre, length, depth (m)."""


@dataclass(frozen=True)
class Style:
    """How a region looks.

    soil, grass: sRGB. roofs: weights of materials. flat: share of terraces among white roofs; above a half also more
    storeys. hip: share among pitched roofs. palms: share among trees. lush: leaning to soil (negative) or grass.
    """

    soil: Rgb
    grass: Rgb
    roofs: dict[str, float]
    flat: float
    hip: float
    palms: float
    lush: float


@dataclass(frozen=True)
class House:
    """One building: `frame` is (x, y, angle) of its own axes, `wings` the rectangles it is made of."""

    roof: Polygon
    kind: str
    height_m: float
    frame: tuple[float, float, float]
    wings: tuple[Wing, ...]
    form: str
    material: str


@dataclass(frozen=True)
class Street:
    """A piece of road: its centreline, width (m) and whether it is paved."""

    line: BaseGeometry
    width_m: float
    paved: bool


@dataclass(frozen=True)
class Plan:
    """What is on the ground, in metres east and north of the scene's lower left corner; plots as (polygon, use)."""

    shape_px: tuple[int, int]
    gsd_m: float
    style: Style
    streets: Sequence[Street]
    plots: Sequence[tuple[Polygon, str]]
    houses: Sequence[House]


class Canvas:
    """Albedo (linear light) and height (m above ground) at OVERSAMPLE times the final resolution, to paint on.

    rgb: (h, w, 3) float32, 0..1; z: (h, w) float32. grain, patch and cloud are noise of mean 0 and deviation 1, of 0.3,
    3 and 14 m, that every brush draws its texture from.
    """

    def __init__(self, plan: Plan, rng: np.random.Generator) -> None:
        """Bare ground of the plan's size, with the noise that all brushes share."""
        self.plan, self.rng = plan, rng
        self.px = plan.gsd_m / OVERSAMPLE
        self.shape = (plan.shape_px[0] * OVERSAMPLE, plan.shape_px[1] * OVERSAMPLE)
        self.top = self.shape[0] * self.px
        self.transform = Affine(self.px, 0, 0, 0, -self.px, self.top)
        self.rgb = np.zeros((*self.shape, 3), np.float32)
        self.z = np.zeros(self.shape, np.float32)
        grain = ndimage.gaussian_filter(rng.standard_normal(self.shape, np.float32), max(0.15 / self.px, 0.5))
        self.grain = grain / (grain.std() + 1e-6)
        self.cloud = self.noise(14, 5)
        self.patch = self.noise(3, 4)

    def noise(self, cell_m: float, octaves: int) -> np.ndarray:
        """Smooth noise with mean 0 and deviation 1: features of `cell_m`, then half of that, and so on."""
        total = np.zeros(self.shape, np.float32)
        for octave in range(octaves):
            cell = max(cell_m / 2**octave / self.px, 1)
            small = self.rng.standard_normal((int(self.shape[0] / cell) + 3, int(self.shape[1] / cell) + 3), np.float32)
            big = Image.fromarray(small).resize(self.shape[::-1], Image.Resampling.BICUBIC)
            total += np.asarray(big) * 0.62**octave
        return np.asarray((total - total.mean()) / (total.std() + 1e-6))

    def burn(self, shapes: Sequence[BaseGeometry]) -> np.ndarray:
        """(H, W) int32: 1 + the index of the last shape on each pixel's centre, 0 where none."""
        pairs = [(shape, i + 1) for i, shape in enumerate(shapes) if not shape.is_empty]
        if not pairs:
            return np.zeros(self.shape, np.int32)
        return np.asarray(rasterize(pairs, out_shape=self.shape, transform=self.transform, dtype="int32"))

    def offsets(self, window: tuple[slice, slice], x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
        """Metres east and north of (x, y) of the pixels in a window of (rows, cols): (1, w) and (h, 1)."""
        rows = np.arange(window[0].start, min(window[0].stop, self.shape[0]), dtype=np.float32)[:, None]
        cols = np.arange(window[1].start, min(window[1].stop, self.shape[1]), dtype=np.float32)[None, :]
        return (cols + 0.5) * self.px - x, self.top - (rows + 0.5) * self.px - y

    def blend(
        self,
        rgb: np.ndarray | Rgb,
        alpha: np.ndarray,
        texture: np.ndarray | float = 0.0,
        label: np.ndarray | None = None,
    ) -> None:
        """Lay a colour (sRGB) over the canvas with opacity `alpha`, its brightness varied by `texture`.

        With a `label`, (h, w) int, `rgb` is a table, (n, 3), of the colour of each.
        """
        hit = alpha > 0
        colour = linear(rgb) if label is None else linear(rgb)[label[hit]]
        shade = texture[hit][:, None] if isinstance(texture, np.ndarray) else np.float32(texture)
        under = self.rgb[hit]
        self.rgb[hit] = under + (colour * (1 + shade) - under) * alpha[hit][:, None]


def linear(rgb: np.ndarray | Rgb) -> np.ndarray:
    """Linear light 0..1 of sRGB 0..255."""
    return np.asarray((np.asarray(rgb, np.float32).clip(0, 255) / 255) ** 2.2, dtype=np.float32)


def shrink(array: np.ndarray) -> np.ndarray:
    """Mean of every OVERSAMPLE x OVERSAMPLE pixels."""
    k = OVERSAMPLE
    h, w = array.shape[0] // k, array.shape[1] // k
    return np.asarray(array[: h * k, : w * k].reshape(h, k, w, k, *array.shape[2:]).mean(axis=(1, 3)), dtype=np.float32)


def soft(x: np.ndarray) -> np.ndarray:
    """A step from 0 to 1 as x runs from -1 to 1."""
    t = np.clip((x + 1) / 2, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)

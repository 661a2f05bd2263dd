"""The surfaces that a town is painted on, and the light and camera that turn them into a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from affine import Affine
from PIL import Image
from rasterio.features import rasterize
from scipy import ndimage
from shapely.geometry.base import BaseGeometry

from townscape.plan import Plan, Rgb

OVERSAMPLE = 2
"""Painted pixels along a side of a pixel of the picture."""


class Canvas:
    """Albedo and height at OVERSAMPLE times the picture's resolution.

    Attributes:
        rgb: albedo in linear light, (h, w, 3) float32, 0..1.
        z: height above the ground in metres, (h, w) float32.
        grain, patch, cloud: noise of mean 0 and deviation 1 with features of 0.3, 3 and 14 m, the texture of
            everything painted, (h, w) float32.
        px: size of a painted pixel in metres.
        transform: from painted pixels to the plan's metres.
    """

    def __init__(self, plan: Plan, rng: np.random.Generator) -> None:
        """Make an empty canvas of the plan's size and draw its noise."""
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
        """Return smooth noise of mean 0 and deviation 1, (h, w): features of `cell_m`, half of that, and so on."""
        total = np.zeros(self.shape, np.float32)
        for octave in range(octaves):
            cell = max(cell_m / 2**octave / self.px, 1)
            small = self.rng.standard_normal((int(self.shape[0] / cell) + 3, int(self.shape[1] / cell) + 3), np.float32)
            big = Image.fromarray(small).resize(self.shape[::-1], Image.Resampling.BICUBIC)
            total += np.asarray(big) * 0.62**octave
        return np.asarray((total - total.mean()) / (total.std() + 1e-6))

    def burn(self, shapes: Sequence[BaseGeometry]) -> np.ndarray:
        """Return (h, w) int32: 1 + the index of the last shape that covers each pixel's centre, 0 for none."""
        pairs = [(shape, i + 1) for i, shape in enumerate(shapes) if not shape.is_empty]
        if not pairs:
            return np.zeros(self.shape, np.int32)
        return np.asarray(rasterize(pairs, out_shape=self.shape, transform=self.transform, dtype="int32"))

    def offsets(self, window: tuple[slice, slice], x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
        """Return how many metres east, (1, w), and north, (h, 1), of (x, y) the pixels of a (rows, cols) window lie."""
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
        """Lay a colour over the canvas.

        Args:
            rgb: the colour, sRGB 0..255; with `label` a table of them, (n, 3).
            alpha: opacity, (h, w), 0..1.
            texture: relative change of brightness, (h, w) or one number.
            label: row of the table for each pixel, (h, w) int.
        """
        hit = alpha > 0
        colour = linear(rgb) if label is None else linear(rgb)[label[hit]]
        shade = texture[hit][:, None] if isinstance(texture, np.ndarray) else np.float32(texture)
        under = self.rgb[hit]
        self.rgb[hit] = under + (colour * (1 + shade) - under) * alpha[hit][:, None]


def linear(rgb: np.ndarray | Rgb) -> np.ndarray:
    """Return linear light, 0..1, of sRGB, 0..255."""
    return np.asarray((np.asarray(rgb, np.float32).clip(0, 255) / 255) ** 2.2, dtype=np.float32)


def shrink(array: np.ndarray) -> np.ndarray:
    """Return the mean of every OVERSAMPLE x OVERSAMPLE pixels, (H, W, ...) float32."""
    k = OVERSAMPLE
    h, w = array.shape[0] // k, array.shape[1] // k
    return np.asarray(array[: h * k, : w * k].reshape(h, k, w, k, *array.shape[2:]).mean(axis=(1, 3)), dtype=np.float32)


def soft(x: np.ndarray) -> np.ndarray:
    """Return a smooth step, 0 to 1 as x goes from -1 to 1."""
    t = np.clip((x + 1) / 2, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def photograph(canvas: Canvas) -> np.ndarray:
    """Light the canvas by sun and sky and take the picture, (3, H, W) uint8."""
    return _develop(shrink(_lit(canvas)), canvas.rng)


def _lit(canvas: Canvas) -> np.ndarray:
    """Return the light that leaves each point, (h, w, 3): the sun with slopes and cast shadows, and the blue sky."""
    rng, z = canvas.rng, canvas.z
    azimuth, rise = rng.uniform(0, 2 * np.pi), float(np.tan(np.radians(rng.uniform(32, 66))))
    east, south = float(np.sin(azimuth)), -float(np.cos(azimuth))  # towards the sun, a step along columns and rows
    gy, gx = (np.clip(slope, -1.1, 1.1) for slope in np.gradient(z, canvas.px))
    facing = (1 - (gx * east + gy * south) / rise) / np.sqrt(1 + gx**2 + gy**2)
    direct = rng.uniform(0.4, 0.9)
    sun = np.clip(facing, 0, 1.6) * (1 - _shadow(z, (south, east), rise * canvas.px)) * np.float32(direct)
    around = ndimage.gaussian_filter(z[::2, ::2], 0.8 / canvas.px).repeat(2, 0).repeat(2, 1)
    sky = (1 - np.clip((around - z) / 4, 0, 0.7)) * np.float32(1 - direct)  # little of it reaches narrow gaps
    haze = 1 + 0.04 * canvas.cloud
    light = [(sun * warm + sky * cool) * haze for warm, cool in ((1.03, 0.96), (1.0, 1.05), (0.94, 1.17))]
    return np.asarray(canvas.rgb * np.stack(light, axis=2))


def _shadow(z: np.ndarray, towards: tuple[float, float], drop: float) -> np.ndarray:
    """Return the depth of shadow of each point, (h, w), 0 in the sun to 1 in full shadow.

    Args:
        z: heights, (h, w), metres.
        towards: step towards the sun along (rows, cols).
        drop: metres by which a ray of the sun sinks over one pixel.
    """
    top, reach = z.copy(), 1.0  # the reach doubles with each pass, so that few passes cover every distance
    h, w = z.shape
    while reach * drop < float(z.max()):
        dr, dc = round(towards[0] * reach), round(towards[1] * reach)
        if min(h - abs(dr), w - abs(dc)) <= 0:
            break
        here = (slice(max(0, -dr), min(h, h - dr)), slice(max(0, -dc), min(w, w - dc)))
        there = (slice(max(0, dr), min(h, h + dr)), slice(max(0, dc), min(w, w + dc)))
        higher = top.copy()
        higher[here] = np.maximum(top[here], top[there] - np.float32(np.hypot(dr, dc) * drop))
        top, reach = higher, reach * 2
    return soft((top - z - 0.35) / 0.3)


def _develop(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Expose: colour cast, haze, tone, blur, noise and perhaps JPEG, from (H, W, 3) light to (3, H, W) uint8."""
    light = light * np.clip(rng.uniform(0.14, 0.26) / light.mean(), 0.6, 1.8)
    light = light * rng.normal(1, 0.03, 3) + rng.uniform(0, 0.03) * np.array([0.9, 1.0, 1.1])
    tone = np.clip(light / (1 + 0.25 * light**2), 0, 1) ** (1 / rng.uniform(2.0, 2.4))
    tone += (tone - tone.mean(axis=2, keepdims=True)) * rng.uniform(-0.4, 0.1)
    blur = rng.uniform(0.5, 0.85)
    seen = ndimage.gaussian_filter(tone.astype(np.float32) * 255, (blur, blur, 0))
    noise = rng.standard_normal(seen.shape, np.float32)
    seen += (noise + 1.5 * ndimage.gaussian_filter(noise[::-1], (0.6, 0.6, 0))) * rng.uniform(0.8, 2.6)
    image = np.clip(np.round(seen), 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(rng.integers(72, 95)))
        image = np.asarray(Image.open(file))
    return np.ascontiguousarray(np.moveaxis(image, 2, 0))

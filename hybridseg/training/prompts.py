"""What a refiner is told in training, drawn from a mask: boxes, points and coarse supports with their usual faults."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage as ndi


def box_of(mask: np.ndarray, rng: np.random.Generator, jitter: float) -> tuple[float, ...]:
    """x0, y0, x1, y1 of a mask, each side moved by a share of the box's size."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x0, x1, y0, y1 = cols[0], cols[-1] + 1, rows[0], rows[-1] + 1
    move = rng.normal(0, jitter, 4) * (x1 - x0, y1 - y0, x1 - x0, y1 - y0)
    side = mask.shape[0]
    a, b, c, d = np.clip(np.array([x0, y0, x1, y1]) + move, 0, side)
    return float(min(a, c)), float(min(b, d)), float(max(a, c)), float(max(b, d))


def point_in(mask: np.ndarray, rng: np.random.Generator, within: np.ndarray | None = None) -> tuple[float, float]:
    """A pixel's centre inside the mask, half of the time a deep one, as a heatmap's peak is."""
    mask = mask if within is None else mask & within
    if not mask.any():
        return 0.5, 0.5
    if within is None and rng.random() < 0.6:
        deep = ndi.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        mask = deep >= 0.7 * deep.max()
    spots = np.flatnonzero(mask)
    y, x = divmod(int(spots[rng.integers(len(spots))]), mask.shape[1])
    return x + 0.5, y + 0.5


def covered(mask: np.ndarray) -> np.ndarray:
    """Share of each 4 x 4 px block that the mask covers, (S/4, S/4)."""
    side = mask.shape[0] // 4
    return mask.reshape(side, 4, side, 4).mean((1, 3))


def roughened(cover: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A coarse, shifted, swollen or shrunken version of a mask, as a heatmap would give."""
    side, size = cover.shape[0], np.sqrt(cover.sum())
    soft = ndi.gaussian_filter(cover.astype(np.float32), max(0.5, size * rng.uniform(0.03, 0.2)), truncate=3)
    soft = ndi.shift(soft, rng.normal(0, 0.06 * size, 2), order=1)
    grain = np.asarray(Image.fromarray(rng.normal(0, 1, (12, 12)).astype(np.float32)).resize((side, side), 2))
    rough = soft + 0.18 * grain * (soft > 0.02) > rng.uniform(0.3, 0.65)
    if rng.random() < 0.15:  # half of the object, as when a watershed splits it
        y, x = np.mgrid[:side, :side]
        cy, cx = ndi.center_of_mass(cover)
        angle = rng.uniform(0, 2 * np.pi)
        rough &= (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle) > -0.15 * size
    return rough if rough.any() else cover > 0

"""Pixels from one grid to another, minding which of them are valid.

GDAL's warper could do this, but through rasterio it is not quiet in threads (its in-memory datasets juggle Python's
warning filters), and its averages are a few hundredths of a pixel off. Along the axes both rules are a few lines.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from scipy import ndimage

_ALIGNED = 1e-6
_NOISE = 1 / 808
"""Means of whole numbers often end in exactly .5, and weights are often exactly a half. This much, itself no round
fraction, keeps the float noise of a window's own position from tossing a coin there."""


def ratios(to_source: Affine) -> tuple[float, float]:
    """Source pixels per target pixel along the source's columns and rows (above 1: zooming out)."""
    return math.hypot(to_source.a, to_source.b), math.hypot(to_source.d, to_source.e)


def resample(
    pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_], to_source: Affine, shape: tuple[int, int]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Average when zooming out, bilinear when zooming in; invalid pixels lend no colour to their neighbours.

    Colours are weighted by validity and divided by the weight afterwards; a target pixel is valid when half of its
    weight was. What a target pixel becomes depends on its own footprint only, not on the window it is asked for in.

    Args:
        pixels: (B, h, w) uint8 or float32, 0 where not valid.
        valid: (h, w) bool; all outside counts as not valid.
        to_source: from target to source pixel coordinates (corners of pixels whole).
        shape: (H, W) of the target.

    Returns:
        (B, H, W) of the pixels' dtype, 0 where not valid, and (H, W) bool. Floats are not rounded: the noise of a
        window's own position stays in their last digits.
    """
    aligned = _crop(pixels, valid, to_source, shape)
    if aligned is not None:
        return aligned
    weighted = np.concatenate([pixels, valid[None]]).astype(np.float32)
    a, b, c, d, e, f = tuple(to_source)[:6]
    if max(abs(b) * shape[0], abs(d) * shape[1]) < _ALIGNED:
        columns = _along(weighted, a, c, shape[1])
        out = _along(columns.swapaxes(1, 2), e, f, shape[0]).swapaxes(1, 2)
    else:
        out = _across(weighted, to_source, shape)
    inside = out[-1] > 0.5 - _NOISE
    colours = np.divide(out[:-1], out[-1], out=np.zeros_like(out[:-1]), where=inside)
    if pixels.dtype != np.uint8:
        return colours.astype(np.float32, copy=False), inside
    return np.floor(np.clip(colours, 0, 255) + 0.5 + _NOISE).astype(np.uint8), inside


def _crop(
    pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_], to_source: Affine, shape: tuple[int, int]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]] | None:
    """The same when the grids share their pixels, None when they do not."""
    col, row = round(to_source.c), round(to_source.f)
    if not to_source.almost_equals(Affine.translation(col, row), _ALIGNED):
        return None
    out, inside = np.zeros((len(pixels), *shape), pixels.dtype), np.zeros(shape, np.bool_)
    h, w = valid.shape
    rows = slice(max(0, row), max(0, min(h, row + shape[0])))
    cols = slice(max(0, col), max(0, min(w, col + shape[1])))
    if rows.start < rows.stop and cols.start < cols.stop:
        to = (slice(rows.start - row, rows.stop - row), slice(cols.start - col, cols.stop - col))
        out[:, *to] = pixels[:, rows, cols]
        inside[to] = valid[rows, cols]
    return out, inside


def _along(values: npt.NDArray[Any], scale: float, start: float, count: int) -> npt.NDArray[Any]:
    """`count` pixels along the last axis, each `scale` source pixels long, the first from `start`; 0 outside."""
    length = values.shape[-1]
    if abs(scale) > 1:
        # The mean over a footprint is the difference of the running sum at its two edges.
        edges = np.clip(start + scale * np.arange(count + 1), 0, length)
        whole = np.minimum(edges.astype(np.intp), length - 1)
        sums = np.cumsum(values, axis=-1, dtype=np.float64) - values  # before each pixel
        mean: npt.NDArray[Any] = np.diff(sums[..., whole] + values[..., whole] * (edges - whole)) / scale
        return mean
    centres = start + scale * (np.arange(count) + 0.5) - 0.5
    left = np.floor(centres).astype(np.intp)
    share = (centres - left).astype(np.float32)
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(1, 1)])
    first, second = (np.clip(left + step, 0, length + 1) for step in (1, 2))
    between: npt.NDArray[Any] = padded[..., first] * (1 - share) + padded[..., second] * share
    return between


def _across(values: npt.NDArray[Any], to_source: Affine, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """The same for grids turned against each other: the mean of bilinear samples, one a source pixel; 0 outside."""
    across, down = (math.ceil(max(1, math.hypot(*step)) - _ALIGNED) for step in (to_source[0::3], to_source[1::3]))
    out: npt.NDArray[Any] = np.zeros((len(values), *shape), np.float32)
    for dy in (np.arange(down) + 0.5) / down:
        for dx in (np.arange(across) + 0.5) / across:
            # Pixel indices count from centres, so half a pixel goes off; and arrays take rows first.
            a, b, c, d, e, f = tuple(to_source @ Affine.translation(dx, dy))[:6]
            for channel, total in zip(values, out, strict=True):
                total += ndimage.affine_transform(
                    channel, [[e, d], [b, a]], (f - 0.5, c - 0.5), shape, order=1, mode="grid-constant"
                )
    out /= across * down
    return out

"""From mask logits to an outline on the source's own pixel grid."""

from __future__ import annotations

import numpy as np
import shapely
from affine import Affine
from rasterio.features import rasterize, shapes
from scipy import ndimage as ndi

from hybridseg.read.scene import Scene
from hybridseg.types import Window

MOST_PX = 4096 * 4096
"""Pixels that an outline is traced on."""


def trace(
    logits: np.ndarray,
    window: Window,
    scene: Scene,
    valid: np.ndarray,
    support: shapely.Geometry | None,
    points: np.ndarray,
) -> shapely.Polygon | None:
    """Return the outline of one connected part of a mask, exactly along the scene's pixels.

    The logits are interpolated, not the mask, so the outline is finer than the decoder's grid. A mask that reaches over
    more than `MOST_PX` is traced on every second pixel, or third and so on, so that memory is bounded.

    Args:
        logits: (M, M) float32 over `window`.
        window: of the scene's pixels.
        scene: gives the pixel grid.
        valid: (S, S) bool over `window`.
        support: in pixels of the scene; the part that overlaps it most is taken.
        points: (P, 2) in pixels of the scene; without a support, the part under most of them is taken.

    Returns:
        a polygon in the scene's CRS, its holes kept; None when no valid pixel is inside.
    """
    part = _extent(logits > 0, window).clip(scene.window)
    if not part.width or not part.height:
        return None
    step = int(np.ceil(np.sqrt(part.width * part.height / MOST_PX)))
    y = np.arange(part.row, part.stop[1], step) + step / 2 - window.row
    x = np.arange(part.col, part.stop[0], step) + step / 2 - window.col
    inside = (_between(logits, y, x, window) > 0) & _nearest(valid, y, x, window)
    pieces, count = ndi.label(inside)
    if not count:
        return None
    wanted = shapely.multipoints(points) if support is None else support
    moved = shapely.transform(wanted, lambda xy: (xy - (part.col, part.row)) / step)
    coarse = rasterize([moved], out_shape=inside.shape, dtype=np.uint8).astype(bool)
    weight = np.bincount(pieces[coarse], minlength=count + 1) + 1e-6 * np.bincount(pieces.ravel(), minlength=count + 1)
    mine = pieces == 1 + int(np.argmax(weight[1:]))
    affine = scene.geobox.affine @ Affine.translation(part.col, part.row) @ Affine.scale(step)
    outlines = shapes(mine.astype(np.uint8), mask=mine, connectivity=4, transform=affine)
    outer, *holes = (shapely.linearrings(ring) for ring in next(outlines)[0]["coordinates"])
    return shapely.polygons(outer, holes or None)


def _extent(mask: np.ndarray, window: Window) -> Window:
    """Source pixels that a mask over `window` can reach, with one decoder pixel to spare."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return Window(window.col, window.row, 0, 0)
    step = window.width / mask.shape[0]
    x0, x1 = int(np.floor((cols[0] - 1) * step)), int(np.ceil((cols[-1] + 2) * step))
    y0, y1 = int(np.floor((rows[0] - 1) * step)), int(np.ceil((rows[-1] + 2) * step))
    return Window(window.col + x0, window.row + y0, x1 - x0, y1 - y0).clip(window)


def _between(values: np.ndarray, y: np.ndarray, x: np.ndarray, window: Window) -> np.ndarray:
    """Values (M, M) over a window, interpolated on rows y and columns x of its pixels; beyond the edge as on it."""
    side, last = len(values), len(values) - 1
    for at in (y, x):  # rows first, then the columns of what is left
        place = (at * (side / window.width) - 0.5).clip(0, last).astype(np.float32)
        before = np.minimum(place.astype(int), max(0, last - 1))
        share = (place - before)[:, None]
        values = (values[before] * (1 - share) + values[np.minimum(before + 1, last)] * share).T
    return values


def _nearest(valid: np.ndarray, y: np.ndarray, x: np.ndarray, window: Window) -> np.ndarray:
    """Validity (S, S) over a window, at rows y and columns x of its pixels."""
    scale = len(valid) / window.width
    rows, cols = ((at * scale).astype(int).clip(0, len(valid) - 1) for at in (y, x))
    return valid[np.ix_(rows, cols)]

"""From mask logits to an outline on the source's own pixel grid."""

from __future__ import annotations

import numpy as np
import shapely
from affine import Affine
from rasterio.features import rasterize, shapes
from scipy import ndimage as ndi

from hybridseg.read.scene import Scene
from hybridseg.types import Window


def trace(
    logits: np.ndarray,
    window: Window,
    scene: Scene,
    valid: np.ndarray,
    support: shapely.Geometry | None,
    points: np.ndarray,
) -> shapely.Polygon | None:
    """Return the outline of one connected part of a mask, exactly along the scene's pixels.

    The logits are interpolated, not the mask, so the outline is finer than the decoder's grid.

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
    scale = logits.shape[0] / window.width
    y = (np.arange(part.row, part.stop[1]) + 0.5 - window.row) * scale - 0.5
    x = (np.arange(part.col, part.stop[0]) + 0.5 - window.col) * scale - 0.5
    inside = ndi.map_coordinates(logits, np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest") > 0
    inside &= _nearest(valid, window, part)
    pieces, count = ndi.label(inside)
    if not count:
        return None
    wanted = shapely.multipoints(points) if support is None else support
    moved = shapely.transform(wanted, lambda xy: xy - (part.col, part.row))
    coarse = rasterize([moved], out_shape=inside.shape, dtype=np.uint8).astype(bool)
    weight = np.bincount(pieces[coarse], minlength=count + 1) + 1e-6 * np.bincount(pieces.ravel(), minlength=count + 1)
    mine = pieces == 1 + int(np.argmax(weight[1:]))
    affine = scene.geobox.affine @ Affine.translation(part.col, part.row)
    outlines = shapes(mine.astype(np.uint8), mask=mine, connectivity=4, transform=affine)
    return shapely.geometry.shape(next(outlines)[0])


def _extent(mask: np.ndarray, window: Window) -> Window:
    """Source pixels that a mask over `window` can reach, with one decoder pixel to spare."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return Window(window.col, window.row, 0, 0)
    step = window.width / mask.shape[0]
    x0, x1 = int(np.floor((cols[0] - 1) * step)), int(np.ceil((cols[-1] + 2) * step))
    y0, y1 = int(np.floor((rows[0] - 1) * step)), int(np.ceil((rows[-1] + 2) * step))
    return Window(window.col + x0, window.row + y0, x1 - x0, y1 - y0).clip(window)


def _nearest(valid: np.ndarray, window: Window, part: Window) -> np.ndarray:
    """Validity of the source pixels of `part`, from that of the window as the model saw it."""
    scale = valid.shape[0] / window.width
    y = ((np.arange(part.row, part.stop[1]) + 0.5 - window.row) * scale).astype(int)
    x = ((np.arange(part.col, part.stop[0]) + 0.5 - window.col) * scale).astype(int)
    return valid[np.ix_(y, x)]

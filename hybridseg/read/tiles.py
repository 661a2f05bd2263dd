"""The one windowing: cores that partition a grid, and windows of a grid at another zoom.

`Window.pad` gives a core its halo.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from hybridseg.types import Window


def tile(shape: tuple[int, int], core_px: int, offset_px: int = 0) -> list[Window]:
    """Return cores, row by row, that cover a grid exactly once.

    Args:
        shape: (H, W) of the grid.
        core_px: side of a core; those at the borders may be smaller.
        offset_px: shifts the lattice of cores, so that the first row and column hold `offset_px` mod `core_px` pixels.
            Results must not depend on it; it is there to show that.

    Raises:
        ValueError: when `core_px` is not positive.

    Example:
        >>> [w.col for w in tile((4, 10), core_px=4, offset_px=1)]
        [0, 1, 5, 9]
    """
    if core_px < 1:
        raise ValueError(f"core_px must be at least 1, got {core_px}")
    rows, cols = (_spans(length, core_px, offset_px % core_px) for length in shape)
    return [Window(c0, r0, c1 - c0, r1 - r0) for r0, r1 in rows for c0, c1 in cols]


def zoomed(geobox: GeoBox, window: Window, out_size_px: int | tuple[int, int]) -> GeoBox:
    """Return the grid of a window, resampled to a size.

    Args:
        geobox: the grid that the window counts pixels of.
        window: may reach beyond the grid.
        out_size_px: side, or (height, width).
    """
    height, width = (out_size_px, out_size_px) if isinstance(out_size_px, int) else out_size_px
    zoom = Affine.scale(window.width / width, window.height / height)
    return GeoBox((height, width), geobox.affine @ Affine.translation(window.col, window.row) @ zoom, geobox.crs)


def transformed(geometries: Any, affine: Affine) -> Any:
    """Return a geometry, or an array of them, with an affine applied: by `~geobox.affine`, from a CRS to pixels."""
    return shapely.transform(geometries, lambda xy: np.column_stack(affine @ (xy[:, 0], xy[:, 1])))


def _spans(length: int, step: int, first: int) -> list[tuple[int, int]]:
    """(start, stop) of the pieces of 0..length, the first one `first` long where that is not 0."""
    starts = sorted({0, *range(first, length, step)}) if length else []
    return list(zip(starts, [*starts[1:], length], strict=False))

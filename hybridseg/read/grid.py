"""The working grid, anchored in the CRS and not at the raster's corner."""

from __future__ import annotations

import math

from affine import Affine
from odc.geo.geobox import GeoBox

from hybridseg.errors import EmptySource
from hybridseg.read.source import Source

_TOL = 1e-6
"""Share of a snap that a bound may reach beyond a line of the grid and still count as on it."""
_TURN = 0.5 + 1 / 77
"""Where whole pixels turn. Not at a half: half-pixel origins are common, and noise would round each cut its own way."""


def pixel_anchor(geobox: GeoBox) -> tuple[int, int]:
    """(col0, row0): where a raster's first pixel lies on the lattice of its own pixels anchored at the CRS origin.

    In whole pixels. Two cuts of one raster have anchors that differ by exactly the cut's offset, so they agree on the
    place of every pixel they share. Works for rotated and south-up rasters alike.
    """
    a, b, c, d, e, f = tuple(geobox.affine)[:6]
    det = a * e - b * d
    return math.floor((e * c - b * f) / det + _TURN), math.floor((a * f - d * c) / det + _TURN)


def work_grid(
    source: Source, gsd_m: float, snap_px: int, bounds: tuple[float, float, float, float] | None = None
) -> GeoBox:
    """The north-up grid to classify on: pixels of `gsd_m` on the ground that just cover the bounds.

    Origin and extent are multiples of `snap_px` pixels counted from the CRS origin, so any two extents of a source, and
    any two sources in one CRS at one (whole) latitude, give grids that share their pixels and their snap lines.

    Args:
        source: gives CRS, scale and the default bounds.
        gsd_m: ground metres per pixel.
        snap_px: the network's stride.
        bounds: (left, bottom, right, top) in CRS units; default: the source's own.

    Raises:
        EmptySource: when the bounds are empty or do not touch the source.
    """
    whole = _bounds(source.geobox)
    left, bottom, right, top = bounds if bounds is not None else whole
    if not (left < right and bottom < top):
        raise EmptySource(f"the extent {left}, {bottom}, {right}, {top} is empty; give left, bottom, right, top")
    if left >= whole[2] or right <= whole[0] or bottom >= whole[3] or top <= whole[1]:
        spans = ", ".join(f"{v:.10g}" for v in whole)
        raise EmptySource(
            f"the extent {left:.10g}, {bottom:.10g}, {right:.10g}, {top:.10g} does not touch {source.path}, "
            f"which spans {spans} in {source.crs}"
        )
    mx, my = source.metres_per_unit
    px, py = gsd_m / mx, gsd_m / my  # CRS units per pixel
    col0, col1 = _snap(left / px, right / px, snap_px)
    row0, row1 = _snap(-top / py, -bottom / py, snap_px)
    return GeoBox((row1 - row0, col1 - col0), Affine(px, 0, col0 * px, 0, -py, -row0 * py), source.crs)


def _snap(low: float, high: float, snap_px: int) -> tuple[int, int]:
    """The multiples of `snap_px` that just enclose low..high (px)."""
    first = math.floor(low / snap_px + _TOL)
    last = math.ceil(high / snap_px - _TOL)
    return first * snap_px, max(last, first + 1) * snap_px


def _bounds(geobox: GeoBox) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) around all four corners, whatever the rotation."""
    a, b, c, d, e, f = tuple(geobox.affine)[:6]
    corners = [(col, row) for col in (0, geobox.width) for row in (0, geobox.height)]
    xs = [a * col + b * row + c for col, row in corners]
    ys = [d * col + e * row + f for col, row in corners]
    return min(xs), min(ys), max(xs), max(ys)

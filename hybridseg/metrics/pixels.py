"""Pixels of a map against pixels of the truth: a confusion matrix, the scores that follow, and grids to count on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from hybridseg.metrics.bootstrap import ratio
from hybridseg.read.tiles import tile
from hybridseg.types import Extent

_CORE_PX = 1024
_MOST_PIXELS = 2e8
_PIXELS_PER_SIDE = 20
_TOUCH_PX = 1e-6


def metric_grid(extent: Extent, crs: CRS, side_m: float) -> GeoBox:
    """Lay square pixels over an extent, anchored at the origin of the CRS.

    Args:
        extent: the ground to cover, in a CRS in metres.
        crs: that CRS.
        side_m: side of a typical object. A pixel is a twentieth of it, or larger where there would be more than 2e8.
    """
    left, bottom, right, top = extent
    pixel = max(side_m / _PIXELS_PER_SIDE, math.sqrt((right - left) * (top - bottom) / _MOST_PIXELS))
    pixel = float(f"{pixel:.2g}")
    col, row = math.floor(left / pixel), math.floor(-top / pixel)
    shape = max(1, math.ceil(-bottom / pixel) - row), max(1, math.ceil(right / pixel) - col)
    return GeoBox(shape, Affine(pixel, 0, col * pixel, 0, -pixel, -row * pixel), crs)


def crop(grid: GeoBox, geometries: np.ndarray) -> GeoBox:
    """Return the part of a grid that holds some geometries (n,) in its CRS; at least one pixel."""
    points = shapely.get_coordinates(shapely.envelope(geometries))
    cols, rows = np.array(tuple(~grid.affine)[:6]).reshape(2, 3) @ np.column_stack([points, np.ones(len(points))]).T
    (top, bottom), (left, right) = (
        np.clip([np.floor(v.min() + _TOUCH_PX), np.ceil(v.max() - _TOUCH_PX)], 0, size).astype(int)
        for v, size in zip((rows, cols), grid.shape, strict=True)
    )
    top, left = min(top, grid.height - 1), min(left, grid.width - 1)
    return grid[top : max(bottom, top + 1), left : max(right, left + 1)]


def confusion(
    pred: tuple[np.ndarray, np.ndarray],
    truth: tuple[np.ndarray, np.ndarray],
    n_classes: int,
    grid: GeoBox,
    area: BaseGeometry | None = None,
    ignore: BaseGeometry | None = None,
    core_px: int = _CORE_PX,
) -> Iterator[tuple[GeoBox, np.ndarray]]:
    """Count pixels by class of either side, window by window.

    A pixel belongs to the polygon that holds its centre; of several to the smallest, and of several as large to that
    of the lowest class. So the order of rows does not matter.

    Args:
        pred: (n,) polygons in the grid's CRS and (n,) int, the class of each, 0 to n_classes - 1.
        truth: the same of the truth.
        n_classes: number of classes.
        grid: the pixels.
        area: count only pixels in here (grid's CRS).
        ignore: do not count pixels in here.
        core_px: side of a window.

    Yields:
        A window's grid and its confusion matrix, (n_classes + 1, n_classes + 1) int64: true classes in rows, predicted
        ones in columns, 0 for none and k + 1 for class k.
    """
    sides = [_Painter(*_in_painting_order(*side)) for side in (pred, truth)]
    size = n_classes + 1
    for window in tile((grid.height, grid.width), core_px):
        part = grid[window.row : window.stop[1], window.col : window.stop[0]]
        of_pred, of_truth = (side.paint(part) for side in sides)
        pairs = (of_truth * size + of_pred)[_counted(part, area, ignore)]
        yield part, np.bincount(pairs, minlength=size * size).reshape(size, size)


def iou(matrix: np.ndarray) -> np.ndarray:
    """IoU of each class from confusion matrices (..., K + 1, K + 1): (..., K); nan for a class that does not occur."""
    both, of_truth, of_pred = _marginals(matrix)
    return ratio(both, of_truth + of_pred - both)


def f1(matrix: np.ndarray) -> np.ndarray:
    """F1 (Dice) of each class from confusion matrices (..., K + 1, K + 1): (..., K); nan where it does not occur."""
    both, of_truth, of_pred = _marginals(matrix)
    return ratio(2 * both, of_truth + of_pred)


def _marginals(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (pixels of both, of the truth, of the prediction) for each class but none."""
    both = np.diagonal(matrix, axis1=-2, axis2=-1)
    return both[..., 1:], matrix.sum(axis=-1)[..., 1:], matrix.sum(axis=-2)[..., 1:]


def _in_painting_order(polygons: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort polygons so that those painted last, on top, are the smallest, and of equal ones those of lowest class."""
    order = np.lexsort((-classes, -shapely.area(polygons)))
    return polygons[order], classes[order]


class _Painter:
    """Draws polygons on any window, later ones over earlier ones."""

    def __init__(self, polygons: np.ndarray, classes: np.ndarray) -> None:
        self.polygons, self.values = polygons, classes + 1
        self.index = shapely.STRtree(polygons)

    def paint(self, grid: GeoBox) -> np.ndarray:
        """Return (H, W) int32, 0 for none and k + 1 for class k."""
        near = np.sort(self.index.query(grid.extent.geom))
        if not len(near):
            return np.zeros(grid.shape, np.int32)
        # As GeoJSON, because rasterio converts polygons one by one in Python, five times slower.
        outlines = map(json.loads, shapely.to_geojson(self.polygons[near]))
        shapes = zip(outlines, self.values[near], strict=True)
        return np.asarray(rasterize(shapes, grid.shape, transform=grid.affine, dtype="int32"))


def _counted(grid: GeoBox, area: BaseGeometry | None, ignore: BaseGeometry | None) -> np.ndarray:
    """Return which pixels count, (H, W) bool."""
    counts = np.ones(grid.shape, bool)
    if area is not None:
        counts &= _inside(grid, [area])
    if ignore is not None:
        counts &= ~_inside(grid, shapely.get_parts([ignore]))
    return counts


def _inside(grid: GeoBox, parts: Sequence[BaseGeometry]) -> np.ndarray:
    """Return which pixels have their centre in any of the parts, (H, W) bool."""
    box = grid.extent.geom
    near = [part for part in parts if part.intersects(box)]
    if any(part.covers(box) for part in near):
        return np.ones(grid.shape, bool)
    if not near:
        return np.zeros(grid.shape, bool)
    return np.asarray(rasterize(near, grid.shape, transform=grid.affine, dtype="uint8"), dtype=bool)

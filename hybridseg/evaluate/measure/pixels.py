"""Pixels of a map against pixels of the truth: one table of counts, from which every score is one division."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from hybridseg.evaluate.measure.bootstrap import ratio
from hybridseg.read.tiles import tile

BACKGROUND = 0
_WINDOW_PX = 1024


def confusion(
    pred: tuple[np.ndarray, np.ndarray],
    ref: tuple[np.ndarray, np.ndarray],
    n_classes: int,
    grid: GeoBox,
    area: BaseGeometry | None = None,
    ignore: BaseGeometry | None = None,
    core_px: int = _WINDOW_PX,
) -> Iterator[tuple[GeoBox, np.ndarray]]:
    """Counts of pixels, window by window.

    A pixel belongs to the polygon over its centre; where there are several, to the smallest.

    Args:
        pred: (n,) polygons in the grid's CRS and (n,) int, the class of each, 0 to n_classes - 1.
        ref: the same of the reference.
        n_classes: how many classes there are.
        grid: the pixels.
        area: only pixels in here count (grid's CRS).
        ignore: pixels in here do not.
        core_px: side of a window.

    Yields:
        a window's grid, and (n_classes + 1, n_classes + 1) int64: pixels of each reference class (rows) that the map
        gives each class (columns), 0 for none, k + 1 for class k.
    """
    sides = [_Painter(*_large_first(*side)) for side in (pred, ref)]
    size = n_classes + 1
    for window in tile((grid.height, grid.width), core_px):
        part = grid[window.row : window.stop[1], window.col : window.stop[0]]
        of_pred, of_ref = (side.paint(part) for side in sides)
        pairs = (of_ref * size + of_pred)[_counted(part, area, ignore)]
        yield part, np.bincount(pairs, minlength=size * size).reshape(size, size)


def iou(table: np.ndarray) -> np.ndarray:
    """IoU of each class from confusions (..., K + 1, K + 1): (..., K); nan for a class that is nowhere."""
    both, of_ref, of_pred = _marginals(table)
    return ratio(both, of_ref + of_pred - both)


def f1(table: np.ndarray) -> np.ndarray:
    """F1 (Dice) of each class from confusions (..., K + 1, K + 1): (..., K); nan for a class that is nowhere."""
    both, of_ref, of_pred = _marginals(table)
    return ratio(2 * both, of_ref + of_pred)


def _marginals(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    both = np.diagonal(table, axis1=-2, axis2=-1)
    return both[..., 1:], table.sum(axis=-1)[..., 1:], table.sum(axis=-2)[..., 1:]


def _large_first(polygons: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In the order to paint in: the smallest last, on top."""
    order = np.argsort(-shapely.area(polygons), kind="stable")
    return polygons[order], classes[order]


class _Painter:
    """Polygons with an index, to be drawn on any window."""

    def __init__(self, polygons: np.ndarray, classes: np.ndarray) -> None:
        self.polygons, self.values = polygons, classes + 1
        self.index = shapely.STRtree(polygons)

    def paint(self, grid: GeoBox) -> np.ndarray:
        """(H, W) int32, 0 for none and k + 1 for class k."""
        near = np.sort(self.index.query(grid.extent.geom))
        if not len(near):
            return np.zeros(grid.shape, np.int32)
        # As GeoJSON because rasterio would make it from every polygon by way of Python, five times slower.
        outlines = map(json.loads, shapely.to_geojson(self.polygons[near]))
        shapes = zip(outlines, self.values[near], strict=True)
        return np.asarray(rasterize(shapes, grid.shape, fill=BACKGROUND, transform=grid.affine, dtype="int32"))


def _counted(grid: GeoBox, area: BaseGeometry | None, ignore: BaseGeometry | None) -> np.ndarray:
    """(H, W) bool, which pixels count."""
    counts = np.ones(grid.shape, bool)
    if area is not None:
        counts &= _inside(grid, [area])
    if ignore is not None:
        counts &= ~_inside(grid, shapely.get_parts([ignore]))
    return counts


def _inside(grid: GeoBox, parts: Sequence[BaseGeometry]) -> np.ndarray:
    box = grid.extent.geom
    near = [part for part in parts if part.intersects(box)]
    if any(part.covers(box) for part in near):
        return np.ones(grid.shape, bool)
    if not near:
        return np.zeros(grid.shape, bool)
    return np.asarray(rasterize(near, grid.shape, transform=grid.affine, dtype="uint8"), dtype=bool)

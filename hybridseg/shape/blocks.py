"""A layer in blocks of ground, so that what shaping holds in memory does not grow with the layer."""

from __future__ import annotations

from collections.abc import Iterator

import geopandas as gpd
import numpy as np
import shapely

from hybridseg.shape.measure import by_metric_crs, returned


def blocks_of(outlines: gpd.GeoSeries, side_m: float, around_m: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the row positions of each block (n,) and of all that must be known for it (m,), both ascending.

    A block is a square in the metric CRS of its place (see `measure`), so it does not move with the extent of the
    layer; an outline belongs to the block that the middle of its box lies in. Every row is in exactly one block; empty
    and missing outlines make one by themselves.

    Args:
        outlines: in any CRS.
        side_m: of the squares.
        around_m: outlines whose boxes come so near to those of a block are known for it, and perhaps some others.

    Raises:
        NoGeoreference: the outlines have no CRS.
    """
    array = outlines.to_numpy()
    bounds, tree = shapely.bounds(array), shapely.STRtree(array)
    for crs, rows in by_metric_crs(outlines):
        middles = gpd.GeoSeries(shapely.points((bounds[rows, :2] + bounds[rows, 2:]) / 2), crs=outlines.crs)
        squares = np.floor(shapely.get_coordinates(middles.to_crs(crs).to_numpy()) / side_m)
        block = np.unique(squares, axis=0, return_inverse=True)[1].ravel()
        order = np.argsort(block, kind="stable")
        cores = np.split(rows[order], np.flatnonzero(np.diff(block[order])) + 1)
        extents = np.array([[*bounds[core, :2].min(axis=0), *bounds[core, 2:].max(axis=0)] for core in cores])
        boxes = shapely.box(*extents.T)
        bent = shapely.segmentize(boxes, np.maximum(shapely.length(boxes) / 32, 1e-9))
        grown = shapely.buffer(gpd.GeoSeries(bent, crs=outlines.crs).to_crs(crs).to_numpy(), around_m)
        for core, ground in zip(cores, returned(gpd.GeoSeries(grown, crs=crs), outlines), strict=True):
            yield core, np.sort(tree.query(ground))
    if len(without := np.flatnonzero(shapely.is_empty(array) | shapely.is_missing(array))):
        yield without, without

"""Versions of outlines that compete, the best first: which may be kept."""

from __future__ import annotations

import numpy as np
import shapely


def settle(versions: np.ndarray, max_overlap: float) -> np.ndarray:
    """Of (v, n) versions, the last being the given polygons: the first that each can have without new overlaps, (n,).

    Where two versions of neighbours overlap too much, the blame is on the one further from the given, on both where
    they are equally far. So what is left agrees whatever each neighbour ends with, and one look at each pair of
    neighbours is enough: no order, no chain of consequences across the map.
    """
    boxes = shapely.box(*np.moveaxis(_extent(versions), -1, 0))
    one, two = shapely.STRtree(boxes).query(boxes, predicate="intersects")
    one, two = one[one < two], two[one < two]
    smaller = np.minimum(shapely.area(versions[-1, one]), shapely.area(versions[-1, two]))
    limit = shapely.area(shapely.intersection(versions[-1, one], versions[-1, two])) + max_overlap * smaller

    blamed = np.zeros(versions.shape, dtype=bool)
    given = len(versions) - 1
    for i, j in np.ndindex(len(versions), len(versions)):
        if i == j == given:
            continue
        clash = shapely.area(shapely.intersection(versions[i, one], versions[j, two])) > limit
        if i <= j:
            blamed[i, one[clash]] = True
        if j <= i:
            blamed[j, two[clash]] = True
    return np.asarray(versions[np.argmin(blamed, axis=0), np.arange(versions.shape[1])])


def _extent(versions: np.ndarray) -> np.ndarray:
    """(n, 4) bounds that hold all versions of each polygon."""
    bounds = shapely.bounds(versions)
    return np.asarray(np.concatenate([np.fmin.reduce(bounds[..., :2]), np.fmax.reduce(bounds[..., 2:])], axis=-1))


def where_true(shaped: np.ndarray, traced: np.ndarray, min_iou: float, otherwise: np.ndarray) -> np.ndarray:
    """`shaped` where it is a valid polygon and its IoU with the traced outline is at least `min_iou`."""
    polygonal = np.isin(shapely.get_type_id(shaped), (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON))
    sound = np.where(shapely.is_valid(shaped) & polygonal, shaped, shapely.Polygon())
    common = shapely.area(shapely.intersection(sound, traced))
    union = shapely.area(sound) + shapely.area(traced) - common
    return np.where((common > 0) & (common >= min_iou * union), shaped, otherwise)

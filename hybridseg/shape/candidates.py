"""Candidates for the outline of each object, the best first: which one may be kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import geopandas as gpd
import numpy as np
import shapely
from pyproj import CRS

from hybridseg.shape.measure import by_metric_crs, returned

Propose = Callable[[np.ndarray, CRS, np.ndarray], Sequence[np.ndarray]]
"""Takes outlines (m,) in metres, their CRS and their rows (m,), and returns c arrays (m,) of candidates, the best
first, the outlines themselves last."""


def candidates_of(features: gpd.GeoDataFrame, propose: Propose) -> np.ndarray:
    """Return the candidates (c, n) for the outlines of features, in their CRS.

    Args:
        features: polygons in any CRS.
        propose: makes the candidates of those that share a metric CRS. One that equals the given outline keeps its
            coordinates to the last digit.

    Raises:
        NoGeoreference: the features have no CRS.
    """
    given = features.geometry.to_numpy()
    candidates: np.ndarray | None = None
    for crs, rows in by_metric_crs(features.geometry):
        ground = features.geometry.iloc[rows].to_crs(crs).to_numpy()
        proposed = propose(ground, crs, rows)
        candidates = np.stack([given] * len(proposed)) if candidates is None else candidates
        for candidate, shaped in zip(candidates, proposed, strict=True):
            back = returned(gpd.GeoSeries(shaped, crs=crs), features.geometry).to_numpy()
            candidate[rows] = np.where(shapely.equals_exact(shaped, ground), candidate[rows], back)
    return given[None].copy() if candidates is None else candidates


def choose_without_overlaps(candidates: np.ndarray, max_overlap: float) -> np.ndarray:
    """Return for each polygon the first candidate that it can have without a new overlap with a neighbour, (n,).

    If two candidates of neighbours overlap too much, the one earlier in its list is rejected, both on a tie: the
    earlier ones are further from the given outlines. So what is left agrees whichever candidate each neighbour ends
    with, and one look at each pair of neighbours is enough: no order, no chain of consequences across the map.

    Args:
        candidates: (c, n) polygons, the best first; the last are the given outlines, which are never rejected.
        max_overlap: overlap allowed beyond that of the given outlines, as a share of the smaller of the two.
    """
    boxes = shapely.box(*np.moveaxis(_extent(candidates), -1, 0))
    one, two = shapely.STRtree(boxes).query(boxes, predicate="intersects")
    one, two = one[one < two], two[one < two]
    smaller = np.minimum(shapely.area(candidates[-1, one]), shapely.area(candidates[-1, two]))
    limit = shapely.area(shapely.intersection(candidates[-1, one], candidates[-1, two])) + max_overlap * smaller

    rejected = np.zeros(candidates.shape, dtype=bool)
    given = len(candidates) - 1
    for i, j in np.ndindex(len(candidates), len(candidates)):
        if i == j == given:
            continue
        clash = shapely.area(shapely.intersection(candidates[i, one], candidates[j, two])) > limit
        if i <= j:
            rejected[i, one[clash]] = True
        if j <= i:
            rejected[j, two[clash]] = True
    return np.asarray(candidates[np.argmin(rejected, axis=0), np.arange(candidates.shape[1])])


def where_alike(shaped: np.ndarray, traced: np.ndarray, min_iou: float, otherwise: np.ndarray) -> np.ndarray:
    """Return `shaped` (n,) where it is a valid polygon whose IoU with the traced outline is at least `min_iou`.

    Args:
        shaped: candidates (n,), of any kind.
        traced: the outlines (n,) that they must agree with.
        min_iou: least agreement.
        otherwise: what to return (n,) for the others.
    """
    polygonal = np.isin(shapely.get_type_id(shaped), (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON))
    sound = np.where(shapely.is_valid(shaped) & polygonal, shaped, shapely.Polygon())
    common = shapely.area(shapely.intersection(sound, traced))
    union = shapely.area(sound) + shapely.area(traced) - common
    return np.where((common > 0) & (common >= min_iou * union), shaped, otherwise)


def _extent(candidates: np.ndarray) -> np.ndarray:
    """Return bounds (n, 4) that hold all candidates of each polygon."""
    bounds = shapely.bounds(candidates)
    return np.asarray(np.concatenate([np.fmin.reduce(bounds[..., :2]), np.fmax.reduce(bounds[..., 2:])], axis=-1))

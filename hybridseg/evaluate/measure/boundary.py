"""Outlines of a map against outlines of the truth: of whole layers, and of pairs of objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import harmonic_mean

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from hybridseg.evaluate.measure.near import near_lengths
from hybridseg.evaluate.measure.objects import Geometries, share

_QUADRANT_SEGMENTS = 16
"""Of the buffers' round corners: the radius is met to 0.1 %."""
_PAIRS = 2_000
"""Pairs whose points are in memory at once."""


@dataclass(frozen=True)
class BoundaryScore:
    """Shares of boundary length: precision of the predicted, recall of the true boundary."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 for nothing against nothing, 0 where one side alone has nothing."""
        return harmonic_mean([self.precision, self.recall])


def boundary_f1(
    pred: Geometries, truth: Geometries, tolerance_m: float, aoi: BaseGeometry | None = None
) -> BoundaryScore:
    """How much of each boundary runs within `tolerance_m` of the other.

    The boundary measure of Csurka et al. 2013 (What is a good evaluation measure for semantic segmentation?), on exact
    lengths instead of pixels.

    Args:
        pred: polygons in a CRS in metres; holes count as boundary.
        truth: polygons in the same CRS.
        tolerance_m: greatest distance (m) at which boundaries agree.
        aoi: measure only boundary inside this area, `tolerance_m` away from its rim: there outlines are cut, and the
            cut is nobody's boundary. What they are compared with is not clipped.

    Returns:
        Both 1 where neither side has an outline, or all of both run along the rim; both 0 where only one side has any,
        be it along the rim.
    """
    pred_lines, truth_lines = _boundaries(pred), _boundaries(truth)
    inside = None if aoi is None else shapely.buffer(aoi, -tolerance_m)
    pred_near, pred_length = (float(v.sum()) for v in near_lengths(pred_lines, truth_lines, tolerance_m, inside))
    truth_near, truth_length = (float(v.sum()) for v in near_lengths(truth_lines, pred_lines, tolerance_m, inside))
    alike = (len(pred_lines) > 0) == (len(truth_lines) > 0)
    return BoundaryScore(
        precision=share(pred_near, pred_length, none_expected=alike and truth_length == 0),
        recall=share(truth_near, truth_length, none_expected=alike and pred_length == 0),
    )


def boundary_iou(pred: Geometries, truth: Geometries, distance_m: float) -> np.ndarray:
    """Boundary IoU of pairs: IoU of the parts of both that lie within `distance_m` of their own outline.

    Cheng et al. 2021 (Boundary IoU: improving object-centric image segmentation evaluation), on exact areas;
    `distance_m` stands for their share of the image's diagonal. An object thinner than twice the distance is all band,
    as there.

    Args:
        pred: n valid polygons in a CRS in metres.
        truth: n valid polygons, the partner of each.
        distance_m: width of the band (m).

    Returns:
        (n,) float64; 0 for a pair of empty polygons.
    """
    a, b = np.asarray(pred, dtype=object), np.asarray(truth, dtype=object)
    inner_a, inner_b = (shapely.buffer(g, -distance_m, quad_segs=_QUADRANT_SEGMENTS) for g in (a, b))

    def common(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        return np.asarray(shapely.area(shapely.intersection(one, two)))

    # The bands are never made: what lies within a polygon's core lies within the polygon, so areas subtract.
    both = common(a, b) - common(inner_a, b) - common(a, inner_b) + common(inner_a, inner_b)
    bands = sum(shapely.area(g) - shapely.area(core) for g, core in ((a, inner_a), (b, inner_b)))
    union = bands - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0).clip(0, 1)


def polis(pred: Geometries, truth: Geometries) -> np.ndarray:
    """PoLiS distance of pairs: how far corners lie from the other's outline, on average over both (m).

    Avbelj et al. 2015 (A metric for polygon comparison and building extraction evaluation). Outlines
    include holes; the closing corner of a ring counts once.

    Args:
        pred: n polygons that are not empty, in a CRS in metres.
        truth: n polygons, the partner of each.

    Returns:
        (n,) float64 in metres.
    """
    result = np.zeros(len(pred))
    for part, one, two in _both_ways(pred, truth):
        points, owner = _corners(one)
        distances = _distances(points, shapely.boundary(two)[owner])
        result[part] += np.bincount(owner, distances) / np.bincount(owner) / 2
    return result


def hausdorff(pred: Geometries, truth: Geometries, precision_m: float) -> np.ndarray:
    """Hausdorff distance of the outlines of pairs (m), too small by `precision_m` at most.

    GEOS's own measures from corners alone, which misses what bulges between them.

    Args:
        pred: n polygons that are not empty, in a CRS in metres.
        truth: n polygons, the partner of each.
        precision_m: a side is halved until no point between its ends can lie this much farther off than those measured.

    Returns:
        (n,) float64 in metres.
    """
    result = np.zeros(len(pred))
    for part, one, two in _both_ways(pred, truth):
        result[part] = np.maximum(result[part], _farthest(one, two, precision_m))
    return result


def _farthest(polygons: np.ndarray, others: np.ndarray, precision_m: float) -> np.ndarray:
    """Greatest distance from each polygon's outline to its partner's: branch and bound over its sides."""
    starts, owner = _corners(polygons)
    ends, _ = _corners(polygons, shift=1)
    outlines = shapely.boundary(others)
    near, far = _distances(starts, outlines[owner]), _distances(ends, outlines[owner])
    best = np.zeros(len(polygons))
    np.maximum.at(best, owner, near)
    while True:
        # A distance changes by no more than the way gone, so this is the most there can be between two ends.
        bound = (near + far + np.hypot(*(ends - starts).T)) / 2
        open_ = bound > best[owner] + precision_m
        if not open_.any():
            return best
        starts, ends, near, far, owner = (v[open_] for v in (starts, ends, near, far, owner))
        middle = (starts + ends) / 2
        between = _distances(middle, outlines[owner])
        np.maximum.at(best, owner, between)
        starts, ends = np.concatenate([starts, middle]), np.concatenate([middle, ends])
        near, far, owner = np.concatenate([near, between]), np.concatenate([between, far]), np.tile(owner, 2)


def corners(polygons: Geometries) -> np.ndarray:
    """Number of corners of each polygon, holes included and closing ones not, (n,) int."""
    _, owner = _corners(np.asarray(polygons, dtype=object))
    return np.bincount(owner, minlength=len(polygons))


def _boundaries(polygons: Geometries) -> np.ndarray:
    """Boundary of each polygon, (n,) lines; missing and empty ones left out."""
    lines = shapely.boundary(np.asarray(polygons, dtype=object))
    return np.asarray(lines[~(shapely.is_missing(lines) | shapely.is_empty(lines))])


def _both_ways(pred: Geometries, truth: Geometries) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Pairs in parts, and each part once from either side."""
    a, b = np.asarray(pred, dtype=object), np.asarray(truth, dtype=object)
    for start in range(0, len(a), _PAIRS):
        part = slice(start, start + _PAIRS)
        yield part, a[part], b[part]
        yield part, b[part], a[part]


def _distances(points: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Distance of each point (k, 2) to its line (k,), in metres."""
    return np.asarray(shapely.distance(shapely.points(points), lines))


def _corners(polygons: np.ndarray, shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Corners of all polygons, (k, 2), and the polygon of each, (k,) int: all but the closing ones.

    With `shift` 1 all but the first of each ring instead, so the end of the side that starts at the same position.
    """
    parts, part_of = shapely.get_parts(polygons, return_index=True)
    rings, ring_of = shapely.get_rings(parts, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    goes_on = np.flatnonzero(np.diff(ring) == 0)
    return points[goes_on + shift], part_of[ring_of[ring[goes_on]]]

"""Outlines of a map against outlines of the truth: of whole layers, and of pairs of objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from statistics import harmonic_mean

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from hybridseg.metrics.lines import near_lengths
from hybridseg.metrics.objects import Geometries, share

_QUADRANT_SEGMENTS = 16
"""Segments of a buffer's round corner: the radius is met to 0.1 %."""
_PAIRS_AT_ONCE = 2_000
_FINEST = 1e-4
"""Least precision of Hausdorff distances, as a share of a polygon's extent: along sides that run beside each other,
halving finds no bound to stop at before."""


@dataclass(frozen=True)
class BoundaryScore:
    """Lengths of outline that agree, and the shares that follow. `+` adds the lengths of another scene.

    Attributes:
        pred_near_m: length of predicted outline near a true one.
        pred_m: length of predicted outline.
        truth_near_m: length of true outline near a predicted one.
        truth_m: length of true outline.
        n_pred: number of predicted outlines, those that are not measured included.
        n_truth: number of true outlines, likewise.
    """

    pred_near_m: float
    pred_m: float
    truth_near_m: float
    truth_m: float
    n_pred: int
    n_truth: int

    def __add__(self, other: BoundaryScore) -> BoundaryScore:
        return BoundaryScore(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    @property
    def precision(self) -> float:
        """Share of predicted outline near a true one."""
        return share(self.pred_near_m, self.pred_m, none_expected=self._alike and self.truth_m == 0)

    @property
    def recall(self) -> float:
        """Share of true outline near a predicted one."""
        return share(self.truth_near_m, self.truth_m, none_expected=self._alike and self.pred_m == 0)

    @property
    def f1(self) -> float:
        """Harmonic mean of both; 1 where neither side has an outline, 0 where only one side has any."""
        return harmonic_mean([self.precision, self.recall])

    @property
    def _alike(self) -> bool:
        """Whether both sides have outlines, or neither."""
        return (self.n_pred > 0) == (self.n_truth > 0)


def boundary_f1(
    pred: Geometries, truth: Geometries, tolerance_m: float, aoi: BaseGeometry | None = None
) -> BoundaryScore:
    """Measure how much of each outline runs within `tolerance_m` of the other.

    Csurka et al. 2013 (What is a good evaluation measure for semantic segmentation?), with exact lengths instead of
    pixels.

    Args:
        pred: polygons in a CRS in metres; outlines of holes count.
        truth: polygons in the same CRS.
        tolerance_m: greatest distance at which outlines agree (m).
        aoi: measure only outline inside this area and at least `tolerance_m` away from its edge, because objects that
            are cut there have an outline that is not theirs. What outlines are compared with is not clipped.

    Returns:
        Lengths whose precision and recall are 1 where neither side has an outline, or where all of both runs along the
        edge of the area; 0 where only one side has any, even along the edge.
    """
    pred_lines, truth_lines = _boundaries(pred), _boundaries(truth)
    inside = None if aoi is None else shapely.buffer(aoi, -tolerance_m)
    pred_near, pred_length = (float(v.sum()) for v in near_lengths(pred_lines, truth_lines, tolerance_m, inside))
    truth_near, truth_length = (float(v.sum()) for v in near_lengths(truth_lines, pred_lines, tolerance_m, inside))
    return BoundaryScore(pred_near, pred_length, truth_near, truth_length, len(pred_lines), len(truth_lines))


def boundary_iou(pred: Geometries, truth: Geometries, distance_m: float) -> np.ndarray:
    """Boundary IoU of pairs: IoU of the bands within `distance_m` of either outline, inside the polygons.

    Cheng et al. 2021 (Boundary IoU: improving object-centric image segmentation evaluation), with exact areas;
    `distance_m` replaces their share of the image's diagonal. An object thinner than twice the distance is all band,
    as in the paper.

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

    # The bands are never built: a polygon's inner part lies in the polygon, so their areas can be subtracted.
    both = common(a, b) - common(inner_a, b) - common(a, inner_b) + common(inner_a, inner_b)
    bands = sum(shapely.area(g) - shapely.area(inner) for g, inner in ((a, inner_a), (b, inner_b)))
    union = bands - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0).clip(0, 1)


def polis(pred: Geometries, truth: Geometries) -> np.ndarray:
    """PoLiS distance of pairs: mean distance of the corners of each from the other's outline, averaged over both (m).

    Avbelj et al. 2015 (A metric for polygon comparison and building extraction evaluation). Outlines include holes; the
    closing corner of a ring counts once.

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
    """Hausdorff distance of the outlines of pairs (m), at most `precision_m` or 0.0001 of their extent too small.

    The function of GEOS measures from corners only and misses an outline that bulges between them.

    Args:
        pred: n polygons that are not empty, in a CRS in metres.
        truth: n polygons, the partner of each.
        precision_m: a side is halved until no point on it can be farther away by more than this (m).

    Returns:
        (n,) float64 in metres.
    """
    result = np.zeros(len(pred))
    for part, one, two in _both_ways(pred, truth):
        result[part] = np.maximum(result[part], _farthest(one, two, precision_m))
    return result


def corners(polygons: Geometries) -> np.ndarray:
    """Number of corners of each polygon, holes included and closing corners not, (n,) int."""
    _, owner = _corners(np.asarray(polygons, dtype=object))
    return np.bincount(owner, minlength=len(polygons))


def _farthest(polygons: np.ndarray, others: np.ndarray, precision_m: float) -> np.ndarray:
    """Greatest distance from each polygon's outline to its partner's: branch and bound over its sides."""
    starts, owner = _corners(polygons)
    ends, _ = _corners(polygons, shift=1)
    outlines = shapely.boundary(others)
    near, far = _distances(starts, outlines[owner]), _distances(ends, outlines[owner])
    left, bottom, right, top = shapely.bounds(polygons).T
    precision = np.maximum(precision_m, _FINEST * np.hypot(right - left, top - bottom))
    best = np.zeros(len(polygons))
    np.maximum.at(best, owner, near)
    while True:
        # Along a side the distance changes by no more than the length travelled: so much is possible between two ends.
        bound = (near + far + np.hypot(*(ends - starts).T)) / 2
        open_ = bound > (best + precision)[owner]
        if not open_.any():
            return best
        starts, ends, near, far, owner = (v[open_] for v in (starts, ends, near, far, owner))
        middle = (starts + ends) / 2
        between = _distances(middle, outlines[owner])
        np.maximum.at(best, owner, between)
        starts, ends = np.concatenate([starts, middle]), np.concatenate([middle, ends])
        near, far, owner = np.concatenate([near, between]), np.concatenate([between, far]), np.tile(owner, 2)


def _boundaries(polygons: Geometries) -> np.ndarray:
    """Return the boundary of each polygon, (n,) lines, without missing and empty ones."""
    lines = shapely.boundary(np.asarray(polygons, dtype=object))
    return np.asarray(lines[~(shapely.is_missing(lines) | shapely.is_empty(lines))])


def _both_ways(pred: Geometries, truth: Geometries) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield the pairs in batches, each batch once from either side."""
    a, b = np.asarray(pred, dtype=object), np.asarray(truth, dtype=object)
    for start in range(0, len(a), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        yield part, a[part], b[part]
        yield part, b[part], a[part]


def _distances(points: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Distance of each point (k, 2) from its line (k,), in metres."""
    return np.asarray(shapely.distance(shapely.points(points), lines))


def _corners(polygons: np.ndarray, shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of all polygons but the closing ones, (k, 2), and the polygon of each, (k,) int.

    With `shift` 1 they are all but the first of each ring: the end of the side that starts at the same position.
    """
    parts, part_of = shapely.get_parts(polygons, return_index=True)
    rings, ring_of = shapely.get_rings(parts, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    goes_on = np.flatnonzero(np.diff(ring) == 0)
    return points[goes_on + shift], part_of[ring_of[ring[goes_on]]]

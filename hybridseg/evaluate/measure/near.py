"""How much of some lines runs near others: exact lengths, side by side.

The points within a distance of a straight side form a capsule, which is convex: it meets another side in one stretch,
whose ends follow from two quadratic equations and a rectangle. Stretches of one side are united as intervals. Buffers
would give the same to within their corners, but where outlines crowd, uniting them takes a hundred times longer.
"""

from __future__ import annotations

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

_SIDES = 50_000
"""Sides measured at once."""
_INCLUSIVE = 1 + 1e-9
"""What lies at the tolerance exactly is near, whatever the rounding."""


def near_lengths(
    lines: np.ndarray, others: np.ndarray, tolerance_m: float, inside: BaseGeometry | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """How much of each line runs within `tolerance_m` of any other one.

    Args:
        lines: (n,) lines to measure, in a CRS in metres.
        others: (m,) lines to compare them with.
        tolerance_m: greatest distance that is near (m).
        inside: only what lies in this area is measured; `others` is not clipped.

    Returns:
        (length near the others, length), both (n,) float64 in metres.
    """
    if inside is not None:
        lines = clipped(lines, inside)
    sides, owner = _sides(lines)
    targets, _ = _sides(others)
    index = shapely.STRtree(shapely.linestrings(targets))
    near = np.zeros(len(sides))
    for start in range(0, len(sides), _SIDES):
        part = sides[start : start + _SIDES]
        pairs = index.query(shapely.linestrings(part), predicate="dwithin", distance=tolerance_m)
        stretch = _stretch(part[pairs[0]], targets[pairs[1]], tolerance_m * _INCLUSIVE)
        near[start : start + _SIDES] = _united(pairs[0], *stretch, len(part))
    length = np.asarray(shapely.length(lines))
    return np.minimum(np.bincount(owner, near, minlength=len(lines)), length), length  # rounding may add a little


def clipped(geometries: np.ndarray, area: BaseGeometry) -> np.ndarray:
    """The part of each geometry inside an area, (n,); those wholly inside come back as they are."""
    shapely.prepare(area)
    cut = ~shapely.covers(area, geometries)
    result = geometries.copy()
    result[cut] = shapely.intersection(geometries[cut], area)
    return result


def _sides(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Straight sides of all lines, (k, 2, 2), none without length, and the line of each, (k,) int."""
    parts, part_of = shapely.get_parts(lines, return_index=True)
    points, part = shapely.get_coordinates(parts, return_index=True)
    on = np.flatnonzero((np.diff(part) == 0) & (np.diff(points, axis=0) != 0).any(axis=1))
    return np.stack([points[on], points[on + 1]], axis=1), part_of[part[on]]


def _stretch(sides: np.ndarray, targets: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Where along each side (k, 2, 2) its target (k, 2, 2) is within a radius: from and to, metres (k,) each."""
    way, length = _directions(sides)
    along, reach = _directions(targets)
    from_start, from_end = sides[:, 0] - targets[:, 0], sides[:, 0] - targets[:, 1]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    discs = [_in_disc(from_start, way, radius), _in_disc(from_end, way, radius)]
    lows, highs = zip(
        _in_band(_dot(from_start, along), _dot(way, along), np.zeros(len(reach)), reach),
        _in_band(_dot(from_start, across), _dot(way, across), -radius, radius),
        strict=True,
    )
    low, high = np.maximum(*lows), np.minimum(*highs)
    stretches = [*discs, (np.where(low <= high, low, np.inf), np.where(low <= high, high, -np.inf))]
    first = np.min([low for low, _ in stretches], axis=0)
    last = np.max([high for _, high in stretches], axis=0)
    return np.maximum(first, 0), np.minimum(last, length)


def _directions(sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(unit vectors (k, 2), lengths (k,))."""
    vectors = sides[:, 1] - sides[:, 0]
    length = np.hypot(*vectors.T)
    return vectors / length[:, None], length


def _dot(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return np.asarray((one * two).sum(axis=1))


def _in_disc(start: np.ndarray, way: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Where a ray is within a radius of the origin; from inf to -inf where it is not."""
    half = _dot(start, way)
    room = half**2 - _dot(start, start) + radius**2
    root = np.sqrt(np.maximum(room, 0))
    return np.where(room >= 0, -half - root, np.inf), np.where(room >= 0, -half + root, -np.inf)


def _in_band(
    start: np.ndarray, slope: np.ndarray, low: np.ndarray | float, high: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Where start + t * slope is between low and high."""
    slope = np.where(np.abs(slope) < 1e-12, 1e-12, slope)
    ends = (low - start) / slope, (high - start) / slope
    return np.minimum(*ends), np.maximum(*ends)


def _united(side: np.ndarray, low: np.ndarray, high: np.ndarray, number: int) -> np.ndarray:
    """Length of the union of the stretches of each side, (number,)."""
    real = high > low
    side, low, high = side[real], low[real], high[real]
    order = np.lexsort((low, side))
    side, low, high = side[order], low[order], high[order]
    # One side after the other on one long line, so that the farthest end so far is never that of another side.
    shift = side * (high.max(initial=0) + 1)
    reached = np.concatenate([[-np.inf], np.maximum.accumulate(high + shift)[:-1]])[: len(side)] - shift
    return np.bincount(side, np.maximum(high - np.maximum(low, reached), 0), minlength=number)

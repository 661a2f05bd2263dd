"""Length of lines that run within a distance of other lines, exact, side by side.

The points within a distance of a straight side form a capsule. A capsule is convex, so it meets another side in one
interval, whose ends follow from two quadratic equations and a rectangle. The intervals on one side are then united.
Buffering would give the same except at round corners, but uniting the buffers of crowded outlines takes about a
hundred times longer.
"""

from __future__ import annotations

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

_SIDES_AT_ONCE = 50_000
_INCLUSIVE = 1 + 1e-9
"""Factor on the tolerance, so that rounding does not exclude a line at exactly the tolerance."""


def near_lengths(
    lines: np.ndarray, others: np.ndarray, tolerance_m: float, inside: BaseGeometry | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Measure how much of each line runs within `tolerance_m` of any other line.

    Args:
        lines: (n,) lines to measure, in a CRS in metres.
        others: (m,) lines to compare them with.
        tolerance_m: greatest distance that counts as near (m).
        inside: measure only what lies in this area; `others` is not clipped.

    Returns:
        (length near the others, total length), both (n,) float64 in metres.
    """
    if inside is not None:
        lines = clip(lines, inside)
    sides, owner = _sides(lines)
    targets, _ = _sides(others)
    index = shapely.STRtree(shapely.linestrings(targets))
    near = np.zeros(len(sides))
    for start in range(0, len(sides), _SIDES_AT_ONCE):
        part = sides[start : start + _SIDES_AT_ONCE]
        pairs = index.query(shapely.linestrings(part), predicate="dwithin", distance=tolerance_m)
        interval = _near_interval(part[pairs[0]], targets[pairs[1]], tolerance_m * _INCLUSIVE)
        near[start : start + _SIDES_AT_ONCE] = _union_length(pairs[0], *interval, len(part))
    length = np.asarray(shapely.length(lines))
    return np.minimum(np.bincount(owner, near, minlength=len(lines)), length), length  # rounding may add a little


def clip(geometries: np.ndarray, area: BaseGeometry) -> np.ndarray:
    """Return the part of each geometry (n,) inside an area; geometries wholly inside are returned unchanged."""
    shapely.prepare(area)
    cut = ~shapely.covers(area, geometries)
    result = geometries.copy()
    result[cut] = shapely.intersection(geometries[cut], area)
    return result


def _sides(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the straight sides of all lines, (k, 2, 2), without those of length 0, and the line of each, (k,) int."""
    parts, part_of = shapely.get_parts(lines, return_index=True)
    points, part = shapely.get_coordinates(parts, return_index=True)
    on = np.flatnonzero((np.diff(part) == 0) & (np.diff(points, axis=0) != 0).any(axis=1))
    return np.stack([points[on], points[on + 1]], axis=1), part_of[part[on]]


def _near_interval(sides: np.ndarray, targets: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return from where to where each side (k, 2, 2) lies within a radius of its target (k, 2, 2): metres, (k,) each.

    A side that is nowhere near gets an interval whose end is before its start.
    """
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
    intervals = [*discs, (np.where(low <= high, low, np.inf), np.where(low <= high, high, -np.inf))]
    first = np.min([low for low, _ in intervals], axis=0)
    last = np.max([high for _, high in intervals], axis=0)
    return np.maximum(first, 0), np.minimum(last, length)


def _directions(sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (unit vectors (k, 2), lengths (k,)) of sides (k, 2, 2)."""
    vectors = sides[:, 1] - sides[:, 0]
    length = np.hypot(*vectors.T)
    return vectors / length[:, None], length


def _dot(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return np.asarray((one * two).sum(axis=1))


def _in_disc(start: np.ndarray, way: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return where a ray enters and leaves a disc around the origin; (inf, -inf) where it misses the disc."""
    half = _dot(start, way)
    room = half**2 - _dot(start, start) + radius**2
    root = np.sqrt(np.maximum(room, 0))
    return np.where(room >= 0, -half - root, np.inf), np.where(room >= 0, -half + root, -np.inf)


def _in_band(
    start: np.ndarray, slope: np.ndarray, low: np.ndarray | float, high: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of t in which start + t * slope lies between low and high."""
    slope = np.where(np.abs(slope) < 1e-12, 1e-12, slope)
    ends = (low - start) / slope, (high - start) / slope
    return np.minimum(*ends), np.maximum(*ends)


def _union_length(side: np.ndarray, low: np.ndarray, high: np.ndarray, number: int) -> np.ndarray:
    """Return the length covered by the intervals on each side, overlaps counted once, (number,) float64."""
    real = high > low
    side, low, high = side[real], low[real], high[real]
    order = np.lexsort((low, side))
    side, low, high = side[order], low[order], high[order]
    # One side after the other on one long line, so that the farthest end so far never belongs to another side.
    shift = side * (high.max(initial=0) + 1)
    reached = np.concatenate([[-np.inf], np.maximum.accumulate(high + shift)[:-1]])[: len(side)] - shift
    return np.bincount(side, np.maximum(high - np.maximum(low, reached), 0), minlength=number)

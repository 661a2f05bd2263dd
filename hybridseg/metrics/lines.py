"""Metrics of lines: length within a buffer, and how alike the routes along a network are (APLS)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from shapely.geometry.base import BaseGeometry

from hybridseg.metrics.bootstrap import ratio, two_sided_f1

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


SNAP_M = 0.01
"""Ends of lines closer than this are one node: what two programs write for one junction differs by less."""

_SHORTEST_EDGE_M = 1e-9
_MOST_STARTS, _FEWEST_STARTS = 500, 20


AUTHORS_SNAP_M = 4.0
"""How far from a network its authors' tool lets a control point lie."""


@dataclass(frozen=True)
class Paths:
    """How well the shortest paths of one network are preserved in another, by the control point where they start.

    Attributes:
        start: (s, 2) float64, the control points.
        kept: (s,) float64, sum over the paths from each of 1 minus the relative difference in length.
        number: (s,) float64, number of paths from each.
    """

    start: np.ndarray
    kept: np.ndarray
    number: np.ndarray

    @property
    def score(self) -> float:
        """Mean over all paths; nan without any."""
        return float(ratio(self.kept.sum(), self.number.sum()))


def apls(network: np.ndarray, reference: np.ndarray, snap_m: float = AUTHORS_SNAP_M) -> float:
    """Return the average path length similarity of two sets of lines: the harmonic mean of both directions, 0 to 1.

    Args:
        network: (n,) LineStrings, a CRS in metres.
        reference: (m,) of the same CRS.
        snap_m: as of `compare_paths`.
    """
    one, two = noded(network), noded(reference)
    ways = compare_paths(two, one, snap_m), compare_paths(one, two, snap_m)
    return float(two_sided_f1(np.array([total for way in ways for total in (way.kept.sum(), way.number.sum())])))


def noded(lines: np.ndarray) -> np.ndarray:
    """Return a network cut where lines cross and joined where just two ends meet, duplicates removed: (e,) LineStrings.

    Bridges become junctions, because a layer of lines does not tell which of two is on top.
    """
    return np.asarray(shapely.get_parts(shapely.line_merge(shapely.union_all(lines, grid_size=SNAP_M))))


def segments(lines: np.ndarray, longest_m: float) -> np.ndarray:
    """Cut lines into straight pieces of two points, none longer than `longest_m`: (k,) LineStrings."""
    points, line = shapely.get_coordinates(shapely.segmentize(lines, longest_m), return_index=True)
    on = np.flatnonzero(np.diff(line) == 0)
    return np.asarray(shapely.linestrings(np.stack([points[on], points[on + 1]], axis=1)))


def compare_paths(
    network: np.ndarray,
    other: np.ndarray,
    snap_m: float = AUTHORS_SNAP_M,
    spacing_m: float = 50.0,
    shortest_m: float = 10.0,
    seed: int = 0,
    most_lengths: int = 10_000_000,
) -> Paths:
    """Look for the shortest paths of one network in another.

    Van Etten et al. 2018 (SpaceNet: a remote sensing dataset and challenge series). Control points are the ends and
    junctions of the network and points every `spacing_m` or less along its edges; each is put on the nearest edge of
    the other network within `snap_m`. A path that is L long here and L' there scores 1 - min(1, |L - L'| / L); it
    scores 0 where an end has no place there or no path connects the ends. The defaults are those of the authors' tool,
    which puts no points on straight edges, however.

    Args:
        network: (e,) LineStrings that meet at their ends, see `noded`; a CRS in metres.
        other: the same of the other network.
        snap_m: greatest distance of a control point from the other network (m).
        spacing_m: greatest distance of control points along an edge (m).
        shortest_m: leave out shorter paths (m).
        seed: of the random sample of starts.
        most_lengths: greatest number of paths. With more than 500 control points, or where all paths would be more than
            this, paths start at a random sample of control points (20 at least) and lead to all.
    """
    if not len(network):
        return Paths(np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    edge, at = _stations(network, spacing_m)
    points = shapely.get_coordinates(shapely.line_interpolate_point(network[edge], at))
    points, first = np.unique(np.round(points, 6), axis=0, return_index=True)
    chosen = _sample(len(points), seed, most_lengths)
    here = _lengths(network, edge[first], at[first], chosen)
    there = np.full(here.shape, np.inf)
    if len(other):
        on, near = shapely.STRtree(other).query_nearest(shapely.points(points), max_distance=snap_m, all_matches=False)
        place = shapely.line_locate_point(other[near], shapely.points(points[on]))
        starts = np.flatnonzero(np.isin(chosen, on))
        if len(starts):
            there[np.ix_(starts, on)] = _lengths(other, near, place, np.searchsorted(on, chosen[starts]))
    is_path = np.isfinite(here) & (here >= shortest_m)
    kept = np.zeros(here.shape)
    found = is_path & np.isfinite(there)
    kept[found] = 1 - np.minimum(1, np.abs(there[found] - here[found]) / here[found])
    return Paths(points[chosen], kept.sum(axis=1), is_path.sum(axis=1).astype(float))


def _stations(network: np.ndarray, spacing_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of all edges and points between them: (edge (k,), distance along it (k,) in metres)."""
    length = shapely.length(network)
    pieces = np.ceil(length / spacing_m).astype(int)
    pieces[shapely.is_closed(network)] = np.maximum(pieces[shapely.is_closed(network)], 3)
    edge = np.repeat(np.arange(len(network)), pieces + 1)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(pieces + 1) - (pieces + 1), pieces + 1)
    return edge, step / pieces[edge] * length[edge]


def _sample(number: int, seed: int, most_lengths: int) -> np.ndarray:
    """Return the control points at which paths start, in order."""
    size = min(_MOST_STARTS, max(_FEWEST_STARTS, most_lengths // number))
    if number <= size:
        return np.arange(number)
    return np.sort(np.random.default_rng(seed).choice(number, size, replace=False))


def _lengths(network: np.ndarray, edge: np.ndarray, at: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Lengths of shortest paths between stations on a network, (s, k) float64; inf where none connects them.

    Args:
        network: (e,) LineStrings.
        edge: (k,) int, the edge of each station.
        at: (k,) float64, its distance along the edge (m).
        chosen: (s,) int, the stations to start at.
    """
    e, length = len(network), shapely.length(network)
    ends = np.concatenate([shapely.get_coordinates(shapely.get_point(network, i)) for i in (0, -1)])
    places, end_node = np.unique(np.round(ends / SNAP_M).astype(np.int64), axis=0, return_inverse=True)
    node = np.concatenate([end_node.ravel(), len(places) + np.arange(len(edge))])
    on = np.concatenate([np.arange(e), np.arange(e), edge])
    along = np.concatenate([np.zeros(e), length, at])
    order = np.lexsort((along, on))
    same = np.flatnonzero(np.diff(on[order]) == 0)
    one, two = order[same], order[same + 1]
    weight = np.maximum(along[two] - along[one], _SHORTEST_EDGE_M)
    graph = _graph(node[one], node[two], weight, len(places) + len(edge))
    stations = len(places) + np.arange(len(edge))
    lengths = dijkstra(graph, directed=False, indices=stations[chosen])[:, stations]
    return np.round(lengths, 6)  # removes what `_SHORTEST_EDGE_M` adds


def _graph(one: np.ndarray, two: np.ndarray, weight: np.ndarray, size: int) -> csr_array:
    """Build an undirected graph; of parallel edges only the shortest is kept."""
    low, high = np.minimum(one, two), np.maximum(one, two)
    order = np.lexsort((weight, high, low))
    low, high, weight = low[order], high[order], weight[order]
    first = np.append(True, (np.diff(low) != 0) | (np.diff(high) != 0)) & (low != high)
    return csr_array((weight[first], (low[first], high[first])), shape=(size, size))

"""A skeleton's lines as a graph, and what thinning leaves to be mended: spurs, torn crossings, short ends, gaps.

Places in the plane are complex numbers here, x + iy in metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import shapely
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from hybridseg.shape.lines.skeleton import merged

_SMOOTH_VERTICES = 2.0
"""Deviation of the Gaussian that takes the steps of pixels off a line; on a bend of 20 m at 1 m it shifts 0.1 m."""

_STAY = 0.1
"""Weight of a junction's own place against the lines that meet there: it decides where those are nearly parallel."""

_CROSSING_M = 3.0
"""Dead ends that meet a line this close to each other meet it in one place."""

_RAY = np.arange(0.5, 2.0, 1 / 16)
"""Where the edge is looked for, in half widths: in steps of 3 % of the width."""


@dataclass(frozen=True)
class Graph:
    """Lines that meet at their ends only."""

    lines: np.ndarray
    """(n,) LineString Z; Z is half the width, NaN where it is not known."""
    node: np.ndarray
    """(n, 2) int, nodes at start and end."""
    place: np.ndarray
    """(k,) complex, where the nodes are."""
    half: np.ndarray
    """(k,) half the width there."""
    degree: np.ndarray
    """(k,) ends of lines there; 2 only where a closed line starts."""

    @classmethod
    def of(cls, *lines: np.ndarray) -> Graph:
        """Return the graph of lines that may still meet two by two: those become one."""
        whole = _oriented(merged(np.concatenate(lines)))
        ends = np.stack([shapely.get_point(whole, 0), shapely.get_point(whole, -1)], axis=-1)
        place, node = np.unique(xy(ends), return_inverse=True)
        half = np.full(len(place), np.nan)
        half[node.ravel()] = shapely.get_z(ends).ravel()
        return cls(whole, node.reshape(ends.shape), place, half, np.bincount(node.ravel(), minlength=len(place)))


def xy(points: np.ndarray) -> np.ndarray:
    """Return the places of points, complex."""
    return np.asarray(shapely.get_x(points) + 1j * shapely.get_y(points))


def without_spurs(graph: Graph, widths: float) -> Graph:
    """Return the graph without dead ends that reach less than `widths` of the road they leave beyond its edge.

    They go round by round: they point at bumps of the edge and into corners. Where only spurs meet, two stay.
    """
    while True:
        order = np.argsort(graph.degree[graph.node], axis=1, kind="stable")
        tip, root = np.take_along_axis(graph.node, order, axis=1).T
        beyond = shapely.length(graph.lines) + graph.half[tip] - graph.half[root]
        spur = (graph.degree[tip] == 1) & (graph.degree[root] > 2) & (beyond < widths * 2 * graph.half[root])
        star = np.bincount(root[spur], minlength=len(graph.place)) == graph.degree
        spur &= ~star[root] | (pd.Series(-beyond).groupby(root).rank(method="first").to_numpy() > 2)
        if not spur.any():
            return graph
        graph = Graph.of(graph.lines[~spur])


def redrawn(graph: Graph, junction_widths: float) -> Graph:
    """Return the graph with junctions closer than `junction_widths` along a line made one, and with smooth lines."""
    cluster, inside = _clusters(graph, junction_widths)
    place, reach = _meeting_places(graph, cluster, ~inside)
    drawn = []
    for line, node in zip(graph.lines[~inside], graph.node[~inside], strict=True):
        vertices, degree, at = shapely.get_coordinates(line, include_z=True), graph.degree[node], cluster[node]
        way, half = vertices[:, 0] + 1j * vertices[:, 1], vertices[:, 2]
        closed = degree[0] == 2
        drawn.append(_ring(way, half) if closed else _line(way, half, degree == 1, place[at], reach[at]))
    return Graph.of(np.array([shapely.linestrings(vertices) for vertices in drawn], dtype=object))


def extended(graph: Graph, surface: np.ndarray) -> Graph:
    """Return the graph with dead ends that go straight on to the edge of the surface, polygons (m,)."""
    line, end = np.nonzero(graph.degree[graph.node] == 1)
    node = graph.node[line, end]
    tip, half, lines = graph.place[node], graph.half[node], graph.lines[line]
    back = np.where(end == 0, 1, -1) * np.minimum(3 * half, shapely.length(lines))
    ahead = tip - xy(shapely.line_interpolate_point(lines, back))
    ahead = ahead / np.maximum(np.abs(ahead), 1e-9)
    edge = tip + ahead * to_edge(tip, ahead, half, surface)
    pieces = np.stack([_vertices(tip, half), _vertices(edge, np.full(len(tip), np.nan))], axis=1)
    return Graph.of(graph.lines, shapely.linestrings(pieces[np.isfinite(edge)]))


def bridged(graph: Graph, gap_m: float, angle_deg: float) -> Graph:
    """Return the graph with dead ends joined that face each other across at most `gap_m`, nearest first, each once."""
    line, end = np.nonzero(graph.degree[graph.node] == 1)
    node = graph.node[line, end]
    tip, inner = graph.place[node], xy(shapely.get_point(graph.lines[line], np.where(end == 0, 1, -2)))
    pairs = cKDTree(np.stack([tip.real, tip.imag], axis=-1)).query_pairs(gap_m, output_type="ndarray")
    one, two = np.sort(pairs, axis=1).T
    ahead, gap = tip - inner, np.abs(tip[two] - tip[one])
    across = inner[two] - inner[one]  # from some way back, or a small gap with a small step aside would be a sharp turn
    turns = np.stack([across / ahead[one], -across / ahead[two], -ahead[one] / ahead[two]])
    facing = (np.abs(np.angle(turns)) <= np.radians(angle_deg)).all(axis=0)
    free, bridges = np.ones(len(tip), dtype=bool), [np.empty((0, 2, 3))]
    for pair in np.lexsort((node[two], node[one], gap)):
        ends = [one[pair], two[pair]]
        if facing[pair] and free[ends].all():
            free[ends] = False
            bridges.append(_vertices(tip[ends], np.full(2, np.nan))[None])
    return Graph.of(graph.lines, shapely.linestrings(np.concatenate(bridges)))


def attached(graph: Graph, gap_m: float) -> Graph:
    """Return the graph with dead ends led straight on to a line that they point at across at most `gap_m`.

    They meet it in a junction.
    """
    line, end = np.nonzero(graph.degree[graph.node] == 1)
    tip, inner = graph.place[graph.node[line, end]], xy(shapely.get_point(graph.lines[line], np.where(end == 0, 1, -2)))
    ahead = (tip - inner) / np.maximum(np.abs(tip - inner), 1e-9)
    way = np.stack([tip, tip + ahead * gap_m], axis=1)
    rays = shapely.linestrings(np.stack([way.real, way.imag], axis=-1))
    ray, other = shapely.STRtree(graph.lines).query(rays, predicate="intersects")
    ray, other = ray[line[ray] != other], other[line[ray] != other]
    meeting = shapely.intersection(rays[ray], graph.lines[other])
    gap = shapely.distance(shapely.get_point(rays[ray], 0), meeting)
    along = shapely.line_locate_point(graph.lines[other], shapely.line_interpolate_point(rays[ray], gap))
    order = np.lexsort((other, gap, ray))
    first = order[np.diff(ray[order], prepend=-1) > 0]  # of each ray, the line that it meets first
    at = xy(shapely.line_interpolate_point(graph.lines[other[first]], along[first]))
    return joined(graph, list(np.stack([tip[ray[first]], at], axis=-1)), other[first], along[first])


def joined(graph: Graph, ways: Sequence[np.ndarray], other: np.ndarray, along: np.ndarray) -> Graph:
    """Return the graph with ways (n,) that start at its nodes and end on lines `other` (n,), `along` (n,) metres on.

    Those that meet a line close to each other meet it in one place.
    """
    other, along, found = other.astype(int), along.astype(float), []
    for number in np.unique(other):
        here = np.flatnonzero(other == number).tolist()
        on = _as_one(along[here])
        length = shapely.length(graph.lines[number])
        if length > 2 * _CROSSING_M:  # at the line's end it meets what is there
            on = np.where(on < _CROSSING_M, 0, np.where(on > length - _CROSSING_M, length, on))
        places = xy(shapely.line_interpolate_point(graph.lines[number], on))
        found += _split(graph.lines[number], np.unique(on))
        found += [_link(np.append(ways[way][:-1], place)) for way, place in zip(here, places, strict=True)]
    return Graph.of(np.delete(graph.lines, np.unique(other)), np.array(found, dtype=object)) if found else graph


def to_edge(start: np.ndarray, ahead: np.ndarray, half: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """Return how far (m) it is from each start (n,) straight ahead (n,) to the edge of polygons (m,), 1/2 to 2 `half`.

    NaN where there is no surface at 1/2 `half`.
    """
    found = [np.empty(0)]
    for rows in np.array_split(np.arange(len(start)), len(start) // 20_000 + 1):  # bounds the memory
        points = start[rows, None] + ahead[rows, None] * half[rows, None] * (_RAY + 1 / 32)
        inside = ~np.isnan(value_at(points.ravel(), surface, np.zeros(len(surface)))).reshape(points.shape)
        steps = np.where(inside.all(axis=1), len(_RAY), np.argmin(inside, axis=1))
        found.append(np.where(steps > 0, (0.5 + steps / 16) * half[rows], np.nan))
    return np.concatenate(found)


def value_at(places: np.ndarray, surface: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return the greatest value (n,) of the polygons (m,) at each place (n,); NaN where there is no polygon."""
    polygon, place = shapely.STRtree(shapely.points(places.real, places.imag)).query(surface, predicate="intersects")
    greatest = np.full(len(places), np.nan)
    np.fmax.at(greatest, place, value[polygon])
    return greatest


def _oriented(lines: np.ndarray) -> np.ndarray:
    """Return lines (n,) that run from left to right, closed ones counter-clockwise, however they were merged."""
    start, end = xy(shapely.get_point(lines, 0)), xy(shapely.get_point(lines, -1))
    return np.where(np.where(start == end, ~shapely.is_ccw(lines), start > end), shapely.reverse(lines), lines)


def _clusters(graph: Graph, widths: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of its cluster for each node (k,), and which lines (n,) lie inside one: those are one junction.

    Those with lines all around a hole stay apart: the hole is real, small ones are filled.
    """
    start, end = graph.node.T
    inside = shapely.length(graph.lines) <= widths * (graph.half[start] + graph.half[end])
    inside &= (graph.degree[graph.node] > 2).all(axis=1)
    for _ in range(2):
        links = coo_array((np.ones(inside.sum()), (start[inside], end[inside])), shape=(len(graph.place),) * 2)
        count, cluster = connected_components(links, directed=False)
        around = np.bincount(cluster[start[inside]], minlength=count) >= np.bincount(cluster, minlength=count)
        inside &= ~around[cluster[start]]
    return cluster, inside


def _meeting_places(graph: Graph, cluster: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where clusters of nodes lie, (c,) complex, and half the width there, (c,).

    Thinning bends lines towards each other where they meet. So a junction is put where the straight lines meet that its
    roads follow outside of it, from one half width to three: the point with the least squares of distances to them.
    """
    size = np.bincount(cluster)
    home = (np.bincount(cluster, graph.place.real) + 1j * np.bincount(cluster, graph.place.imag)) / size
    reach = np.zeros(len(size))
    np.maximum.at(reach, cluster, graph.half)
    matrix, vector = np.tile(_STAY * np.eye(2), (len(size), 1, 1)), np.zeros((len(size), 2))
    for side, sign in ((0, 1), (1, -1)):
        arms = kept & (graph.degree[graph.node[:, side]] > 2)
        lines, at = graph.lines[arms], cluster[graph.node[arms, side]]
        from_end = np.minimum(reach[at], shapely.length(lines) / 4)
        near, far = (xy(shapely.line_interpolate_point(lines, sign * k * from_end)) for k in (1, 3))
        arm, off = far - near, near - home[at]
        normal = 1j * arm / np.maximum(np.abs(arm), 1e-9)
        weight = np.abs(arm) / (2 * reach[at])
        aside = normal.real * off.real + normal.imag * off.imag
        normal = np.stack([normal.real, normal.imag], axis=-1)
        np.add.at(matrix, at, weight[:, None, None] * normal[:, :, None] * normal[:, None, :])
        np.add.at(vector, at, (weight * aside)[:, None] * normal)
    x, y = np.linalg.solve(matrix, vector[..., None])[..., 0].T
    move = x + 1j * y
    return home + move / np.maximum(1, np.abs(move) / reach), reach


def _line(way: np.ndarray, half: np.ndarray, dead: np.ndarray, place: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return vertices (m, 3) of a line (n,) made smooth and, from `reach` (2,) on, straight to `place` (2,).

    At dead ends (2,) instead what is nearer to the edge than the rest is left out: thinning runs into a corner there.
    """
    way = ndimage.gaussian_filter1d(way, _SMOOTH_VERTICES, mode="nearest")
    along = np.concatenate([[0], np.cumsum(np.abs(np.diff(way)))])
    from_end = along, along[-1] - along
    usual = [np.median(half[distance <= 6 * np.median(half)]) for distance in from_end]
    cut = np.where(dead, np.clip(usual - half[[0, -1]], 0, along[-1] / 3), reach)
    keep = (from_end[0] >= cut[0]) & (from_end[1] >= cut[1])
    keep |= dead.all() & (keep.sum() < 2)
    keep[len(keep) // 2] |= not keep.any()
    ends = _vertices(place, np.full(2, np.nan))
    return np.concatenate([ends[:1][~dead[:1]], _vertices(way[keep], half[keep]), ends[1:][~dead[1:]]])


def _ring(way: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Return vertices (n, 3) of a closed line (n,) made smooth; it starts at the one furthest to the left."""
    smooth = ndimage.gaussian_filter1d(way[:-1], _SMOOTH_VERTICES, mode="wrap")
    rolled = np.roll(_vertices(smooth, half[:-1]), -int(np.argmin(smooth)), axis=0)
    return np.concatenate([rolled, rolled[:1]])


def _vertices(way: np.ndarray, half: np.ndarray) -> np.ndarray:
    return np.stack([way.real, way.imag, half], axis=-1)


def _as_one(along: np.ndarray) -> np.ndarray:
    """Return distances (n,) along a line, those of one crossing made equal."""
    order = np.argsort(along)
    group = np.cumsum(np.diff(along[order], prepend=along[order[0]]) > _CROSSING_M)
    mean = np.bincount(group, along[order]) / np.bincount(group)
    one = np.empty(len(along))
    one[order] = mean[group]
    return one


def _link(way: np.ndarray) -> shapely.LineString:
    return shapely.linestrings(_vertices(way, np.full(len(way), np.nan)))


def _split(line: shapely.LineString, along: np.ndarray) -> list[shapely.LineString]:
    """Return the pieces of a line cut at distances (n,) from its start, in order; they share their ends exactly."""
    vertices = shapely.get_coordinates(line, include_z=True)
    way = np.append(0, np.cumsum(np.abs(np.diff(vertices[:, 0] + 1j * vertices[:, 1]))))
    along = along[(along > 0) & (along < line.length)]
    cuts = shapely.get_coordinates(shapely.line_interpolate_point(line, along), include_z=True)
    position = np.concatenate([way, along])
    order = np.argsort(position, kind="stable")
    every, cut = np.concatenate([vertices, cuts])[order], np.flatnonzero(order >= len(vertices))
    known = np.isfinite(vertices[:, 2])
    if known.any():  # a piece must not consist of unknown widths alone
        every[:, 2] = np.interp(position[order], way[known], vertices[known, 2])
    return [shapely.linestrings(every[i : j + 1]) for i, j in pairwise([0, *cut, len(every) - 1])]

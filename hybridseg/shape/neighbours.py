"""Neighbours: walls that two buildings share lie on one line, with the same corners, and no ground is in both.

Points in the plane are complex numbers here, x + iy in metres.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from hybridseg.shape.geometry import as_complex, repaired
from hybridseg.shape.walls import Price, Walls, as_xy, following

_ON_M = 1e-6
"""A corner closer than this to a wall lies on it: rounding is a hundred times less."""

_OVERLAP_M2 = 1e-6
"""Common ground below which polygons only touch."""

_RECTANGLE = 4
"""Walls of a rectangle."""


def aligned(walls: Walls, gap_m: float, max_turn_deg: float, price: Price) -> Walls:
    """Return walls in which those of different polygons that nearly lie on one line do so.

    The line has the direction of the longest, so that its building keeps its right angles, and runs through the mean of
    all. Each wall goes there if that makes it cost less than `price.wall` more, which is what one wall less saves.

    Args:
        walls: of all polygons.
        gap_m: walls closer than this may be one.
        max_turn_deg: unless they differ by more than this in direction.
        price: of a wall.
    """
    corner = walls.corners()
    start, end = corner, corner[following(walls.ring)]
    edges = shapely.linestrings(np.stack([as_xy(start), as_xy(end)], axis=1))
    one, two = shapely.STRtree(edges).query(edges, predicate="dwithin", distance=gap_m)
    pair = (one < two) & (walls.polygon[one] != walls.polygon[two])
    one, two = one[pair], two[pair]
    beside = np.minimum(_beside(walls, one, start[two], end[two]), _beside(walls, two, start[one], end[one]))
    turn = np.abs(_sine(walls.direction[one], walls.direction[two]))
    alike = (turn <= np.sin(np.radians(max_turn_deg))) & (beside <= gap_m)
    links = coo_array((np.ones(alike.sum()), (one[alike], two[alike])), shape=(len(edges),) * 2)
    _, group = connected_components(links, directed=False)
    return _on_common_lines(walls, group, np.abs(end - start), price)


def _on_common_lines(walls: Walls, group: np.ndarray, length: np.ndarray, price: Price) -> Walls:
    """Return walls (m,) of lengths (m,) on the line of their group (m,), but for those that it would cost too much."""
    by_length = np.lexsort((length, group))
    longest = by_length[np.append(np.flatnonzero(np.diff(group[by_length])), len(group) - 1)][group]
    direction = walls.direction[longest]
    off = _sine(direction, walls.point - walls.point[longest])
    shift = np.bincount(group, walls.weight * off)[group] / np.bincount(group, walls.weight)[group] - off
    turn = _sine(direction, walls.direction)
    cost = (walls.weight * shift**2 + np.abs(walls.spread) * turn**2) / 2
    moved = (cost < price.wall_of(walls.polygon)) & (np.bincount(group)[group] > 1)
    return replace(
        walls,
        point=np.where(moved, walls.point + 1j * direction * shift, walls.point),
        direction=np.where(moved, direction, walls.direction),
    )


def _sine(direction: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return how far (m,) numbers z (m,) lie to the left of directions (m,)."""
    return np.asarray((z * direction.conj()).imag)


def _beside(walls: Walls, rows: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return how far at most the ends of edges (k,) lie from the lines of walls `rows` (k,)."""
    return np.maximum(*(np.abs(_sine(walls.direction[rows], z - walls.point[rows])) for z in (start, end)))


def parted(walls: Walls, n: int, price: Price) -> Walls:
    """Return walls of n polygons without common ground, as far as that costs less than a rectangle for a pair.

    Of each of two polygons that overlap, the wall is moved back whose move costs least, and the two share the way as it
    costs least; what is left after that is taken from one of them. Moving back makes no new overlap, so no third one is
    concerned.
    """
    for shared in (True, False):
        polygons = repaired(walls.polygons(n))
        one, two = shapely.STRtree(polygons).query(polygons, predicate="intersects")
        one, two = one[one < two], two[one < two]
        common = shapely.intersection(polygons[one], polygons[two])
        overlap = np.flatnonzero(shapely.area(common) > _OVERLAP_M2)
        first = np.searchsorted(walls.polygon, np.arange(n + 1))
        inward, back = _inward(walls), np.zeros(len(walls.polygon))
        for pair in overlap:
            ground, chosen = as_complex(common[pair : pair + 1]), []
            for i in (one[pair], two[pair]):
                rows = np.arange(first[i], first[i + 1])
                depth = _depth(inward[rows], ground[:, None] - walls.point[rows]).max(axis=0)
                cost = walls.weight[rows] * depth**2 / 2
                best = np.argmin(cost)
                chosen.append((cost[best], rows[best], depth[best]))
            (cost, a, deep_a), (other, b, deep_b) = sorted(chosen)
            if cost > _RECTANGLE * price.wall_of(walls.polygon[a]):
                continue
            part = other / (cost + other) if shared else 1.0
            back[a] = max(back[a], part * deep_a)
            back[b] = max(back[b], (1 - part) * deep_b)
        walls = replace(walls, point=walls.point + inward * back)
    return walls


def _inward(walls: Walls) -> np.ndarray:
    """Return unit numbers (m,) that point from each wall into its polygon, left of the way its ring is walked."""
    corner = walls.corners()
    ahead = (corner[following(walls.ring)] - corner) * walls.direction.conj()
    return np.asarray(1j * walls.direction * np.where(ahead.real < 0, -1, 1))


def _depth(inward: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return how far numbers z lie in directions `inward`."""
    return np.asarray((z * inward.conj()).real)


def noded(polygons: np.ndarray) -> np.ndarray:
    """Return polygons (n,) in which a corner of one that lies on a wall of another is a vertex of both.

    So walls that are shared are the same to the last digit, and stay so in any CRS.
    """
    moved = shapely.set_coordinates(polygons.copy(), as_xy(_merged(as_complex(polygons))))
    single = np.flatnonzero(shapely.get_type_id(moved) == shapely.GeometryType.POLYGON)
    rings, polygon = shapely.get_rings(moved[single], return_index=True)
    z, ring = as_complex(rings), np.repeat(np.arange(len(rings)), shapely.get_num_coordinates(rings))
    edge = np.flatnonzero(ring[1:] == ring[:-1])
    lines = shapely.linestrings(np.stack([as_xy(z[edge]), as_xy(z[edge + 1])], axis=1))
    places = np.unique(z)
    corners = shapely.points(places.real, places.imag)
    of, on = shapely.STRtree(lines).query(corners, predicate="dwithin", distance=_ON_M)
    inside = (places[of] != z[edge[on]]) & (places[of] != z[edge[on] + 1])
    of, on = of[inside], on[inside]
    if len(on) == 0:
        return np.asarray(moved)
    # each new vertex goes between the ends of its edge, in the order in which the edge is walked
    along = np.abs(places[of] - z[edge[on]])
    position = np.concatenate([np.arange(len(z)) + 0.0, edge[on] + 0.5])
    order = np.lexsort((np.concatenate([np.zeros(len(z)), along]), position))
    every, row = np.concatenate([z, places[of]])[order], np.concatenate([ring, ring[edge[on]]])[order]
    whole = shapely.linearrings(as_xy(every), indices=row)
    out, first = moved.copy(), np.searchsorted(polygon, np.arange(len(single) + 1))
    for row in np.unique(polygon[ring[edge[on]]]):
        outer, *holes = whole[first[row] : first[row + 1]]
        out[single[row]] = shapely.Polygon(outer, holes)
    return np.asarray(out)


def _merged(z: np.ndarray) -> np.ndarray:
    """Return places (m,) of which those within `_ON_M` of each other are one."""
    pairs = cKDTree(as_xy(z)).query_pairs(_ON_M, output_type="ndarray")
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(z),) * 2)
    _, place = connected_components(links, directed=False)
    _, first = np.unique(place, return_index=True)
    return np.asarray(z[first[place]])

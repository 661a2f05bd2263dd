"""Outlines with few corners, found by minimum description length.

An outline is cut into pieces, each described by one straight wall. The description costs half the squared distance of
the outline from its walls, integrated along it (m3), and a price for each wall; the cheapest one of all is found by
dynamic programming over the points of the outline. Walls run along or across the building's own direction or, for a
higher price, in any other. So a rectangle costs four prices, an L six, and a bay or a slanting wall is there where the
outline bears it out.

Points in the plane are complex numbers here, x + iy in metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from hybridseg.shape.geometry import as_complex
from hybridseg.shape.walls import FREE, Price, Walls, joined

_POINTS = (32, 512)
"""Fewest and most points of a ring, a power of two: rings with equally many are described at once."""

_ROUNDS = 6
"""Of weighing points by their distance from the wall: enough to settle."""

_ASKEW = 0.02
"""Least weight of a point where the outline runs across its wall, and so does not say where the wall is."""


@dataclass(frozen=True)
class Points:
    """Points on b rings, equally many on each."""

    ring: np.ndarray
    """Number of the ring (b,)."""
    polygon: np.ndarray
    """Number of its polygon (b,)."""
    z: np.ndarray
    """(b, n) complex."""
    weight: np.ndarray
    """Length of outline that each stands for (m), (b, n)."""


def sampled(polygons: np.ndarray, spacing_m: float) -> list[Points]:
    """Return points along all rings of polygons (n,) in metres, about `spacing_m` apart.

    Args:
        polygons: Polygons without the steps of pixels.
        spacing_m: wanted distance between points.
    """
    rings, polygon = shapely.get_rings(polygons, return_index=True)
    length = shapely.length(rings)
    count = np.maximum(length / max(spacing_m, 1e-3), 1)
    count = np.clip(2 ** np.ceil(np.log2(count)), *_POINTS).astype(int)
    found = []
    for n in np.unique(count):
        rows = np.flatnonzero(count == n)
        z = _along(rings[rows], n)
        weight = np.repeat(length[rows, None] / n, n, axis=1)
        found.append(Points(rows, polygon[rows], z, weight))
    return found


def describe(points: list[Points], direction: np.ndarray, price: Price, only: np.ndarray | None = None) -> Walls:
    """Return the walls that describe polygons at the least cost.

    Args:
        points: along their rings.
        direction: that of each polygon's walls (n,) in radians.
        price: of walls.
        only: describe the polygons of these numbers (k,).
    """
    found = []
    for each in points:
        rows = slice(None) if only is None else np.flatnonzero(np.isin(each.polygon, only))
        some = Points(each.ring[rows], each.polygon[rows], each.z[rows], each.weight[rows])
        if len(some.ring):
            found.append(_walls(some, direction[some.polygon], price))
    return joined(found)


def _along(rings: np.ndarray, n: int) -> np.ndarray:
    """Return n places (b, n) on rings (b,), equally far apart along each."""
    places = np.empty((len(rings), n), dtype=complex)
    share = (np.arange(n) + 0.5) / n
    for row, z in enumerate(np.split(as_complex(rings), np.cumsum(shapely.get_num_coordinates(rings))[:-1])):
        way = np.append(0, np.cumsum(np.abs(np.diff(z))))  # by itself: what else is there must not change the rounding
        places[row] = np.interp(share * way[-1], way, z)
    return places


def _walls(points: Points, direction: np.ndarray, price: Price) -> Walls:
    """Return the walls of rings whose buildings have directions (b,)."""
    turn = np.exp(1j * direction)
    middle = points.z.mean(axis=1)
    local = (points.z - middle[:, None]) / turn[:, None]
    charge = np.outer(np.broadcast_to(price.wall_of(points.polygon), len(local)), [1, 1, 1 + price.free])
    number, kind, count = _pieces(local, points.weight, charge)
    of = np.repeat(np.arange(len(local)), count)
    step = np.roll(local, -1, axis=1) - np.roll(local, 1, axis=1)
    step = step / np.maximum(np.abs(step), 1e-9)
    flat = (local.ravel(), step.ravel(), points.weight.ravel(), number.ravel())
    point, way, spread, weight, cost = _lines(*flat, kind, price.bump_m)
    start = number != np.roll(number, 1, axis=1)
    begin = np.zeros(len(kind), dtype=complex)
    begin[number[start]] = (local[start] + np.roll(local, 1, axis=1)[start]) / 2
    return Walls(
        points.polygon[of],
        points.ring[of],
        kind,
        point * turn[of] + middle[of],
        way * turn[of],
        weight,
        spread * turn[of] ** 2,
        cost,
        begin * turn[of] + middle[of],
    )


def _pieces(z: np.ndarray, weight: np.ndarray, charge: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the number of the wall of each point (b, n), each wall's kind (m,), and the count of walls (b,) of rings.

    Walls are numbered in the order in which rings are walked. A ring has no beginning, so the first round only finds a
    corner to begin at, half-way around. A wall costs `charge` (b, 3), by its kind.
    """
    b, n = z.shape
    start = np.zeros(b, dtype=int)
    for _ in range(2):
        order = (np.arange(n) + start[:, None]) % n
        cuts, kinds = _cheapest(np.take_along_axis(z, order, 1), np.take_along_axis(weight, order, 1), charge)
        middle = np.array([min(cut, key=lambda k: abs(k - n // 2)) for cut in cuts])
        begun, start = start, (start + middle) % n
    number = np.empty((b, n), dtype=int)
    kind: list[int] = []
    count: list[int] = []
    for row, (cut, own) in enumerate(zip(cuts, kinds, strict=True)):
        piece = np.repeat(np.arange(len(cut)), np.diff(cut, append=n))
        if len(own) > 1 and own[0] == own[-1] != FREE:  # one wall on both sides of where the ring begins
            piece[piece == len(own) - 1], own = 0, own[:-1]
        number[row, (np.arange(n) + begun[row]) % n] = piece + len(kind)
        kind += own
        count.append(len(own))
    return number, np.array(kind), np.array(count)


def _cheapest(z: np.ndarray, weight: np.ndarray, charge: np.ndarray) -> tuple[list[list[int]], list[list[int]]]:
    """Return where the walls of open lines of points (b, n) begin, and their kinds.

    `cost[:, k]` is the least cost of the first j points if their last wall is of kind k; `best` and `least` keep the
    cheapest two kinds and what they cost. Two walls of one kind do not follow each other, unless free.
    """
    b, n = z.shape
    kinds = 3 if np.isfinite(charge[:, FREE]).all() else 2
    sums = [
        np.concatenate([np.zeros((b, 1)), np.cumsum(each, axis=1)], axis=1)
        for each in (weight, weight * z, weight * np.abs(z) ** 2, weight * z**2)
    ]
    begins, earlier = np.zeros((2, b, n + 1, kinds), dtype=np.int32)
    least = np.zeros((b, n + 1, 2))  # of all kinds, and of all but the best
    best = np.full((b, n + 1, 2), -1)
    row = np.arange(b)
    for j in range(1, n + 1):
        total, first, square, moment = (each[:, j, None] - each[:, :j] for each in sums)
        square, moment = (square - np.abs(first) ** 2 / total).real, moment - first**2 / total
        cost = np.empty((b, kinds))
        for kind, off in enumerate((moment.real, -moment.real, np.abs(moment))[:kinds]):
            second = ((best[:, :j, 0] == kind) & (kind != FREE)).astype(int)
            whole = np.take_along_axis(least[:, :j], second[..., None], 2)[..., 0] + (square - off) / 4
            i = np.argmin(whole, axis=1)
            cost[:, kind] = whole[row, i] + charge[:, kind]
            begins[:, j, kind], earlier[:, j, kind] = i, best[row, i, second[row, i]]
        order = np.argsort(cost, axis=1, kind="stable")[:, :2]
        best[:, j], least[:, j] = order, np.take_along_axis(cost, order, 1)
    cuts: list[list[int]] = []
    found: list[list[int]] = []
    for r in range(b):
        j, kind, cut, own = n, int(best[r, n, 0]), [], []
        while j > 0:
            own.append(kind)
            j, kind = int(begins[r, j, kind]), int(earlier[r, j, kind])
            cut.append(j)
        cuts.append(cut[::-1])
        found.append(own[::-1])
    return cuts, found


def _lines(
    z: np.ndarray, step: np.ndarray, weight: np.ndarray, number: np.ndarray, kind: np.ndarray, bump_m: float
) -> tuple[np.ndarray, ...]:
    """Return middle, direction, spread, weight and cost (m,) of the straight lines through numbered points.

    Points count the less the further they lie from their line (Cauchy's weight), and the more the outline runs along it
    there (`step`, a unit number).
    """
    m, way, counted = len(kind), np.where(kind == 1, 1j, 1 + 0j), weight
    for _ in range(_ROUNDS):
        total = np.bincount(number, counted, m)
        point = _sum(number, counted * z, m) / total
        off = z - point[number]
        spread = _sum(number, counted * off**2, m)
        way = np.where(kind == FREE, np.exp(0.5j * np.angle(spread)), way)
        counted = weight * (_ASKEW + (step / way[number]).real ** 2)
        counted /= 1 + ((off / way[number]).imag / bump_m) ** 2
    cost = np.bincount(number, weight * ((z - point[number]) / way[number]).imag ** 2, m) / 2
    return point, way, spread, np.bincount(number, weight, m), cost


def _sum(number: np.ndarray, values: np.ndarray, m: int) -> np.ndarray:
    """Return sums (m,) of complex values by number."""
    return np.asarray(np.bincount(number, values.real, m) + 1j * np.bincount(number, values.imag, m))

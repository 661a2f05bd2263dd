"""Straight walls, and the polygons that they enclose.

Points in the plane are complex numbers here, x + iy in metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely

FREE = 2
"""Kind of a wall with a direction of its own; 0 runs along the building's, 1 across it."""

_PARALLEL = np.sin(np.radians(15.0))
"""Walls that turn less than this have no corner where their lines meet."""


@dataclass(frozen=True)
class Price:
    """What a description costs."""

    wall: float | np.ndarray
    """A wall (m3): of all polygons, or of each (n,)."""
    free: float
    """What a wall in a direction of its own costs more, in walls."""
    bump_m: float
    """A point as far from its wall as this counts half when the wall is placed, so that bumps do not move it."""

    def wall_of(self, polygon: np.ndarray | int) -> np.ndarray:
        """Return the price of a wall (m3) of these polygons."""
        wall = np.asarray(self.wall)
        return np.asarray(wall if wall.ndim == 0 else wall[polygon])


@dataclass(frozen=True)
class Walls:
    """Straight walls of polygons, ring by ring in the order in which they are walked: (m,) each."""

    polygon: np.ndarray
    """Number of the polygon."""
    ring: np.ndarray
    """Number of the ring; a polygon's first one is its exterior."""
    kind: np.ndarray
    """0 along the building's direction, 1 across, 2 in a direction of its own."""
    point: np.ndarray
    """The middle of what the wall describes."""
    direction: np.ndarray
    """Unit number; which of the two ways does not matter."""
    weight: np.ndarray
    """Length of what it describes (m)."""
    spread: np.ndarray
    """Integral of (z - point)**2 over what it describes (m3)."""
    cost: np.ndarray
    """Half the squared distance of what it describes, integrated along it (m3)."""
    begin: np.ndarray
    """Where it begins on the traced outline."""

    def corners(self) -> np.ndarray:
        """Return where each wall meets the one before it (m,); where it begins if the two are nearly parallel."""
        before = np.empty(len(self.ring), dtype=int)
        before[following(self.ring)] = np.arange(len(self.ring))
        sine = (self.direction.conj() * self.direction[before]).imag
        meets = np.abs(sine) > _PARALLEL
        along = ((self.point[before] - self.point).conj() * self.direction[before]).imag / np.where(meets, sine, 1)
        return np.where(meets, self.point + along * self.direction, self.begin)

    def turns(self) -> np.ndarray:
        """Return by how much each corner (m,) turns, in radians from 0 to pi."""
        corner, after = self.corners(), following(self.ring)
        edge = corner[after] - corner
        turn = np.empty(len(edge))
        turn[after] = np.abs(np.angle(edge[after] * edge.conj()))
        return turn

    def costs(self, price: Price, n: int) -> np.ndarray:
        """Return what the description of each polygon (n,) costs."""
        return np.bincount(
            self.polygon, self.cost + price.wall_of(self.polygon) * (1 + price.free * (self.kind == FREE)), n
        )

    def polygons(self, n: int) -> np.ndarray:
        """Return the polygons (n,) inside the walls; empty where the exterior has less than three."""
        corner = self.corners()
        _, first, count = np.unique(self.ring, return_index=True, return_counts=True)
        rings: dict[int, list[np.ndarray]] = {}
        for start, size in zip(first, count, strict=True):
            rings.setdefault(int(self.polygon[start]), []).append(corner[start : start + size])
        found = np.full(n, shapely.Polygon(), dtype=object)
        for row, (outer, *holes) in rings.items():
            if len(outer) > 2:
                found[row] = shapely.Polygon(as_xy(outer), [as_xy(hole) for hole in holes if len(hole) > 2])
        return found

    def replaced(self, other: Walls) -> Walls:
        """Return walls in which those of all polygons of `other` are its."""
        return joined([self._only(~np.isin(self.polygon, other.polygon)), other])

    def _only(self, wanted: np.ndarray) -> Walls:
        return Walls(*(getattr(self, name)[wanted] for name in self.__dataclass_fields__))

    def main_direction(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the direction (n,) in radians that fits the walls along and across best, and how stiff it is (n,) m3.

        Turning by so many radians costs half their square times the stiffness.
        """
        vote = np.where(self.kind == 0, self.spread, np.where(self.kind == 1, -self.spread, 0))
        moment = np.bincount(self.polygon, vote.real, n) + 1j * np.bincount(self.polygon, vote.imag, n)
        return np.angle(moment) / 2, np.abs(moment)


def following(ring: np.ndarray) -> np.ndarray:
    """Return which wall (m,) follows each in its ring; the numbers of the rings (m,) stand in blocks."""
    first = np.flatnonzero(np.diff(ring, prepend=-1))
    after = np.arange(len(ring)) + 1
    after[np.append(first[1:], len(ring)) - 1] = first
    return after


def joined(parts: Sequence[Walls]) -> Walls:
    """Return the walls of all parts, in order of polygons and of their rings."""
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in Walls.__dataclass_fields__]
    order = np.lexsort((columns[1], columns[0]))  # stable, so walls stay in the order in which rings are walked
    return Walls(*(column[order] for column in columns))


def as_xy(z: np.ndarray) -> np.ndarray:
    """Return coordinates (..., 2) of places in the plane."""
    return np.stack([z.real, z.imag], axis=-1)

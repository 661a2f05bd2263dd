"""Arrays of polygons as complex coordinates: repaired, compared, and the directions of their walls."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import shapely

_SPECK = 1e-6
"""Parts with less than this share of the area are what rounding cut off."""


def as_complex(geometries: np.ndarray) -> np.ndarray:
    """Return all coordinates of the geometries in a row, x + iy."""
    x, y = shapely.get_coordinates(geometries).T
    return np.asarray(x + 1j * y)


def moved(geometries: np.ndarray, move: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Return geometries (n,) with all coordinates moved.

    Args:
        geometries: any kind, (n,).
        move: takes complex coordinates (m,) and the number of the geometry that each belongs to (m,), and returns the
            new complex coordinates (m,).
    """
    of = np.repeat(np.arange(len(geometries)), shapely.get_num_coordinates(geometries))
    z = move(as_complex(geometries), of)
    return np.asarray(shapely.set_coordinates(geometries.copy(), np.stack([z.real, z.imag], axis=-1)))


def iou(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return the intersection over union of polygons, pair by pair (broadcast)."""
    common = shapely.area(shapely.intersection(one, two))
    return np.asarray(common / (shapely.area(one) + shapely.area(two) - common))


def repaired(polygons: np.ndarray) -> np.ndarray:
    """Return polygons (n,) with the invalid ones made valid: same area, without lines, points and specks.

    A change of CRS or of a few vertices may leave an outline that crosses itself by a nanometre. A loop of that size,
    kept as a part of its own, would later collapse to a line and make a mixed collection of the outline.

    Args:
        polygons: Polygons, MultiPolygons and None; valid ones are returned as they are.
    """
    out = polygons.copy()
    for row in np.flatnonzero(~shapely.is_valid(polygons) & ~shapely.is_missing(polygons)):
        parts = shapely.get_parts(shapely.make_valid(polygons[row], method="structure", keep_collapsed=False))
        parts = parts[shapely.area(parts) > _SPECK * shapely.area(parts).sum()]
        out[row] = parts[0] if len(parts) == 1 else shapely.multipolygons(parts) if len(parts) else shapely.Polygon()
    return out


_NOISE = np.radians(3.0)
"""Spread of the directions of objects that stand in a row, as traced: votes much further off the rest hardly count."""


def main_direction(polygons: np.ndarray) -> np.ndarray:
    """Return the direction of the walls of each polygon, modulo 90 degrees, in radians (n,).

    The mean of the edges' directions, weighted by length: fourth powers, as numbers in the complex plane, make the four
    directions of a right-angled outline one.
    """
    rings, polygon = shapely.get_rings(polygons, return_index=True)
    ring = np.repeat(np.arange(len(rings)), shapely.get_num_coordinates(rings))
    within = ring[1:] == ring[:-1]
    step, of = np.diff(as_complex(rings))[within], polygon[ring[1:][within]]
    length = np.abs(step)
    vote = np.divide(step**4, length**3, out=np.zeros_like(step), where=length > 0)
    n = len(polygons)
    return np.asarray(np.arctan2(np.bincount(of, vote.imag, n), np.bincount(of, vote.real, n)) / 4)


def shared_direction(
    polygons: np.ndarray, angle: np.ndarray, weight: np.ndarray, near_m: float, max_turn_deg: float
) -> np.ndarray:
    """Return the direction (n,) in radians that polygons share with those near them.

    The direction is that of the largest polygon near, as voted on by those near that one. So all in a row agree to the
    last digit, and what lies further than twice `near_m` changes nothing.

    Args:
        polygons: (n,) in metres.
        angle: their own directions (n,) in radians.
        weight: of their votes (n,); the largest is the one with the most.
        near_m: polygons closer than this share a direction.
        max_turn_deg: unless theirs differ by more, modulo 90 degrees.
    """
    one, two = shapely.STRtree(polygons).query(polygons, predicate="dwithin", distance=near_m)
    turn = modulo_right_angle(angle[two] - angle[one])
    alike = np.abs(turn) <= np.radians(max_turn_deg)
    one, two, turn = one[alike], two[alike], turn[alike]
    centre = as_complex(shapely.centroid(polygons))
    by_size = np.lexsort((centre.imag, centre.real, weight))
    size = np.argsort(by_size)
    largest = np.zeros(len(angle), dtype=int)
    np.maximum.at(largest, one, size[two])
    return np.asarray((angle + _consensus(one, turn, weight[two], len(angle)))[by_size[largest]])


def modulo_right_angle(angle: np.ndarray) -> np.ndarray:
    """Return angles in radians modulo 90 degrees, from -45 to 45."""
    return np.asarray((angle + np.pi / 4) % (np.pi / 2) - np.pi / 4)


def _consensus(one: np.ndarray, turn: np.ndarray, weight: np.ndarray, n: int) -> np.ndarray:
    """Return the turn (n,) from each one's own direction to that on which its neighbours agree, in radians.

    The circular mean modulo 90 degrees, weighted, and by Cauchy's weight for the distance from the mean before.
    """
    mean = np.zeros(n)
    for _ in range(5):
        off = turn - mean[one]
        vote = weight / (1 + (modulo_right_angle(off) / _NOISE) ** 2) * np.exp(4j * off)
        mean += np.angle(np.bincount(one, vote.real, n) + 1j * np.bincount(one, vote.imag, n)) / 4
    return mean

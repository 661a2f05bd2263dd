"""Directions of walls and rows, modulo 90 degrees: a polygon's own, and the one it shares with those near it."""

from __future__ import annotations

import numpy as np
import shapely

from hybridseg.shape.geometry import as_complex

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

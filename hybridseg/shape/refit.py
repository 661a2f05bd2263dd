"""Simplified outlines put where the detailed ones run: least squares over the vertices that are left.

Simplifying keeps some of the vertices where they are, and these are the ones that stand out: the simplified outline
runs beside the detailed one, not through it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import shapely
from scipy.sparse import csc_array, diags_array
from scipy.sparse.linalg import spsolve

from hybridseg.shape.geometry import as_complex
from hybridseg.shape.walls import as_xy

_PULL = 0.01
"""Stiffness of a vertex as a share of its edges' length, so that it does not slide along a straight line."""

_GAUSS = 0.5 + np.array([-0.5, 0.5]) / np.sqrt(3)
"""Places on an edge of the detailed outline that stand for half of it each: exact for squares of distances."""


def refitted(simple: np.ndarray, detailed: np.ndarray) -> np.ndarray:
    """Return simplified polygons (n,) whose vertices moved to where the edges lie closest to the detailed outlines.

    The squared distance of the detailed outline from the edge that stands for it, integrated along it, is least. A
    vertex of several polygons is moved for all of them, so borders that they share stay shared. Polygons that would
    become invalid keep their vertices.

    Args:
        simple: Polygons and MultiPolygons whose vertices are some of those of `detailed`.
        detailed: (n,).
    """
    vertices, of = np.unique(as_complex(simple), return_inverse=True)
    stretches = [each for pair in zip(simple, detailed, strict=True) for each in _stretches(*pair)]
    if not stretches:
        return simple
    start, end, place, weight = (np.concatenate(column) for column in zip(*stretches, strict=True))
    one, two = np.searchsorted(vertices, start), np.searchsorted(vertices, end)
    edge = end - start
    along = (place - start) / edge
    share, across = along.real.clip(0, 1), 1j * edge / np.abs(edge)
    off = along.imag * np.abs(edge)  # of the place from its edge, to be made small by moving the edge's ends across it
    n, row = len(vertices), np.tile(np.arange(len(place)), 4)
    ends = np.concatenate([(1 - share) * across, share * across])
    column = np.concatenate([one, two, one + n, two + n])
    moves = csc_array((np.concatenate([ends.real, ends.imag]), (row, column)), shape=(len(place), 2 * n))
    held = np.bincount(one, weight, n) + np.bincount(two, weight, n)
    stiff = np.tile(np.where(held > 0, _PULL * held, 1), 2)
    weighted = (moves * weight[:, None]).T
    shift = spsolve(csc_array(weighted @ moves + diags_array(stiff)), weighted @ off)
    return _moved(simple, vertices, vertices + shift[:n] + 1j * shift[n:], of)


def _stretches(simple: shapely.Geometry, detailed: shapely.Geometry) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield what each edge of a polygon stands for, ring by ring; nothing of a ring that has no detailed one.

    Start and end of the edge, a place on the detailed outline, and the length that this stands for: (m,) each.
    """
    fine = [_open(ring) for ring in shapely.get_rings(shapely.get_parts(detailed))]
    every = np.concatenate([np.empty(0, complex), *fine])
    ring_of = np.repeat(np.arange(len(fine)), [len(z) for z in fine])
    order = np.argsort(every)
    for z in map(_open, shapely.get_rings(shapely.get_parts(simple))):
        found = order[np.searchsorted(every, z, sorter=order).clip(max=len(every) - 1)]
        own = fine[np.bincount(ring_of[found]).argmax()]  # two rings may touch, but not share most of their vertices
        sorter = np.argsort(own)
        at = sorter[np.searchsorted(own, z, sorter=sorter).clip(max=len(own) - 1)]
        steps = (np.roll(at, -1) - at) % len(own)
        if (own[at] != z).any() or steps.sum() != len(own) or len(z) == len(own):  # the last: nothing was left out
            continue
        begun = np.roll(own, -at[0])
        step, edge = np.roll(begun, -1) - begun, np.repeat(np.arange(len(z)), 2 * steps)
        places = (begun[:, None] + step[:, None] * _GAUSS).ravel()
        yield z[edge], np.roll(z, -1)[edge], places, np.repeat(np.abs(step) / 2, 2)


def _open(ring: shapely.Geometry) -> np.ndarray:
    """Return the vertices of a ring, each once."""
    return as_complex(np.array([ring]))[:-1]


def _moved(polygons: np.ndarray, before: np.ndarray, after: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return polygons with vertices moved; those that became invalid, and what they share, as before."""
    owner = np.repeat(np.arange(len(polygons)), shapely.get_num_coordinates(polygons))
    stays = np.zeros(len(before), dtype=bool)
    while True:
        moved = shapely.set_coordinates(polygons.copy(), as_xy(np.where(stays, before, after)[of]))
        wrong = ~shapely.is_valid(moved)[owner] & ~stays[of]
        if not wrong.any():
            return np.asarray(moved)
        stays[of[wrong]] = True

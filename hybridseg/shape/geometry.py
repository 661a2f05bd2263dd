"""Arrays of polygons as complex coordinates, repaired, and compared."""

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

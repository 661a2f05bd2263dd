"""Polygons that a change of CRS or of a few vertices has left invalid, made valid."""

from __future__ import annotations

import numpy as np
import shapely

_SPECK = 1e-6
"""Parts with less than this share of the ground are what rounding cut off."""


def repaired(polygons: np.ndarray) -> np.ndarray:
    """Polygons and MultiPolygons (n,), the invalid ones repaired: same ground, without lines, points and specks.

    What was rounded may cross itself by a nanometre; a loop of that size, kept as a part of its own, would later
    collapse to a line and make a mixed collection of the outline.
    """
    out = polygons.copy()
    for row in np.flatnonzero(~shapely.is_valid(polygons) & ~shapely.is_missing(polygons)):
        parts = shapely.get_parts(shapely.make_valid(polygons[row], method="structure", keep_collapsed=False))
        parts = parts[shapely.area(parts) > _SPECK * shapely.area(parts).sum()]
        out[row] = parts[0] if len(parts) == 1 else shapely.multipolygons(parts) if len(parts) else shapely.Polygon()
    return out

"""What tests ask of two outlines."""

from __future__ import annotations

import shapely


def iou(one: shapely.Geometry, two: shapely.Geometry) -> float:
    """Area of what both cover, as a share of what either does."""
    return one.intersection(two).area / one.union(two).area

"""Outlines of a map against outlines of the truth."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import harmonic_mean

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from hybridseg.evaluate.objects import Geometries, share

_QUADRANT_SEGMENTS = 16
"""Of the buffers' round corners: the radius is met to 0.1 %."""


@dataclass(frozen=True)
class BoundaryScore:
    """Shares of boundary length: precision of the predicted, recall of the true boundary."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 for nothing against nothing."""
        return harmonic_mean([self.precision, self.recall])


def boundary_f1(
    pred: Geometries, truth: Geometries, tolerance_m: float, aoi: BaseGeometry | None = None
) -> BoundaryScore:
    """How much of each boundary runs within `tolerance_m` of the other.

    The boundary measure of Csurka et al. 2013 (What is a good evaluation measure for semantic segmentation?), on exact
    lengths instead of pixels.

    Args:
        pred: polygons in a CRS in metres; holes count as boundary.
        truth: polygons in the same CRS.
        tolerance_m: greatest distance (m) at which boundaries agree.
        aoi: measure only boundary inside this area, `tolerance_m` away from its rim: there outlines are cut, and the
            cut is nobody's boundary. What they are compared with is not clipped.
    """
    pred_lines, truth_lines = _boundaries(pred), _boundaries(truth)
    inside = None if aoi is None else shapely.buffer(aoi, -tolerance_m)
    pred_near, pred_length = _near(pred_lines, truth_lines, tolerance_m, inside)
    truth_near, truth_length = _near(truth_lines, pred_lines, tolerance_m, inside)
    return BoundaryScore(
        precision=share(pred_near, pred_length, none_expected=truth_length == 0),
        recall=share(truth_near, truth_length, none_expected=pred_length == 0),
    )


def _boundaries(polygons: Geometries) -> np.ndarray:
    """Boundary of each polygon, (n,) lines; missing and empty ones left out."""
    lines = shapely.boundary(np.asarray(polygons, dtype=object))
    return np.asarray(lines[~(shapely.is_missing(lines) | shapely.is_empty(lines))])


def _near(
    lines: np.ndarray, others: np.ndarray, tolerance_m: float, inside: BaseGeometry | None
) -> tuple[float, float]:
    """(length of `lines` within the tolerance of `others`, length of `lines`), in metres, both within `inside`."""
    if inside is not None:
        lines = shapely.intersection(lines, inside)
    belts = shapely.buffer(others, tolerance_m, quad_segs=_QUADRANT_SEGMENTS)
    line, belt = shapely.STRtree(belts).query(lines, predicate="intersects")
    # Belts of neighbours overlap: united for each line, or their common part would count twice.
    rows, first = np.unique(line, return_index=True)
    united = [shapely.union_all(group) for group in np.split(belts[belt], first[1:])] if len(rows) else []
    near = shapely.length(shapely.intersection(lines[rows], united)).sum()
    return float(near), float(shapely.length(lines).sum())

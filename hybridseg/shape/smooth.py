"""Traced outlines without the steps of their pixels, of any shape."""

from __future__ import annotations

from typing import Literal

import geopandas as gpd
import numpy as np
from pydantic import Field

from hybridseg.shape.candidates import candidates_of, choose_without_overlaps, where_alike
from hybridseg.shape.coverage import smooth_steps
from hybridseg.shape.geometry import repaired
from hybridseg.shape.settings import ShapeStage, traced_m


class Smooth(ShapeStage):
    """Outlines without the steps of their pixels; neighbours that share a border still do.

    An outline that would change too much, as a speck of few pixels, or grow into a neighbour stays as it was traced.
    """

    kind: Literal["smooth"] = "smooth"
    step_px: float = Field(
        0.75, ge=0, description="square root of the area that a vertex must stand for, in source pixels"
    )
    min_iou: float = Field(0.8, gt=0, le=1, description="least agreement with the traced outline")
    max_overlap: float = Field(
        0.01, ge=0, le=1, description="new overlap allowed with a neighbour, as a share of the smaller of the two"
    )

    def shape(self, features: gpd.GeoDataFrame, gsd_m: float = 0.0, coarse_m: float = 0.0) -> gpd.GeoDataFrame:
        """Return the same rows, order, index and columns, with new geometries; see `ShapeStage.shape`."""
        pixel_m = traced_m(features, gsd_m, coarse_m)

        def propose(ground: np.ndarray, _: object, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            traced = repaired(ground)
            smooth = smooth_steps(traced, pixel_m[rows], self.step_px * pixel_m[rows])
            return where_alike(smooth, traced, self.min_iou, otherwise=traced), traced

        chosen = choose_without_overlaps(candidates_of(features, propose), self.max_overlap)
        return features.set_geometry(gpd.GeoSeries(repaired(chosen), features.index, features.crs))

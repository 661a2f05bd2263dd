"""Everything mode: a point on every so many metres. What the masks are is for the heatmap to say, afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
from rasterio.features import rasterize

from hybridseg.theme import GridPolicy
from hybridseg.types import Window
from hybridseg.what.prompts import Lattice, as_prompts, join_prompts


@dataclass(frozen=True)
class FindGrid:
    """Points on a lattice anchored in the CRS, wherever there is imagery."""

    label: str
    policy: GridPolicy
    lattice: Lattice
    halo_px: int = 0

    def __call__(self, extent: np.ndarray, interior: np.ndarray, block: Window, core: Window) -> gpd.GeoDataFrame:
        """Points of a core: each the middle of a square of the size of the objects that are sought."""
        step = max(1, round(self.policy.step_m / self.lattice.pixel_m))
        col0, row0 = self.lattice.anchor
        cols = np.arange(core.col + (-(col0 + core.col)) % step, core.stop[0], step)
        rows = np.arange(core.row + (-(row0 + core.row)) % step, core.stop[1], step)
        half_px = self.policy.object_m / self.lattice.pixel_m / 2
        records = []
        for row in rows.tolist():
            for col in cols.tolist():
                x, y = self.lattice.affine * (col + 0.5, row + 0.5)
                dx, dy = half_px * self.lattice.affine.a, half_px * abs(self.lattice.affine.e)
                support = shapely.box(x - dx, y - dy, x + dx, y + dy)
                identity = f"{self.label}-{col0 + col}-{row0 + row}"
                point = shapely.MultiPoint([(x, y)])
                records.append((identity, self.label, 0.0, x, y, point, shapely.MultiPoint(), support))
        return as_prompts(records, self.lattice.crs)

    def join(self, parts: Sequence[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
        """All blocks' points."""
        return join_prompts(parts, self.lattice.crs)


def mean_inside(polygon: shapely.Geometry, extent: np.ndarray, window: Window, lattice: Lattice) -> float:
    """Mean extent under an outline (in the CRS). extent: (h, w) of `window`, in heatmap px; 0 where none is inside."""
    to_px = ~lattice.affine
    moved = shapely.transform(
        polygon, lambda xy: np.column_stack(to_px * (xy[:, 0], xy[:, 1])) - (window.col, window.row)
    )
    inside = rasterize([moved], extent.shape, dtype=np.uint8).astype(bool)
    return float(extent[inside].mean()) if inside.any() else 0.0

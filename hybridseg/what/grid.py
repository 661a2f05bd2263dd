"""Everything mode: a point on every so many metres; the heatmap labels the masks afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pydantic import Field
from rasterio.features import rasterize

from hybridseg.heatmap import Heatmap
from hybridseg.rowfile import PackedRows
from hybridseg.tables import Prompts, Refined
from hybridseg.types import Window
from hybridseg.what.lattice import Block, Lattice, ObjectSettings, join_in_order


class Grid(ObjectSettings):
    """Points on a lattice anchored in the CRS, wherever there is imagery; masks are kept where extent is high."""

    labels_masks: ClassVar[bool] = True
    kind: Literal["grid"] = "grid"
    step_m: float = Field(5.0, gt=0, description="distance between points")
    object_m: float = Field(15.0, gt=0, description="size of objects that windows are chosen for")
    extent: float = Field(0.5, gt=0, lt=1, description="least mean extent under a mask that is kept")
    min_area_m2: float = Field(6.0, ge=0)

    @property
    def reach_m(self) -> float:
        """One object around the extent."""
        return self.object_m

    def halo_px(self, lattice: Lattice) -> int:
        """None: points need no surroundings."""
        return 0

    def find(self, block: Block, lattice: Lattice, label: str) -> gpd.GeoDataFrame:
        """Return the points of a core on valid imagery, each the middle of a square of the size of an object."""
        core = block.core
        step = max(1, round(self.step_m / lattice.pixel_m))
        col0, row0 = lattice.anchor
        cols = np.arange(core.col + (-(col0 + core.col)) % step, core.stop[0], step)
        rows = np.arange(core.row + (-(row0 + core.row)) % step, core.stop[1], step)
        half_px = self.object_m / lattice.pixel_m / 2
        dx, dy = half_px * lattice.affine.a, half_px * abs(lattice.affine.e)
        records = []
        for row in rows.tolist():
            for col in cols.tolist():
                if not block.valid[row - block.window.row, col - block.window.col]:
                    continue
                x, y = lattice.affine * (col + 0.5, row + 0.5)
                support = shapely.box(x - dx, y - dy, x + dx, y + dy)
                identity = f"{label}-{col0 + col}-{row0 + row}"
                point = shapely.MultiPoint([(x, y)])
                records.append((identity, label, 0.0, x, y, point, shapely.MultiPoint(), support))
        return Prompts.from_records(records, lattice.crs).rows

    def gather(self, parts: Sequence[PackedRows], lattice: Lattice, label: str) -> Prompts:
        """Return all blocks' points."""
        return join_in_order(parts, lattice.crs)

    def relabel(self, refined: Refined, heatmap: Heatmap, lattice: Lattice, label: str) -> Refined:
        """Keep the masks under which extent is high on average, and make that their score.

        They lose their supports: a square around a point is no outline, so where a mask fails at the gate nothing
        stays, and agreement with it says nothing.
        """
        outlines = refined.rows["outline"].to_numpy()
        scores = np.zeros(len(refined))
        for row in np.flatnonzero(refined.masked):
            outline = shapely.transform(outlines[row], lattice.to_px)
            window = _around(outline)
            scores[row] = mean_inside(outline, heatmap.read(window, label)[0], window)
        kept = refined.take(scores >= self.extent)
        rows, none = kept.rows, [None] * len(kept)
        rows = rows.assign(
            score=pd.Series(scores[scores >= self.extent], index=rows.index),
            agreement=np.nan,
            support=gpd.GeoSeries(none, index=rows.index, crs=rows.crs),
        )
        return Refined(rows, refined.sweep)


def mean_inside(outline: shapely.Geometry, extent: np.ndarray, window: Window) -> float:
    """Return the mean of extent, (h, w) of `window`, under an outline in heatmap pixels; 0 where none is inside."""
    moved = shapely.transform(outline, lambda xy: xy - (window.col, window.row))
    inside = rasterize([moved], extent.shape, dtype=np.uint8).astype(bool)
    return float(extent[inside].mean()) if inside.any() else 0.0


def _around(outline: shapely.Geometry) -> Window:
    """Heatmap pixels that an outline (in such pixels) touches."""
    x0, y0, x1, y1 = outline.bounds
    col, row = int(np.floor(x0)), int(np.floor(y0))
    return Window(col, row, int(np.ceil(x1)) - col, int(np.ceil(y1)) - row)

"""How probable a class is on a grid of metres, by its heatmap."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from affine import Affine
from pyproj import CRS
from rasterio.warp import Resampling, reproject, transform_bounds

from hybridseg.heatmap import Heatmap
from hybridseg.types import Window


@dataclass(frozen=True)
class Sight:
    """A class of a heatmap, seen in a metric CRS.

    heatmap: may be of any CRS.
    label: the class.
    crs: of the places asked for.
    """

    heatmap: Heatmap
    label: str
    crs: CRS

    def __call__(self, affine: Affine, shape: tuple[int, int]) -> np.ndarray:
        """Return the probability (h, w) float32 on a grid of `crs`, bilinear; NaN where the heatmap says nothing."""
        grid = self.heatmap.geobox
        theirs, ours = self._wkt
        found = np.full(shape, np.nan, np.float32)
        right, bottom = affine @ (shape[1], shape[0])
        box = transform_bounds(ours, theirs, affine.c, bottom, right, affine.f)
        cols, rows = ~grid.affine @ (np.array([box[0], box[2]]), np.array([box[1], box[3]]))
        low, high = (
            np.floor([cols.min(), rows.min()]).astype(int) - 2,
            np.ceil([cols.max(), rows.max()]).astype(int) + 2,
        )
        window = Window(*low.tolist(), *(high - low).tolist()).clip(Window(0, 0, grid.width, grid.height))
        if window.width > 0 and window.height > 0:
            extent, _, valid = self.heatmap.read(window, self.label)
            reproject(
                np.where(valid, extent, np.nan), found, resampling=Resampling.bilinear,
                src_transform=grid.affine @ Affine.translation(window.col, window.row), src_crs=theirs,
                src_nodata=np.nan, dst_transform=affine, dst_crs=ours, dst_nodata=np.nan,
            )  # fmt: skip
        return found

    @cached_property
    def _wkt(self) -> tuple[str, str]:
        """The CRS of the heatmap and of the places: each dead end asks for them."""
        return CRS.from_user_input(self.heatmap.geobox.crs).to_wkt(), self.crs.to_wkt()

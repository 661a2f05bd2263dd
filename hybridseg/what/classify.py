"""The first sweep's work: one window of the raster to one piece of the heatmap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from hybridseg.read.source import Source
from hybridseg.types import Window


class Network(Protocol):
    """What the sweep needs of a classifier."""

    @property
    def stride(self) -> int:
        """Image pixels along a heatmap pixel's side."""

    @property
    def snap_px(self) -> int:
        """Windows start and end on multiples of this."""

    @property
    def bands(self) -> int:
        """Bands of its heatmap, two a class."""

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """(3, H, W) uint8 to (B, H/stride, W/stride) float32 in [0, 1]."""


@dataclass(frozen=True)
class Classify:
    """Reads core and halo, writes the core only, so that the heatmap is one surface without seams.

    core_px, halo_px: on the working grid; multiples of the network's deepest stride.
    """

    network: Network
    core_px: int = 768
    halo_px: int = 160

    def __call__(self, source: Source, grid: GeoBox, core: Window) -> tuple[np.ndarray, np.ndarray]:
        """Heatmap of one core. `core`: a window of `grid`, in its pixels.

        Returns: (B, h, w) float32 in [0, 1] and (h, w) bool, both at the heatmap's resolution.
        """
        stride = self.network.stride
        window = core.pad(self.halo_px)
        chip = source.read_grid(crop(grid, window))
        rows, cols = core.slices(window)
        inner = (slice(rows.start // stride, rows.stop // stride), slice(cols.start // stride, cols.stop // stride))
        h, w = chip.valid.shape
        valid = np.any(chip.valid.reshape(h // stride, stride, w // stride, stride), axis=(1, 3))[inner]
        if not valid.any():
            return np.zeros((self.network.bands, *valid.shape), np.float32), valid
        return self.network.predict(chip.pixels)[:, *inner], valid


def crop(grid: GeoBox, window: Window) -> GeoBox:
    """The part of a grid, which may reach beyond it."""
    return GeoBox((window.height, window.width), grid.affine @ Affine.translation(window.col, window.row), grid.crs)

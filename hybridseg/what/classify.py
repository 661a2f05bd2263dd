"""The first sweep's work: one window of the raster to one piece of the heatmap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from hybridseg.read.scaling import check_scaling
from hybridseg.read.source import Source
from hybridseg.read.windows import tile
from hybridseg.types import NetworkSpec, Window

BEYOND_SNAPS = 4
"""Empty ground shown around the raster, in the network's deepest strides: its features are poor at a window's edge."""


class Network(Protocol):
    """What the sweep needs of a classifier."""

    @property
    def spec(self) -> NetworkSpec:
        """What it takes and gives."""

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """(3, H, W) uint8, or (B, H, W) float32 bands, to (2 x classes, H/stride, W/stride) in [0, 1]."""


@dataclass(frozen=True)
class Classify:
    """Reads core and halo, writes the core only, so that the heatmap is one surface without seams.

    halo_px: on the working grid; a multiple of the network's deepest stride. Lite0 with its pyramid sees 480 px to each
    side; what lies beyond 384 px moves no value by a step of the stored heatmap (1/254), beyond 160 px some by 35.
    Where the network takes images of one size only, the halo is what that leaves around cores at fixed places.
    """

    network: Network
    halo_px: int = 384

    def cores(self, shape: tuple[int, int], core_px: int, offset_px: int) -> list[Window]:
        """The windows of the sweep: of `core_px`, or of the core that the network's image has."""
        if self.network.spec.image_px is None:
            return tile(shape, core_px, offset_px)
        return tile(shape, self.network.spec.snap_px)

    def __call__(self, source: Source, grid: GeoBox, core: Window, raster: Window) -> tuple[np.ndarray, np.ndarray]:
        """Heatmap of one core.

        Args:
            source: what to read, as `shown` gives it.
            grid: the working grid.
            core: a window of the grid, in its pixels.
            raster: where the whole source lies on the grid. A halo reaches little beyond it, since there is nothing to
                see, and as far for every tiling.

        Returns:
            (B, h, w) float32 in [0, 1] and (h, w) bool, both at the heatmap's resolution.
        """
        stride = self.network.spec.stride
        fixed = self.network.spec.image_px
        halo_px = self.halo_px if fixed is None else (fixed - self.network.spec.snap_px) // 2
        window = core.pad(halo_px).clip(raster.pad(BEYOND_SNAPS * self.network.spec.snap_px))
        chip = source.read_grid(crop(grid, window))
        rows, cols = core.slices(window)
        inner = (slice(rows.start // stride, rows.stop // stride), slice(cols.start // stride, cols.stop // stride))
        h, w = chip.valid.shape
        valid = np.any(chip.valid.reshape(h // stride, stride, w // stride, stride), axis=(1, 3))[inner]
        if not valid.any():
            return np.zeros((2 * len(self.network.spec.classes), *valid.shape), np.float32), valid
        return self.network.predict(chip.pixels)[:, *inner], valid


def shown(source: Source, network: Network) -> Source:
    """The source as a network wants to see it: in 8-bit RGB, or its own bands raw. The refiner goes on seeing RGB.

    Raises:
        BandsMissing: the raster lacks a band, or its values are plainly in another unit.
    """
    if network.spec.source_bands is None:
        return source
    wanted = f"the model looks at {len(network.spec.source_bands)} bands as {network.spec.scaling}"
    return check_scaling(source.raw(network.spec.source_bands), network.spec.scaling, wanted)


def crop(grid: GeoBox, window: Window) -> GeoBox:
    """The part of a grid, which may reach beyond it."""
    return GeoBox((window.height, window.width), grid.affine @ Affine.translation(window.col, window.row), grid.crs)

"""Small values that all floors share: settings, windows, chips, what a classifier takes, how a value was made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from odc.geo.geobox import GeoBox
from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen settings: unknown keys, infinite values and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


METADATA_KEY = "hybridseg"
"""Name under which every file that we write holds its provenance."""

FEATURE_COLUMNS = (
    "id", "class", "score", "origin", "iou_pred", "stability", "agreement", "area_m2", "geometry",
)  # fmt: skip
"""Columns of a result, in order. `origin` is 'refined' or 'coarse'; after a review also 'clicked' or 'drawn'."""


MAX_POINTS = 6
"""Points of every prompt, box corners included, padded with label -1. Fixed, because to SAM2 each padding is a token:
with another number of them a mask changes."""

HINT_SLOPE = 12.0
"""Logits of a hint from the share of a pixel that is covered: from -6 (none) to 6 (all)."""

FINEST_M, COARSEST_M = 1e-3, 1e5
"""Ground sampling distances that can be meant (m)."""

Extent = tuple[float, float, float, float]
"""(left, bottom, right, top) in the units of a CRS."""


@dataclass(frozen=True)
class NetworkSpec:
    """What a classifier takes and gives, apart from its weights.

    classes: names, in the order of the heatmap's bands (extent and interior of each).
    stride: image pixels along the side of a heatmap pixel.
    snap_px: windows start and end on multiples of this.
    image_px: side of the only image it takes, whose core is `snap_px` wide; None: any size in multiples of `snap_px`.
    gsd_m: ground sampling distance it was made for, None: any; coarsest_gsd_m: coarser scenes are refused.
    source_bands: bands of the raster, by name or 1-based number, read as stored; None: 8-bit red, green and blue.
    scaling: unit of the values it takes, in words.
    halo_px: what it is shown around a core, in whole strides; networks of one image size have what the core leaves.
        Lite0 with its pyramid sees 480 px to each side; what lies beyond 384 px moves no value by a step of the stored
        heatmap (1/254), beyond 160 px some by 35.
    """

    classes: tuple[str, ...]
    stride: int
    snap_px: int
    gsd_m: float | None
    coarsest_gsd_m: float
    image_px: int | None = None
    source_bands: tuple[int, ...] | tuple[str, ...] | None = None
    scaling: str = "8-bit, 0 to 255"
    halo_px: int = 384


def core_px(image_px: int) -> int:
    """Side of the core of an image of fixed size: five eighths of its side, in whole strides of 32 px.

    The rest is halo.
    """
    return image_px * 5 // 8 // 32 * 32


@dataclass(frozen=True)
class Chip:
    """Pixels of one window, ready for a network.

    pixels: (3, H, W) uint8, RGB after the scene's stretch; or (B, H, W) float32, bands as stored. 0 where not valid.
    valid: (H, W) bool, False for nodata and outside the raster.
    geobox: the window's grid, (H, W).
    """

    pixels: np.ndarray
    valid: np.ndarray
    geobox: GeoBox

    def __post_init__(self) -> None:
        shape = (self.geobox.height, self.geobox.width)
        kind = self.pixels.dtype.name
        count = {"uint8": 3, "float32": max(1, len(self.pixels))}.get(kind)
        if count is None or self.pixels.shape != (count, *shape):
            raise ValueError(
                f"pixels must be (3, {shape[0]}, {shape[1]}) uint8 or (B, {shape[0]}, {shape[1]}) float32, "
                f"got {self.pixels.shape} {kind}"
            )
        if self.valid.dtype != np.bool_ or self.valid.shape != shape:
            raise ValueError(f"valid must be {shape} bool, got {self.valid.shape} {self.valid.dtype}")


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels on a grid: `col`, `row` of its first pixel, `width`, `height` (px)."""

    col: int
    row: int
    width: int
    height: int

    @property
    def stop(self) -> tuple[int, int]:
        """(col, row) one past the last pixel."""
        return self.col + self.width, self.row + self.height

    def pad(self, px: int) -> Window:
        """Grow by `px` on every side."""
        return Window(self.col - px, self.row - px, self.width + 2 * px, self.height + 2 * px)

    def clip(self, to: Window) -> Window:
        """The part inside `to` (width or height 0 when apart)."""
        c0, r0 = max(self.col, to.col), max(self.row, to.row)
        c1, r1 = min(self.stop[0], to.stop[0]), min(self.stop[1], to.stop[1])
        return Window(c0, r0, max(0, c1 - c0), max(0, r1 - r0))

    def slices(self, within: Window) -> tuple[slice, slice]:
        """(rows, cols) of this window in an array that covers `within`."""
        r, c = self.row - within.row, self.col - within.col
        return slice(r, r + self.height), slice(c, c + self.width)


@dataclass(frozen=True)
class Failure:
    """A window that could not be done. place: which; reason: one line."""

    place: str
    reason: str


@dataclass(frozen=True)
class Sweep:
    """How a value was made.

    windows: processed, failed ones included; in_raster: those that a full cover of the raster would take;
    seconds: wall time; failures: windows that could not be done; reused: windows of which an earlier run or another
    process had the result.
    """

    windows: int = 0
    in_raster: int = 0
    seconds: float = 0.0
    failures: tuple[Failure, ...] = ()
    reused: int = 0

"""The protocol `Scene`: what the stages ask of imagery, whatever holds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from hybridseg.types import Chip, Window


@runtime_checkable
class Scene(Protocol):
    """Georeferenced imagery that can be read on any grid of its CRS. Frozen, picklable, compared by value."""

    @property
    def name(self) -> str:
        """What messages and provenance call it, without credentials."""

    @property
    def geobox(self) -> GeoBox:
        """Its own pixel grid."""

    @property
    def crs(self) -> CRS:
        """The CRS of `geobox`."""

    @property
    def gsd_m(self) -> float:
        """Ground metres per pixel at the centre."""

    @property
    def metres_per_unit(self) -> tuple[float, float]:
        """Ground metres per CRS unit along x and y."""

    @property
    def window(self) -> Window:
        """All its pixels."""

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the content and how it is read, the same for a copy elsewhere."""

    @property
    def bands(self) -> tuple[int, ...]:
        """1-based numbers of the bands that are read."""

    @property
    def data_bands(self) -> tuple[int, ...]:
        """1-based numbers of all bands there are, but alpha."""

    @property
    def band_names(self) -> tuple[str, ...]:
        """Common name of each band that there is (red, green, blue, nir, ...), "" where unknown."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how it is read, a line each."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the pixels as stored."""

    def read_grid(self, geobox: GeoBox) -> Chip:
        """Return the scene on a grid of its CRS."""

    def read_window(self, window: Window, out_size_px: int | tuple[int, int]) -> Chip:
        """Return a window of its own pixels, resampled to a side or (height, width)."""

    def raw(self, bands: Sequence[int]) -> Scene:
        """Return the same scene read as it is stored: float32, no stretch."""

    def sample(self) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.bool_]]:
        """Return pixels (B, ...) as stored that stand for the whole scene, and (...) bool, which are valid."""

"""A scene whose pixels are stored on one grid: what a file and an array have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.windows import Window as RasterWindow

from hybridseg.errors import BandsMissing, EmptySource
from hybridseg.read import ground
from hybridseg.read.collar import Collar, Collared, find_collar
from hybridseg.read.fingerprint import combine, content_of_pixels
from hybridseg.read.resample import ratios, resample
from hybridseg.read.stretch import OVERVIEW_PX, PixelStore, Stretch, declared, estimate, sample, validity
from hybridseg.read.tiles import zoomed
from hybridseg.types import Chip, Window

READ_PX = 2**20
"""Source pixels held at once, of three bands; what needs more is read in pieces."""

Pixels: TypeAlias = tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]
"""(B, H, W) values and (H, W) validity."""
NoData: TypeAlias = float | Literal["none"] | None
"""Value of pixels without data; "none": only what the source itself says; None: that, and a collar if there is one."""


@dataclass(frozen=True, kw_only=True)
class StoredScene(ABC):
    """Pixels on one grid, seen as 8-bit RGB or, where `raw`, as stored. Pickles, compares and hashes by value."""

    name: str
    """What messages and provenance call it, without credentials."""
    bands: tuple[int, ...]
    """1-based numbers of the one (grey) or three (red, green, blue) bands in use, of any number where raw."""
    data_bands: tuple[int, ...]
    """1-based numbers of all bands there are, but alpha."""
    geobox: GeoBox
    """Its own pixel grid."""
    dtype: np.dtype[np.generic]
    """Of its pixels."""
    stretch: Stretch | None = None
    """To 8 bits, from the whole scene; None: the bands are read as they are stored (see `raw`)."""
    overviews: tuple[int, ...] = ()
    """Decimation factors of the overviews it has, ascending."""
    palette: bytes | None = None
    """Colours of a paletted band, 3 bytes (RGB) an entry; else None."""
    fingerprint: str = ""
    """sha256 (hex) of content, bands and place: the same for a copy, whatever its path and time of change."""
    nodata: float | None = None
    """Value that the caller declared to be no data, beside what the source itself says."""
    band_names: tuple[str, ...]
    """Common name of each band (red, green, blue, nir, ...), "" where unknown; see `bands.band_names`."""
    collar: Collar | None = None
    """Ground at the border without data that nothing declares; see `collar`."""

    @abstractmethod
    def _store(self, level: int | None) -> PixelStore:
        """The pixels at full resolution (None) or of one of the overviews."""

    @abstractmethod
    def _dtype(self, bands: Sequence[int]) -> np.dtype[np.generic]:
        """The dtype that bands are read as, or an error that says why they cannot be."""

    def _pixels(self, level: int | None) -> PixelStore:
        """The same as `_store`, without the collar."""
        store = self._store(level)
        return store if self.collar is None else Collared(store, self.collar)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn what may go wrong while pixels are read into a SourceError."""
        yield

    def _completed(self, content: bytes | None, nodata: NoData) -> Self:
        """The same scene with its collar, stretch and fingerprint.

        Args:
            content: hash of all pixels; None: those of the sample must do. So new pixels in a bucket or an archive are
                seen unless they leave the overview (or `stretch.BLOCKS` blocks, where there is none) as it was.
            nodata: as the user gave it; with any value, no collar is looked for.
        """
        if nodata is None and self.palette is None:
            with self._reading():
                found = find_collar(self._store(None), self.bands)
            if found is not None:
                return replace(self, collar=found)._completed(content, "none")
        pixels, valid = self.sample()
        dtype = self.dtype if self.palette is None else np.dtype(np.uint8)
        stretch = estimate(np.broadcast_to(pixels, (3, *valid.shape)), valid, dtype)
        if content is None:
            content = content_of_pixels(pixels, valid)
        how = () if self.collar is None else (self.collar,)
        mark = combine(content, self.bands, self.geobox, self.nodata, *how)
        return replace(self, dtype=dtype, stretch=stretch, fingerprint=mark)

    @property
    def crs(self) -> CRS:
        """The CRS of `geobox`."""
        crs = self.geobox.crs
        assert crs is not None  # opening sees to it
        return crs

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how it is read, a line each."""
        if self.collar is None:
            return ()
        value, share = f"{self.collar.value:g}", 100 * self.collar.share
        said = f"{share:.2g} % of the scene, along its border, has the value {value} and is taken for no data"
        return (f"{said}; --nodata {value} says so for certain, --nodata none keeps that ground",)

    @property
    def window(self) -> Window:
        """All pixels."""
        return Window(0, 0, self.geobox.width, self.geobox.height)

    @property
    def gsd_m(self) -> float:
        """Ground metres per pixel at the centre; geometric mean of the two axes."""
        return ground.gsd_m(self.geobox)

    @property
    def metres_per_unit(self) -> tuple[float, float]:
        """Ground metres per CRS unit along x and y, at the centre's latitude rounded to a degree (see `ground`)."""
        return ground.metres_per_unit(self.geobox)

    def raw(self, bands: Sequence[int]) -> Self:
        """Return the same scene on the same grid, read as it is stored: float32, no stretch, 0 where not valid.

        Where a single band has no data, it is 0 there, and the pixel stays valid as long as another has some.

        Args:
            bands: 1-based, any number of them, in any order.

        Raises:
            BandsMissing: the scene lacks one, or none is given.
            SourceError: it is damaged, or of complex numbers.
        """
        chosen = tuple(bands)
        with self._reading():
            count = self._store(None).count
            wrong = [band for band in chosen if not 1 <= band <= count]
            if wrong or not chosen:
                asked = f"bands {','.join(map(str, chosen))} were" if chosen else "no band was"
                raise BandsMissing(
                    f"{asked} asked for, but {self.name} has bands 1 to {count}; "
                    "give a raster with all the bands that the model looks at, in their places"
                )
            dtype = self._dtype(chosen)
        mark = combine(self.fingerprint.encode(), "raw", chosen)
        return replace(self, bands=chosen, dtype=dtype, stretch=None, palette=None, fingerprint=mark)

    def sample(self) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.bool_]]:
        """Return pixels (B, ...) as stored that stand for the whole scene, and (...) bool, which of them are valid.

        Raises:
            EmptySource: none is.
            SourceError: the scene cannot be read.
        """
        coarse = (i for i, f in enumerate(self.overviews) if max(self.geobox.shape) >= f * OVERVIEW_PX)
        with self._reading():
            pixels, valid = sample(self._pixels(max(coarse, default=None)), self.bands, self.nodata)
        if not valid.any():
            raise EmptySource(f"{self.name} holds no valid pixel; check its nodata value and mask")
        return pixels, valid

    def read_grid(self, geobox: GeoBox) -> Chip:
        """Return the scene on any grid of its CRS: averaged when zooming out, bilinear when zooming in.

        A pixel's value depends on its place and size alone, not on the geobox it is asked for in.

        Raises:
            ValueError: when the CRS is another.
            SourceError: when the scene cannot be read.
        """
        if geobox.crs != self.crs:
            raise ValueError(f"the geobox must be in {self.crs}, got {geobox.crs}")
        with self._reading():
            pixels, valid = self._read(geobox.affine, (geobox.height, geobox.width))
        return Chip(pixels, valid, geobox)

    def read_window(self, window: Window, out_size_px: int | tuple[int, int]) -> Chip:
        """Return a window of the scene's own pixels, resampled to a size; what lies outside is not valid.

        Args:
            window: on the scene's pixel grid, may reach beyond it.
            out_size_px: side, or (height, width).
        """
        return self.read_grid(zoomed(self.geobox, window, out_size_px))

    def _read(self, affine: Affine, shape: tuple[int, int]) -> Pixels:
        """Pixels (B, H, W) and validity (H, W) of a grid given by its affine."""
        zoom = min(ratios(~self.geobox.affine @ affine))
        # The coarsest overview that still has all the detail asked for; the hundredth forgives rounded pixel sizes.
        level = max((i for i, factor in enumerate(self.overviews) if factor <= zoom * 1.01), default=None)
        store = self._pixels(level)
        to_source = ~_level_affine(self.geobox, store.shape) @ affine
        part = _footprint(to_source, shape, store.shape)
        if part.width * part.height == 0:
            blank = np.zeros((3, *shape), np.uint8) if self.stretch else np.zeros((len(self.bands), *shape), np.float32)
            return blank, np.zeros(shape, np.bool_)
        if part.width * part.height * max(3, len(self.bands)) > 3 * READ_PX and max(shape) > 1:
            return self._read_halves(affine, shape)
        pixels, valid = self._native(store, part)
        return resample(pixels, valid, Affine.translation(-part.col, -part.row) @ to_source, shape)

    def _read_halves(self, affine: Affine, shape: tuple[int, int]) -> Pixels:
        """`_read` in two halves, so that memory does not grow with what a far zoom-out covers."""
        axis = 0 if shape[0] >= shape[1] else 1
        half = shape[axis] // 2
        first = (half, shape[1]) if axis == 0 else (shape[0], half)
        second = (shape[0] - half, shape[1]) if axis == 0 else (shape[0], shape[1] - half)
        shift = Affine.translation(0, half) if axis == 0 else Affine.translation(half, 0)
        (p0, v0), (p1, v1) = self._read(affine, first), self._read(affine @ shift, second)
        return np.concatenate([p0, p1], axis=axis + 1), np.concatenate([v0, v1], axis=axis)

    def _native(self, store: PixelStore, part: Window) -> Pixels:
        """Pixels as stored, after the stretch where there is one, of a window inside the scene (or overview)."""
        window = RasterWindow(part.col, part.row, part.width, part.height)
        pixels = store.read(list(self.bands), window=window)
        masks = declared(pixels, store.read_masks(list(self.bands), window=window), self.nodata)
        valid = validity(pixels, masks)
        if self.stretch is None:
            # a band's own nodata may be any number: before the cast
            return np.where(valid & (masks > 0), pixels, 0).astype(np.float32), valid
        if self.palette is not None:
            colours = np.frombuffer(self.palette, np.uint8).reshape(-1, 3)
            pixels = np.moveaxis(colours[np.minimum(pixels[0], len(colours) - 1)], -1, 0)
        return self.stretch.apply(np.broadcast_to(pixels, (3, *valid.shape)), valid), valid


def as_nodata(value: NoData) -> float | None:
    """Return a nodata value, None for NaN too: what is not finite is never valid, and NaN is not equal to itself."""
    return None if value is None or value == "none" or math.isnan(value) else value


def _level_affine(geobox: GeoBox, shape: tuple[int, int]) -> Affine:
    """Pixel grid of an overview: it spans exactly what the scene spans, so its factor need not be whole."""
    return geobox.affine @ Affine.scale(geobox.width / shape[1], geobox.height / shape[0])


def _footprint(to_source: Affine, shape: tuple[int, int], within: tuple[int, int]) -> Window:
    """The source pixels that a grid can draw on, clipped to the raster of shape `within`."""
    corners = np.array([[0, shape[1], 0, shape[1]], [0, 0, shape[0], shape[0]], [1, 1, 1, 1]])
    xs, ys = np.array(tuple(to_source)).reshape(3, 3)[:2] @ corners
    reach = math.ceil(max(ratios(to_source))) + 1
    col, row = math.floor(xs.min()) - reach, math.floor(ys.min()) - reach
    stop = math.ceil(xs.max()) + reach, math.ceil(ys.max()) + reach
    return Window(col, row, stop[0] - col, stop[1] - row).clip(Window(0, 0, within[1], within[0]))

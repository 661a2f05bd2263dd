"""A raster to work on, described by values only: it opens its file where and when it is read."""

from __future__ import annotations

import hashlib
import math
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterWindow

from hybridseg.errors import BandsMissing, EmptySource, SourceError
from hybridseg.read import describe, ground
from hybridseg.read.resample import ratios, resample
from hybridseg.read.stretch import OVERVIEW_PX, Stretch, estimate, sample, validity
from hybridseg.types import Chip, Window

_READ_PX = 2**21
"""Source pixels held at once, of three bands; what needs more is read in pieces."""
_HANDLES = 8
"""Open files kept for each thread, so that neighbouring windows share GDAL's cache of decoded blocks."""
_local = threading.local()


@dataclass(frozen=True)
class Source:
    """One georeferenced raster, seen as 8-bit RGB. Made by `Source.open`; pickles, compares and hashes by value.

    path: file, or anything else that GDAL opens.
    bands: 1-based numbers of the one (grey) or three (red, green, blue) bands in use, of any number where raw.
    geobox: the raster's own pixel grid.
    dtype: of its pixels.
    stretch: to 8 bits, from the whole raster; None: its bands are read as they are stored (see `raw`).
    overviews: decimation factors of the overviews it has, ascending.
    palette: colours of a paletted band, 3 bytes (RGB) an entry; else None.
    fingerprint: sha256 (hex) of what tells this file from another: size, time of change, first and last 64 kB, bands.
    """

    path: str
    bands: tuple[int, ...]
    geobox: GeoBox
    dtype: np.dtype[np.generic]
    stretch: Stretch | None
    overviews: tuple[int, ...]
    palette: bytes | None
    fingerprint: str

    @classmethod
    def open(cls, path: str | Path, bands: Sequence[int] | None = None, crs: str | None = None) -> Source:
        """Look at a raster: its grid, bands and stretch.

        Args:
            path: file or GDAL path.
            bands: 1-based, one for grey or three for red, green and blue; default: what the raster says they are.
            crs: used only when the file has none (images with a world file).

        Raises:
            SourceError: it is missing, no raster, damaged, or of complex numbers.
            NoGeoreference: it has no CRS or no geotransform, or its coordinates do not fit its CRS.
            BandsMissing: it lacks the bands asked for, or they must be chosen.
            EmptySource: no pixel is valid.
        """
        path = str(path)
        if "://" not in path and not path.startswith("/vsi") and not Path(path).is_file():
            what = "is a folder, not a raster" if Path(path).is_dir() else "does not exist"
            raise SourceError(f"{path} {what}; give the path of a raster file")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)  # answered below, by an error
                dataset = rasterio.open(path)
        except RasterioIOError as error:
            raise SourceError(f"{path} is not a raster that GDAL can open; give a GeoTIFF, COG or similar") from error
        with dataset:
            chosen = describe.choose_bands(dataset, None if bands is None else tuple(bands))
            geobox = describe.georeference(dataset, crs)
            dtype = describe.pixel_dtype(dataset, chosen)
            palette = describe.palette(dataset, chosen)
            overviews = tuple(dataset.overviews(chosen[0]))
            fingerprint = describe.fingerprint(dataset, chosen)
        source = cls(path, chosen, geobox, dtype, None, overviews, palette, fingerprint)
        pixels, valid = source.sample()
        if palette is not None:
            dtype = np.dtype(np.uint8)
        stretch = estimate(np.broadcast_to(pixels, (3, *valid.shape)), valid, dtype)
        return replace(source, dtype=dtype, stretch=stretch)

    def raw(self, bands: Sequence[int]) -> Source:
        """The same raster on the same grid, read as it is stored: float32, no stretch, 0 where not valid.

        Where a single band has no data, it is 0 there, and the pixel stays valid as long as another has some.

        Args:
            bands: 1-based, any number of them, in any order.

        Raises:
            BandsMissing: the raster lacks one, or none is given.
            SourceError: it is damaged, or of complex numbers.
        """
        chosen = tuple(bands)
        with _intact(self.path):
            dataset = _handle(self.path, None, self.fingerprint)
            wrong = [band for band in chosen if not 1 <= band <= dataset.count]
            if wrong or not chosen:
                asked = f"bands {','.join(map(str, chosen))} were" if chosen else "no band was"
                raise BandsMissing(
                    f"{asked} asked for, but {self.path} has bands 1 to {dataset.count}; "
                    "give a raster with all the bands that the model looks at, in their places"
                )
            dtype = describe.pixel_dtype(dataset, chosen)
        mark = hashlib.sha256(repr((self.fingerprint, "raw", chosen)).encode()).hexdigest()
        return replace(self, bands=chosen, dtype=dtype, stretch=None, palette=None, fingerprint=mark)

    @property
    def data_bands(self) -> tuple[int, ...]:
        """1-based numbers of all bands that the file has, but alpha."""
        with _intact(self.path):
            return describe.data_bands(_handle(self.path, None, self.fingerprint))

    def sample(self) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.bool_]]:
        """Pixels (B, ...) as stored that stand for the whole raster, and (...) bool, which of them are valid.

        Raises:
            EmptySource: none is.
            SourceError: the file cannot be read.
        """
        coarse = (i for i, f in enumerate(self.overviews) if max(self.geobox.shape) >= f * OVERVIEW_PX)
        with _intact(self.path):
            pixels, valid = sample(_handle(self.path, max(coarse, default=None), self.fingerprint), self.bands)
        if not valid.any():
            raise EmptySource(f"{self.path} holds no valid pixel; check its nodata value and mask")
        return pixels, valid

    @property
    def crs(self) -> CRS:
        """The CRS of `geobox`."""
        crs = self.geobox.crs
        assert crs is not None  # `open` sees to it
        return crs

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

    def read_grid(self, geobox: GeoBox) -> Chip:
        """The raster on any grid of its CRS: averaged when zooming out, bilinear when zooming in.

        A pixel's value depends on its place and size alone, not on the geobox it is asked for in.

        Raises:
            ValueError: when the CRS is another.
            SourceError: when the file cannot be read.
        """
        if geobox.crs != self.crs:
            raise ValueError(f"the geobox must be in {self.crs}, got {geobox.crs}")
        with _intact(self.path):
            pixels, valid = self._read(geobox.affine, (geobox.height, geobox.width))
        return Chip(pixels, valid, geobox)

    def read_window(self, window: Window, out_size_px: int | tuple[int, int]) -> Chip:
        """A window of the raster's own pixels, zoomed to a size; what lies outside the raster is not valid.

        Args:
            window: on the raster's pixel grid, may reach beyond it.
            out_size_px: side, or (height, width).
        """
        return self.read_grid(zoomed(self.geobox, window, out_size_px))

    def _read(self, affine: Affine, shape: tuple[int, int]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Pixels (B, H, W) and validity (H, W) of a grid given by its affine."""
        zoom = min(ratios(~self.geobox.affine @ affine))
        # The coarsest overview that still has all the detail asked for; the hundredth forgives rounded pixel sizes.
        level = max((i for i, factor in enumerate(self.overviews) if factor <= zoom * 1.01), default=None)
        dataset = _handle(self.path, level, self.fingerprint)
        to_source = ~_level_affine(self.geobox, dataset) @ affine
        part = _footprint(to_source, shape, dataset.shape)
        if part.width * part.height == 0:
            blank = np.zeros((3, *shape), np.uint8) if self.stretch else np.zeros((len(self.bands), *shape), np.float32)
            return blank, np.zeros(shape, np.bool_)
        if part.width * part.height * max(3, len(self.bands)) > 3 * _READ_PX and max(shape) > 1:
            return self._read_halves(affine, shape)
        pixels, valid = self._native(dataset, part)
        return resample(pixels, valid, Affine.translation(-part.col, -part.row) @ to_source, shape)

    def _read_halves(self, affine: Affine, shape: tuple[int, int]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """`_read` in two halves, so that memory does not grow with what a far zoom-out covers."""
        axis = 0 if shape[0] >= shape[1] else 1
        half = shape[axis] // 2
        first = (half, shape[1]) if axis == 0 else (shape[0], half)
        second = (shape[0] - half, shape[1]) if axis == 0 else (shape[0], shape[1] - half)
        shift = Affine.translation(0, half) if axis == 0 else Affine.translation(half, 0)
        (p0, v0), (p1, v1) = self._read(affine, first), self._read(affine @ shift, second)
        return np.concatenate([p0, p1], axis=axis + 1), np.concatenate([v0, v1], axis=axis)

    def _native(self, dataset: DatasetReader, part: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Pixels as stored, after the stretch where there is one, of a window inside the raster (or overview)."""
        window = RasterWindow(part.col, part.row, part.width, part.height)
        pixels = dataset.read(list(self.bands), window=window)
        masks = dataset.read_masks(list(self.bands), window=window)
        valid = validity(pixels, masks)
        if self.stretch is None:
            # a band's own nodata may be any number: before the cast
            return np.where(valid & (masks > 0), pixels, 0).astype(np.float32), valid
        if self.palette is not None:
            colours = np.frombuffer(self.palette, np.uint8).reshape(-1, 3)
            pixels = np.moveaxis(colours[np.minimum(pixels[0], len(colours) - 1)], -1, 0)
        return self.stretch.apply(np.broadcast_to(pixels, (3, *valid.shape)), valid), valid


def zoomed(geobox: GeoBox, window: Window, out_size_px: int | tuple[int, int]) -> GeoBox:
    """A window of a grid, which may reach beyond it, in so many pixels: side, or (height, width)."""
    height, width = (out_size_px, out_size_px) if isinstance(out_size_px, int) else out_size_px
    zoom = Affine.scale(window.width / width, window.height / height)
    return GeoBox((height, width), geobox.affine @ Affine.translation(window.col, window.row) @ zoom, geobox.crs)


def _handle(path: str, level: int | None, fingerprint: str) -> DatasetReader:
    """The file opened at full resolution or at one of its overviews; GDAL's handles must not cross threads or forks."""
    handles: OrderedDict[tuple[int, str, int | None, str], DatasetReader] = _local.__dict__.setdefault(
        "handles", OrderedDict()
    )
    key = (os.getpid(), path, level, fingerprint)
    if key not in handles:
        options = {} if level is None else {"overview_level": level}
        handles[key] = rasterio.open(path, **options)
        if len(handles) > _HANDLES:
            handles.popitem(last=False)[1].close()
    handles.move_to_end(key)
    return handles[key]


def _level_affine(geobox: GeoBox, dataset: DatasetReader) -> Affine:
    """Pixel grid of an overview: it spans exactly what the raster spans, so its factor need not be whole."""
    h, w = dataset.shape
    return geobox.affine @ Affine.scale(geobox.width / w, geobox.height / h)


def _footprint(to_source: Affine, shape: tuple[int, int], within: tuple[int, int]) -> Window:
    """The source pixels that a grid can draw on, clipped to the raster of shape `within`."""
    corners = np.array([[0, shape[1], 0, shape[1]], [0, 0, shape[0], shape[0]], [1, 1, 1, 1]])
    xs, ys = np.array(tuple(to_source)).reshape(3, 3)[:2] @ corners
    reach = math.ceil(max(ratios(to_source))) + 1
    col, row = math.floor(xs.min()) - reach, math.floor(ys.min()) - reach
    stop = math.ceil(xs.max()) + reach, math.ceil(ys.max()) + reach
    return Window(col, row, stop[0] - col, stop[1] - row).clip(Window(0, 0, within[1], within[0]))


@contextmanager
def _intact(path: str) -> Iterator[None]:
    """What GDAL cannot read becomes one line."""
    try:
        yield
    except RasterioIOError as error:
        raise _damaged(path) from error


def _damaged(path: str) -> SourceError:
    return SourceError(f"{path} cannot be read to its end: the file is damaged or cut short; fetch it again")

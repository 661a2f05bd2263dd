"""An array in memory as a scene: read exactly as a GeoTIFF of the same pixels would be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterWindow

from hybridseg.errors import NoGeoreference, SourceError
from hybridseg.read import dataarray, describe
from hybridseg.read.bands import Bands, band_names, renamed
from hybridseg.read.fingerprint import content_of_pixels
from hybridseg.read.paths import display_name
from hybridseg.read.stored import NoData, StoredScene, as_nodata
from hybridseg.read.stretch import nearest

LARGEST_BYTES = 2**31
"""Datasets without a file are read whole into memory up to this size."""
_BLOCK_PX = 512


class ArrayStore:
    """An array behind the interface that rasters are read through (`stretch.PixelStore`)."""

    def __init__(self, pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None, nodata: float | None) -> None:
        """Wrap (B, H, W) pixels, (H, W) validity, and the value of pixels without data."""
        self._pixels, self._valid, self._nodata = pixels, valid, nodata
        self.count = len(pixels)
        self.shape = (pixels.shape[1], pixels.shape[2])
        self.dtypes = (pixels.dtype.name,) * self.count
        self.block_shapes = [(_BLOCK_PX, _BLOCK_PX)] * self.count

    def read(self, indexes: list[int], *, window: RasterWindow = None, out_shape: Any = None) -> npt.NDArray[Any]:
        """Return (B, H, W) of 1-based bands; nearest neighbour where `out_shape` (B, H, W) is another."""
        rows, cols = nearest(self.shape, window, out_shape)
        return self._pixels[np.ix_(np.array(indexes, np.intp) - 1, rows, cols)]

    def read_masks(
        self, indexes: list[int], *, window: RasterWindow = None, out_shape: Any = None
    ) -> npt.NDArray[np.uint8]:
        """Return (B, H, W), 0 where a band has no data."""
        pixels = self.read(indexes, window=window, out_shape=out_shape)
        mask = np.ones(pixels.shape, np.bool_)
        if self._nodata is not None:
            mask = pixels != self._nodata
        if self._valid is not None:
            mask = mask & self._valid[np.ix_(*nearest(self.shape, window, out_shape))]
        return mask.astype(np.uint8) * np.uint8(255)


@dataclass(frozen=True, kw_only=True)
class ArrayScene(StoredScene):
    """Pixels in memory with their place. Made by `ArrayScene.from_array`, `from_dataarray` or `from_dataset`.

    Two are equal where their fingerprints are. The arrays must not be changed afterwards.
    """

    pixels: npt.NDArray[Any] = field(compare=False, repr=False)
    """(B, H, W)."""
    valid: npt.NDArray[np.bool_] | None = field(compare=False, repr=False)
    """(H, W), False where there is no data; None: `nodata` alone tells."""

    @classmethod
    def from_array(
        cls,
        array: npt.NDArray[Any],
        geobox: GeoBox | None,
        bands: Bands = None,
        crs: str | None = None,
        *,
        valid: npt.NDArray[np.bool_] | None = None,
        nodata: NoData = None,
        name: str = "the array",
        descriptions: Sequence[str | None] = (),
        interp: Sequence[ColorInterp] = (),
        palette: bytes | None = None,
    ) -> Self:
        """Wrap an array.

        Args:
            array: (H, W), (B, H, W) or (H, W, B); which one, the shape of `geobox` tells.
            geobox: its grid.
            bands: 1-based, one for grey or three for red, green and blue, or names of bands with their numbers;
                default: the only band or the only three.
            crs: used only when `geobox` has none.
            valid: (H, W) bool, which pixels hold data; default: all that are finite and not `nodata`.
            nodata: value of pixels without data; "none": no collar is looked for either.
            name: what messages call it.
            descriptions: of the bands, such as "red"; may be empty.
            interp: colour interpretation of the bands; may be empty.
            palette: colours of a paletted band, 3 bytes (RGB) an entry.

        Raises:
            SourceError: its shape is another than the grid's, or it holds no real numbers.
            NoGeoreference, BandsMissing, EmptySource: as of `open_scene`.
        """
        if geobox is None:
            raise NoGeoreference(f"{name} needs a place: give geobox=GeoBox((H, W), affine, crs)")
        pixels = _bands_first(array, (geobox.height, geobox.width), name)
        if valid is not None and (valid.dtype != np.bool_ or valid.shape != pixels.shape[1:]):
            raise SourceError(f"valid must be {pixels.shape[1:]} bool, got {valid.shape} {valid.dtype}")
        everything = tuple(range(1, len(pixels) + 1))
        chosen = describe.choose(name, len(pixels), everything, interp, descriptions, bands)
        place = describe.place(
            name, pixels.shape[1:], geobox.affine, None if geobox.crs is None else str(geobox.crs), crs
        )
        scene = cls(
            name=name,
            bands=chosen,
            data_bands=everything,
            band_names=renamed(band_names(descriptions, interp, len(pixels)), bands),
            geobox=place,
            dtype=describe.pixel_dtype(name, [pixels.dtype.name] * len(pixels), chosen),
            palette=palette,
            nodata=as_nodata(nodata),
            pixels=_read_only(pixels),
            valid=None if valid is None else _read_only(valid),
        )
        return scene._completed(content_of_pixels(pixels, *(() if valid is None else (valid,))), nodata)

    @classmethod
    def from_dataset(
        cls,
        dataset: DatasetReader,
        bands: Bands = None,
        crs: str | None = None,
        *,
        nodata: NoData = None,
    ) -> Self:
        """Read a whole rasterio dataset, one in memory or a warped view.

        Raises:
            SourceError: it is too large, or its alpha band is not the last.
        """
        name, data = display_name(dataset.name), describe.data_bands(dataset)
        size = dataset.width * dataset.height * len(data) * np.dtype(dataset.dtypes[0]).itemsize if data else 0
        if size > LARGEST_BYTES:
            raise SourceError(
                f"{name} has no file and {size / 2**30:.1f} GB of pixels; save it as a GeoTIFF, give that"
            )
        if data != tuple(range(1, len(data) + 1)):
            raise SourceError(f"{name} has an alpha band before others; give a raster with alpha last")
        geobox = describe.georeference(dataset, crs)
        return cls.from_array(
            dataset.read(list(data)),
            geobox,
            bands,
            valid=dataset.read_masks(list(data)).any(axis=0),
            nodata=dataset.nodata if nodata is None else nodata,
            name=name,
            descriptions=[dataset.descriptions[band - 1] for band in data],
            interp=[dataset.colorinterp[band - 1] for band in data],
            palette=describe.palette(dataset, describe.choose_bands(dataset, bands)),
        )

    @classmethod
    def from_dataarray(
        cls,
        array: Any,
        bands: Bands = None,
        crs: str | None = None,
        *,
        nodata: NoData = None,
    ) -> Self:
        """Wrap an xarray.DataArray with coordinates and a CRS, as rioxarray and odc-geo write them (see `dataarray`).

        Raises:
            SourceError: it has more dimensions than y, x and one for bands.
            NoGeoreference: it has no CRS, or its coordinates are no even grid.
        """
        name = f"the DataArray {array.name}" if array.name else "the DataArray"
        array = dataarray.in_order(array, name)
        own = array.attrs.get("_FillValue", array.attrs.get("nodata"))
        return cls.from_array(
            np.asarray(array.values),
            GeoBox(array.shape[-2:], dataarray.affine_of(array, name), None),
            bands,
            dataarray.crs_of(array) or crs,
            nodata=own if nodata is None else nodata,
            name=name,
            descriptions=dataarray.band_names(array),
        )

    def _store(self, level: int | None) -> ArrayStore:
        return ArrayStore(self.pixels, self.valid, self.nodata)

    def _dtype(self, bands: Sequence[int]) -> np.dtype[np.generic]:
        return describe.pixel_dtype(self.name, [self.pixels.dtype.name] * len(self.pixels), bands)


def _bands_first(array: npt.NDArray[Any], shape: tuple[int, int], name: str) -> npt.NDArray[Any]:
    """(B, H, W), whichever way round the array is."""
    if array.dtype.kind not in "uifcb":
        raise SourceError(f"{name} holds {array.dtype}; give numbers")
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 3 and array.shape[1:] != shape and array.shape[:2] == shape:
        array = np.moveaxis(array, -1, 0)
    if array.ndim != 3 or array.shape[1:] != shape:
        raise SourceError(
            f"{name} has shape {array.shape}, but its grid has {shape[0]} rows and {shape[1]} columns; "
            "give (H, W), (B, H, W) or (H, W, B)"
        )
    return array.astype(np.uint8) if array.dtype == np.bool_ else array


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view

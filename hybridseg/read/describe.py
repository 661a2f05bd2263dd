"""What a raster says about itself: bands, palette, place. What it leaves out becomes an error here."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj.exceptions import CRSError as ProjCRSError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import CRSError
from rasterio.io import DatasetReader

from hybridseg.errors import BandsMissing, NoGeoreference, SourceError
from hybridseg.read import ground
from hybridseg.read.bands import Bands, band_names, given_names, numbers_of, renamed, rgb_of
from hybridseg.read.paths import display_name

_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
_SENTINEL_2 = ("4", "3", "2")
"""Numbers of red, green and blue in the names B04, B03, B02."""
_MOST_ASPECT = 20.0
"""The sides of a pixel differ by less than this factor."""
_LEAST_SINE = 0.1
"""The angle between the sides of a pixel is more than this (0.1: 6 degrees)."""
_COORDINATE_PX = 0.01
"""A coordinate must be exact to this share of a pixel in 64-bit floats."""


@dataclass(frozen=True)
class Look:
    """What a raster says of itself, by the names that a `StoredScene` has for it."""

    bands: tuple[int, ...]
    data_bands: tuple[int, ...]
    band_names: tuple[str, ...]
    geobox: GeoBox
    dtype: np.dtype[np.generic]
    overviews: tuple[int, ...]
    palette: bytes | None


def look(dataset: DatasetReader, bands: Bands, crs: str | None) -> Look:
    """Return what a raster says of itself.

    Args:
        dataset: any raster.
        bands: those asked for.
        crs: used when it has none.

    Raises:
        SourceError: it has no bands, or holds complex numbers.
        NoGeoreference, BandsMissing: as of `georeference` and `choose`.
    """
    chosen = choose_bands(dataset, bands)
    return Look(
        bands=chosen,
        data_bands=data_bands(dataset),
        band_names=renamed(band_names(dataset.descriptions, dataset.colorinterp, dataset.count), bands),
        geobox=georeference(dataset, crs),
        dtype=pixel_dtype(display_name(dataset.name), dataset.dtypes, chosen),
        overviews=tuple(dataset.overviews(chosen[0])),
        palette=palette(dataset, chosen),
    )


def choose_bands(dataset: DatasetReader, bands: Bands) -> tuple[int, ...]:
    """Return the bands in use: those asked for, or those the raster declares, or the only reasonable ones."""
    colours = data_bands(dataset)
    return choose(display_name(dataset.name), dataset.count, colours, dataset.colorinterp, dataset.descriptions, bands)


def choose(
    name: str,
    count: int,
    colours: Sequence[int],
    interp: Sequence[ColorInterp],
    descriptions: Sequence[str | None],
    bands: Bands,
) -> tuple[int, ...]:
    """Return the bands in use, of a raster with `count` bands.

    Where nothing is asked for, descriptions that name red, green and blue come first, as somebody wrote them; colour
    interpretation second, as GDAL sets it where nobody does; then the only band or the only three.

    Args:
        name: what messages call the raster.
        count: number of bands.
        colours: 1-based numbers of all bands but alpha.
        interp: colour interpretation of each band; may be empty.
        descriptions: text of each band, or None; may be empty.
        bands: those asked for.

    Raises:
        SourceError: there are no bands.
        BandsMissing: bands asked for are not there, or nothing says which to take.
    """
    if count == 0:
        raise SourceError(f"{name} is a container without bands of its own; give one of its subdatasets")
    asked = numbers_of(bands)
    wrong = [band for band in (*(asked or ()), *given_names(bands).values()) if not 1 <= band <= count]
    if wrong:
        raise BandsMissing(f"band {wrong[0]} was asked for, but {name} has bands 1 to {count}; change --bands")
    if asked is not None:
        if len(asked) not in (1, 3):
            raise BandsMissing(f"{len(asked)} bands were asked for; give one (grey) or three (red, green, blue)")
        return asked
    if (named := rgb_of(band_names(descriptions, interp, count))) is not None:
        return named
    if all(colour in interp for colour in _RGB):  # whatever the descriptions say beside them
        red, green, blue = (interp.index(colour) + 1 for colour in _RGB)
        return red, green, blue
    if len(colours) in (1, 3):
        return tuple(colours)
    raise BandsMissing(
        f"{name} has {count} bands and does not say which are red, green and blue; {_advice(count, descriptions)}"
    )


def _advice(count: int, descriptions: Sequence[str | None]) -> str:
    """What to write after --bands, from what the bands are called or how many there are."""
    names = [text or "" for text in descriptions]
    numbers = {
        match[1]: i for i, text in enumerate(names, 1) if (match := re.match(r"(?i)b(?:and)?[ _]?0?(\d+)\b", text))
    }
    if all(number in numbers for number in _SENTINEL_2):
        bands = ",".join(str(numbers[number]) for number in _SENTINEL_2)
        return f"choose them, e.g. --bands {bands} (B4, B3, B2: red, green, blue of Sentinel-2 and Landsat 8)"
    if any(names):
        called = display_name(", ".join(f"{i} {text}" for i, text in enumerate(names, 1) if text))
        return f"choose them with --bands RED,GREEN,BLUE; they are called {called}"
    if count == 2:
        return "choose one, e.g. --bands 1"
    if count == 4:
        return (
            "choose them, e.g. --bands 1,2,3 where they are red, green, blue, near infrared, "
            "or --bands 3,2,1 where they are blue, green, red, near infrared"
        )
    return "choose them, e.g. --bands 4,3,2"


def data_bands(dataset: DatasetReader) -> tuple[int, ...]:
    """Return the numbers of all bands but alpha."""
    return tuple(i for i, meaning in enumerate(dataset.colorinterp, 1) if meaning != ColorInterp.alpha)


def pixel_dtype(name: str, dtypes: Sequence[str], bands: Sequence[int]) -> np.dtype[np.generic]:
    """Return the dtype that bands are read as.

    Args:
        name: what messages call the raster.
        dtypes: of all its bands.
        bands: 1-based.
    """
    names = [dtypes[band - 1] for band in bands]
    if any("complex" in one for one in names):
        raise SourceError(f"{name} holds complex numbers ({names[0]}); give a raster of real ones")
    dtype: np.dtype[np.generic] = np.result_type(*names)
    return dtype


def palette(dataset: DatasetReader, bands: tuple[int, ...]) -> bytes | None:
    """Return the colours of a paletted band, 3 bytes (RGB) an entry; None when its pixels are values."""
    if len(bands) > 1 or dataset.colorinterp[bands[0] - 1] != ColorInterp.palette:
        return None
    colours = dataset.colormap(bands[0])
    return bytes(value for i in range(max(colours) + 1) for value in colours.get(i, (0, 0, 0))[:3])


def georeference(dataset: DatasetReader, crs: str | None) -> GeoBox:
    """Return the raster's grid, or an error that says what is missing.

    Args:
        dataset: any raster.
        crs: used when it has none.

    Raises:
        NoGeoreference: it has no geotransform or no CRS, or they cannot be.
    """
    name = display_name(dataset.name)
    if dataset.transform.is_identity:
        if dataset.gcps[0] or dataset.rpcs:
            kind = "ground control points" if dataset.gcps[0] else "RPCs"
            raise NoGeoreference(
                f"{name} is placed by {kind} only; warp it first, e.g. gdalwarp -t_srs EPSG:3857 in.tif out.tif"
            )
        raise NoGeoreference(f"{name} has no geotransform, so its place is unknown; georeference it first")
    return place(name, dataset.shape, dataset.transform, dataset.crs, crs)


def place(name: str, shape: tuple[int, int], affine: Affine, crs: CRS | str | None, default: str | None) -> GeoBox:
    """Return a grid from its parts, or an error where they cannot be the place of an image.

    Args:
        name: what messages call the raster.
        shape: (H, W).
        affine: from pixels to the CRS.
        crs: what the raster says; None where it says nothing.
        default: used when it says nothing.

    Raises:
        NoGeoreference: there is no CRS, it is unknown or local, or the grid is degenerate or lies outside the CRS.
    """
    if crs is None and default is None:
        raise NoGeoreference(f"{name} has a geotransform but no CRS; say which it is in, e.g. --source-crs EPSG:3857")
    _check_affine(name, affine)
    try:
        geobox = GeoBox(shape, affine, _short(CRS.from_user_input(default if crs is None else crs)))
    except (CRSError, ProjCRSError) as error:
        if crs is None:
            words = f"the CRS {default} is unknown; give an EPSG code, e.g. --source-crs EPSG:3857"
        else:
            words = f"{name} has a CRS that cannot be read; assign the right one to it, e.g. gdal_edit.py -a_srs"
        raise NoGeoreference(words) from error
    try:
        ground.check_scale(geobox)
    except ValueError as error:
        raise NoGeoreference(f"{name} cannot be placed: {error}; assign the right CRS to it") from error
    return geobox


def _check_affine(name: str, affine: Affine) -> None:
    """Refuse a geotransform with which no image could be meant."""
    a, b, c, d, e, f = tuple(affine)[:6]
    wide, high, area = math.hypot(a, d), math.hypot(b, e), abs(a * e - b * d)
    if not all(map(math.isfinite, (a, b, c, d, e, f))) or min(wide, high) == 0:
        what = "is not finite, or its pixels have no size"
    elif max(wide, high) > _MOST_ASPECT * min(wide, high) or area < _LEAST_SINE * wide * high:
        what = f"gives pixels of {wide:.3g} x {high:.3g} CRS units that are all but lines"
    elif max(map(abs, (c, f))) * np.finfo(float).eps > _COORDINATE_PX * min(wide, high):
        what = (
            f"gives pixels of {min(wide, high):.3g} CRS units, too small for coordinates of {max(abs(c), abs(f)):.3g}"
        )
    else:
        return
    raise NoGeoreference(f"{name} cannot be placed: its geotransform {what}; georeference it again")


def _short(crs: CRS) -> str:
    """EPSG:25832 rather than a page of WKT, where it is surely the same."""
    authority = crs.to_authority(confidence_threshold=100)
    return ":".join(authority) if authority else str(crs.to_wkt())

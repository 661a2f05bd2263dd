"""Where an xarray.DataArray lies, as rioxarray and odc-geo write it down. Needs neither of them, nor xarray."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine

from hybridseg.errors import NoGeoreference, SourceError

_SPATIAL = (("y", "x"), ("lat", "lon"), ("latitude", "longitude"), ("northing", "easting"), ("Y", "X"))
_EVEN_PX = 0.01
"""Coordinates may stray by this share of a pixel from an even grid."""


def is_dataarray(value: object) -> bool:
    """Return whether a value is an xarray.DataArray."""
    return type(value).__name__ == "DataArray" and type(value).__module__.partition(".")[0] == "xarray"


def in_order(array: Any, name: str) -> Any:
    """Return a DataArray with dimensions (y, x) or (band, y, x), whatever they are called.

    Raises:
        SourceError: there are others, longer than 1.
    """
    dims = [str(dim) for dim in array.dims]
    spatial = next((pair for pair in _SPATIAL if set(pair) <= set(dims)), tuple(dims[-2:]))
    single = [dim for dim in dims if dim not in spatial and array.sizes[dim] == 1]
    rest = [dim for dim in dims if dim not in spatial and dim not in single]
    if len(spatial) != 2 or len(rest) > 1:
        shown = ", ".join(f"{dim} {array.sizes[dim]}" for dim in dims)
        raise SourceError(f"{name} has dimensions {shown}; give y and x, and at most one more for bands")
    array = array.isel({dim: 0 for dim in single})  # of bands, the coordinate stays
    return array.transpose(*rest, *spatial)


def affine_of(array: Any, name: str) -> Affine:
    """Return the affine from pixels (corners whole) to the CRS, of a DataArray as `in_order` gives it.

    Coordinates are of the centres of pixels. The `GeoTransform` beside the CRS is more exact and tells of rotation, but
    is out of date where the array was cut after reading: it counts where it agrees with the coordinates, or where
    there are none.

    Raises:
        NoGeoreference: there are neither, or the coordinates are no even grid.
    """
    rows, cols = array.dims[-2:]
    noted = _noted(array)
    if rows not in array.coords or cols not in array.coords:
        if noted is None:
            raise NoGeoreference(f"{name} has no coordinates along {rows} and {cols}, so its place is unknown")
        return noted
    y, x = (np.asarray(array.coords[dim].values) for dim in (rows, cols))
    if y.dtype.kind not in "iuf" or x.dtype.kind not in "iuf":
        raise NoGeoreference(f"{name} has coordinates along {rows} and {cols} that are not numbers")
    in_pixels = array.coords[cols].attrs.get("units") == "pixel"  # odc-geo's of rotated grids
    step_x, step_y = _step(x, noted.a if noted else None, name), _step(y, noted.e if noted else None, name)
    affine = Affine(step_x, 0, x[0] - step_x / 2, 0, step_y, y[0] - step_y / 2)
    if noted is not None and in_pixels:
        return noted @ affine
    return noted if noted is not None and _agree(noted, affine, array.shape[-2:]) else affine


def crs_of(array: Any) -> str | None:
    """Return the CRS as text, None where there is none."""
    grid = _grid_mapping(array)
    texts = [] if grid is None else [grid.attrs.get("crs_wkt"), grid.attrs.get("spatial_ref")]
    found = next((text for text in (*texts, array.attrs.get("crs")) if text), None)
    return None if found is None else str(found)


def band_names(array: Any) -> list[str]:
    """Return what the bands are called: by the coordinate of their dimension, else by `long_name`; else nothing."""
    band = array.dims[0] if len(array.dims) == 3 else None
    if band in array.coords and np.asarray(array.coords[band].values).dtype.kind in "UOST":
        return [str(value) for value in array.coords[band].values]
    names = array.attrs.get("long_name", ())
    return [str(one) for one in names] if isinstance(names, list | tuple) else []


def _grid_mapping(array: Any) -> Any:
    """The coordinate that holds the CRS, or None."""
    for name in (array.encoding.get("grid_mapping"), array.attrs.get("grid_mapping"), "spatial_ref", "crs"):
        if name in array.coords:
            return array.coords[name]
    return None


def _noted(array: Any) -> Affine | None:
    """The `GeoTransform` beside the CRS, in GDAL's order."""
    grid = _grid_mapping(array)
    text = None if grid is None else grid.attrs.get("GeoTransform")
    try:
        return None if text is None else Affine.from_gdal(*(float(number) for number in str(text).split()))
    except (TypeError, ValueError):
        return None


def _step(centres: npt.NDArray[Any], noted: float | None, name: str) -> float:
    """The distance of evenly spaced coordinates."""
    if len(centres) == 1:
        if noted is None:
            raise NoGeoreference(f"{name} is one pixel wide or high, so its coordinates do not tell the pixel's size")
        return noted
    step = float(centres[-1] - centres[0]) / (len(centres) - 1)
    even = centres[0] + step * np.arange(len(centres))
    if not np.abs(centres - even).max() <= _EVEN_PX * abs(step):  # also where they are not numbers
        raise NoGeoreference(f"the coordinates of {name} are not evenly spaced; resample it to a regular grid first")
    return step


def _agree(one: Affine, other: Affine, shape: tuple[int, int]) -> bool:
    """Whether two affines put the corners of an image in the same place."""
    corners = [(col, row) for col in (0, shape[1]) for row in (0, shape[0])]
    apart = [abs(a - b) for corner in corners for a, b in zip(one @ corner, other @ corner, strict=True)]
    return max(apart) <= _EVEN_PX * min(abs(other.a), abs(other.e))

"""Rasters of classes or of instances as references: their pixels become polygons.

The outlines follow the pixels exactly: drawn on the raster's own grid again they give its pixels, so that pixels are
counted against the raster itself.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.features import shapes
from rasterio.io import DatasetReader

from hybridseg.errors import EvaluateError
from hybridseg.evaluation.area import crs_of
from hybridseg.read.describe import data_bands, georeference
from hybridseg.read.paths import display_name, problem

RasterKind: TypeAlias = Literal["auto", "classes", "instances"]

SUFFIXES = (".tif", ".tiff", ".vrt", ".png", ".jp2", ".img", ".jpg", ".jpeg")
NONE = 0
"""Value of pixels that belong to no object, whether declared as nodata or not."""


@dataclass(frozen=True)
class RasterReference:
    """A raster as objects.

    Attributes:
        table: one row an object: its outline, and column `class` (text) where values are classes.
        grid: the raster's pixels.
        unknown: (n,) polygons of the pixels without data, to be ignored; in the raster's CRS.
        note: one line that says what its values were taken for.
    """

    table: gpd.GeoDataFrame
    grid: GeoBox
    unknown: np.ndarray
    note: str


def is_raster(source: object) -> bool:
    """Return whether a source is a path that is read as a raster, by its suffix."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in SUFFIXES


def read_grid(path: str | Path) -> GeoBox:
    """Return the pixel grid of a raster.

    Raises:
        EvaluateError: it cannot be opened.
        NoGeoreference: it has no CRS or no geotransform.
    """
    with _open(path) as dataset:
        return georeference(dataset, None)


def read_reference(path: str | Path, kind: RasterKind = "auto", known: frozenset[str] = frozenset()) -> RasterReference:
    """Read the objects of a one-band raster of whole numbers, 0 for none. The whole band is held in memory.

    Values are instances (one number, one object) or classes (each 4-connected patch is an object). With "auto" they are
    instances if there are two values or more, most of them form a single patch, and none is the name of a class (in
    the band's tags `class_1`, ... or in `known`).

    Args:
        path: any raster of one band; an alpha band beside it is not read.
        kind: what values are.
        known: names of the prediction's classes.

    Raises:
        EvaluateError: it cannot be opened or read, has several bands, or holds no whole numbers.
        NoGeoreference: it has no CRS or no geotransform.
    """
    with _open(path) as dataset:
        grid = georeference(dataset, None)
        values, valid = _values(dataset)
        tags = dataset.tags(1)
    numbers, outlines = _outlines(values, valid & (values != NONE), grid)
    present, patches = np.unique(numbers, return_counts=True)
    names = [tags.get(f"class_{value}", str(value)) for value in present]
    named = any(f"class_{value}" in tags or str(value) in known for value in present)
    if kind == "auto":
        single = len(present) > 1 and np.mean(patches == 1) > 0.5
        kind = "instances" if single and not named else "classes"
    name = Path(path).name
    _, unknown = _outlines((~valid).astype(np.uint8), ~valid, grid)
    if kind == "instances":
        table = gpd.GeoDataFrame(geometry=_united(numbers, outlines), crs=crs_of(grid))
        return RasterReference(table, grid, unknown, f"{name}: {len(present)} values, taken for one object each")
    classes = np.array(names, dtype=object)[np.searchsorted(present, numbers)]
    table = gpd.GeoDataFrame({"class": classes}, geometry=outlines, crs=crs_of(grid))
    text = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
    note = (
        f"{name}: values taken for classes ({text}), their connected patches for objects, so that those that touch are "
        "one; --touching joined takes the map's so, too"
    )
    return RasterReference(table, grid, unknown, note)


def _open(path: str | Path) -> DatasetReader:
    if (wrong := problem(path)) is not None:
        raise EvaluateError(f"{display_name(path)} {wrong}; give the path of a raster")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # `georeference` raises an error for it
            return rasterio.open(path)
    except RasterioIOError as error:
        raise EvaluateError(
            f"cannot open {display_name(path)} as a raster: give a GeoTIFF or another GDAL raster"
        ) from error


def _values(dataset: DatasetReader) -> tuple[np.ndarray, np.ndarray]:
    """Return (H, W) whole numbers and (H, W) bool, False where the raster has no data."""
    if (bands := len(data_bands(dataset))) != 1:
        raise EvaluateError(
            f"{dataset.name} has {bands} bands; a reference has one, of whole numbers for classes or instances "
            "(--raster): give such a mask, or a vector file"
        )
    try:
        values = dataset.read(1)
    except RasterioIOError as error:
        raise EvaluateError(f"{dataset.name} cannot be read to its end: it is damaged or cut short") from error
    if values.dtype.kind not in "iuf":
        raise EvaluateError(f"{dataset.name} holds {values.dtype} values; give classes or instances as whole numbers")
    nodata = dataset.nodatavals[0]
    valid = np.ones(values.shape, bool) if nodata in (None, NONE) else values != nodata
    if values.dtype.kind == "f":
        valid &= np.isfinite(values)
        whole = np.where(valid, values, NONE)
        if (whole != np.rint(whole)).any():
            raise EvaluateError(
                f"{dataset.name} holds fractions; give classes or instances as whole numbers, 0 for none"
            )
        values = whole.astype(np.int64)
    return values, valid


def _outlines(values: np.ndarray, mask: np.ndarray, grid: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    """Return the value and the outline of each 4-connected patch inside a mask, both (n,)."""
    present, codes = np.unique(values[mask], return_inverse=True)
    coded = np.zeros(values.shape, np.int32)  # GDAL's polygoniser takes no larger numbers
    coded[mask] = codes.ravel()
    found = list(shapes(coded, mask=mask, connectivity=4, transform=grid.affine))
    outlines = np.array([shapely.geometry.shape(outline) for outline, _ in found], dtype=object)
    return present[np.array([code for _, code in found], int)], outlines


def _united(numbers: np.ndarray, outlines: np.ndarray) -> list[shapely.Geometry]:
    """Return one geometry for each number, in the order of the numbers."""
    order = np.argsort(numbers, kind="stable")
    firsts = np.unique(numbers[order], return_index=True)[1]
    groups = np.split(outlines[order], firsts[1:]) if len(numbers) else []
    return [group[0] if len(group) == 1 else shapely.union_all(group) for group in groups]

"""Rasters as references: masks of classes or of instances become the polygons that their pixels draw.

The outlines follow the pixels exactly, so that laid on the raster's own grid again they give back its pixels: what is
counted in pixels is counted against the raster itself.
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
from pyproj import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.features import shapes
from rasterio.io import DatasetReader

from hybridseg.errors import EvaluateError
from hybridseg.read.describe import data_bands, georeference

RasterKind: TypeAlias = Literal["auto", "classes", "instances"]

SUFFIXES = (".tif", ".tiff", ".vrt", ".png", ".jp2", ".img", ".jpg", ".jpeg")
NONE = 0
"""The value of pixels that belong to nothing, declared as nodata or not."""


@dataclass(frozen=True)
class RasterReference:
    """What a raster says.

    table: one row an object: column `class` (text) where values are classes, and the outline.
    grid: the raster's own.
    unknown: (n,) polygons of the pixels without data, to be ignored; in the raster's CRS.
    note: one line that says how its values were taken.
    """

    table: gpd.GeoDataFrame
    grid: GeoBox
    unknown: np.ndarray
    note: str


def is_raster(source: object) -> bool:
    """Whether a file is read as a raster, by its suffix."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in SUFFIXES


def is_missing(source: str | Path) -> bool:
    """Whether a path leads nowhere; of URLs and GDAL's virtual paths nobody knows before they are opened."""
    return not Path(source).exists() and "://" not in str(source) and not str(source).startswith("/vsi")


def read_grid(path: str | Path) -> GeoBox:
    """The pixel grid of a raster.

    Raises:
        EvaluateError: it cannot be opened.
        NoGeoreference: it has no place.
    """
    with _open(path) as dataset:
        return georeference(dataset, None)


def crs_of(grid: GeoBox) -> CRS:
    """A grid's CRS."""
    assert grid.crs is not None  # `georeference` sees to it
    return CRS.from_user_input(grid.crs.proj)


def read_reference(path: str | Path, kind: RasterKind = "auto", known: frozenset[str] = frozenset()) -> RasterReference:
    """Objects of a one-band raster of whole numbers, 0 for none.

    Values are instances (one number, one object) or classes (each 4-connected patch is an object). With "auto" they are
    instances when no class is called by them (by the band's tags `class_1`, ... or by `known`) and most of two values
    or more form a single patch. The whole band is in memory.

    Args:
        path: any raster of one band; an alpha band beside it is passed over.
        kind: what values mean.
        known: names of the prediction's classes.

    Raises:
        EvaluateError: it cannot be opened or read, has several bands, or holds no whole numbers.
        NoGeoreference: it has no place.
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
    note = f"{name}: values taken for classes ({text}), their connected patches for objects"
    return RasterReference(table, grid, unknown, note)


def _open(path: str | Path) -> DatasetReader:
    if is_missing(path):
        raise EvaluateError(f"{path} does not exist; give the path of a raster")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # answered by an error
            return rasterio.open(path)
    except RasterioIOError as error:
        raise EvaluateError(f"cannot open {path} as a raster: give a GeoTIFF or another GDAL raster") from error


def _values(dataset: DatasetReader) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) whole numbers and (H, W) bool, False where the raster knows nothing."""
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
    """Value and outline of each 4-connected patch, both (n,)."""
    present, codes = np.unique(values[mask], return_inverse=True)
    coded = np.zeros(values.shape, np.int32)  # GDAL's polygoniser knows no larger numbers
    coded[mask] = codes.ravel()
    found = list(shapes(coded, mask=mask, connectivity=4, transform=grid.affine))
    outlines = np.array([shapely.geometry.shape(outline) for outline, _ in found], dtype=object)
    return present[np.array([code for _, code in found], int)], outlines


def _united(numbers: np.ndarray, outlines: np.ndarray) -> list[shapely.Geometry]:
    """One geometry a number, in the order of the numbers."""
    order = np.argsort(numbers, kind="stable")
    firsts = np.unique(numbers[order], return_index=True)[1]
    groups = np.split(outlines[order], firsts[1:]) if len(numbers) else []
    return [group[0] if len(group) == 1 else shapely.union_all(group) for group in groups]

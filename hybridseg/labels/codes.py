"""Class codes: what labels call the classes, and labels as a raster of codes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.features import rasterize, shapes
from rasterio.vrt import WarpedVRT
from scipy import ndimage as ndi

from hybridseg.errors import LayerError, NoGeoreference, ThemeError
from hybridseg.read.describe import georeference
from hybridseg.read.paths import display_name

Classes = Mapping[str, str | None]
"""Class to its value in the labels' column or raster; None: everything in the labels is of that class."""
RASTERS = (".tif", ".tiff", ".vrt", ".img", ".jp2")


def parse_classes(text: str | None, names: Sequence[str], column: str | None) -> dict[str, str | None]:
    """Return what the labels call each class.

    Args:
        text: `building=1,road=2`, or None: each by its own name, or the whole layer if there is but one class.
        names: the classes, in order.
        column: column of the class, if any.

    Raises:
        ThemeError: a class is missing or given twice, two share a value, or nothing tells several apart.
    """
    if text is None:
        if len(names) > 1 and column is None:
            raise ThemeError(
                f"{len(names)} classes ({', '.join(names)}) need --column or --classes, e.g. {names[0]}=1,{names[1]}=2"
            )
        return {name: name if column else None for name in names}
    pairs = [
        (name.strip(), value.strip() or name.strip()) for name, _, value in (p.partition("=") for p in text.split(","))
    ]
    if sorted(name for name, _ in pairs) != sorted(names):
        given = ", ".join(name for name, _ in pairs)
        raise ThemeError(f"--classes names {given}; the themes' classes are {', '.join(names)}: give each once")
    if len({value for _, value in pairs}) < len(pairs):
        raise ThemeError(f"--classes {text} gives one value to two classes; give each class a value of its own")
    return {name: dict(pairs)[name] for name in names}


def class_text(value: object) -> str:
    """Return a class as one types it: 3 and 3.0 are the same."""
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value)


def as_typed(values: pd.Series) -> pd.Series:
    """Return the values of a column as text, 2.0 as 2; missing ones stay missing."""
    return values[values.notna()].map(class_text).reindex(values.index)


def is_raster(path: str | Path) -> bool:
    """Return whether labels are a raster of codes, by the file's suffix."""
    return str(path).lower().endswith(RASTERS)


def read_codes(path: str | Path, grid: GeoBox, classes: Classes) -> tuple[gpd.GeoDataFrame, np.ndarray]:
    """Return labels from a raster of codes, resampled to a grid by nearest neighbour.

    Args:
        path: raster of one band of whole numbers; 0 is no class, nodata is unknown ground.
        grid: where to read it.
        classes: class to code; None: every code but 0.

    Returns:
        each connected patch of a class as a polygon with `class`, in the grid's CRS; and (H, W) bool, the known pixels.

    Raises:
        LayerError: it cannot be read, has no CRS, is not one band of whole numbers, or lies beside the grid.
        ThemeError: a class has no whole number as its code.
    """
    wanted = {name: None if value is None else _code(value, path) for name, value in classes.items()}
    codes, known = _read(path, grid)
    rows = []
    for name, code in wanted.items():
        mask = known & (codes != 0 if code is None else codes == code)
        patches = ndi.label(mask)[0].astype(np.int32)
        rows += [(name, shapely.geometry.shape(g)) for g, _ in shapes(patches, mask=mask, transform=grid.affine)]
    frame = gpd.GeoDataFrame({"class": [r[0] for r in rows]}, geometry=[r[1] for r in rows], crs=str(grid.crs))
    return frame, known


def _read(path: str | Path, grid: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    """Return (H, W) codes and (H, W) bool, the known pixels."""
    shown = display_name(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # answered by an error
            file = rasterio.open(path)
        with file:
            _check(file, shown)
            extent = gpd.GeoSeries([shapely.box(*file.bounds)], crs=georeference(file, None).crs).to_crs(str(grid.crs))
            with WarpedVRT(
                file, crs=str(grid.crs), transform=grid.affine, width=grid.width, height=grid.height,
                resampling=Resampling.nearest,
            ) as view:  # fmt: skip
                codes, known = view.read(1), view.read_masks(1) > 0
    except NoGeoreference as error:
        raise LayerError(
            f"{shown} has no CRS or no geotransform; give it those of its scene, e.g. gdal_edit.py -a_srs EPSG:32633"
        ) from error
    except RasterioIOError as error:
        raise LayerError(f"cannot read {shown}; give a raster of class codes, or a vector layer") from error
    covered = rasterize(extent, out_shape=grid.shape, transform=grid.affine) > 0
    if not covered.any():
        its, asked = (", ".join(f"{v:.8g}" for v in box) for box in (extent.total_bounds, grid.boundingbox.bbox))
        raise LayerError(
            f"{shown} has no pixel on its scene: it spans {its}, the ground to label {asked} (left, bottom, right, top "
            f"in {grid.crs}); give each scene the labels drawn on it, in order"
        )
    known &= np.isfinite(codes)
    if file.nodata is None:  # then what lies beyond the raster reads as 0, as if it were known
        known &= covered
    if (codes[known] != np.rint(codes[known])).any():
        raise LayerError(f"{shown} holds fractions; give a raster of class codes in whole numbers, 0 for none")
    return codes, known


def _check(file: rasterio.DatasetReader, shown: str) -> None:
    kind = np.dtype(file.dtypes[0]).kind if "complex" not in file.dtypes[0] else "c"
    if file.count != 1 or kind not in "iuf":
        raise LayerError(
            f"{shown} has {file.count} band{'s' * (file.count > 1)} of {file.dtypes[0]}; give a raster of class codes: "
            "one band of whole numbers, 0 for none"
        )


def _code(value: str, path: str | Path) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise ThemeError(
            f"{display_name(path)} is a raster of codes; give them with --classes, e.g. building=1, not {value}"
        ) from error

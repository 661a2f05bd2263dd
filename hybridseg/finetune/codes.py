"""Labels as a raster of class codes."""

from __future__ import annotations

import warnings

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.features import shapes
from rasterio.vrt import WarpedVRT
from scipy import ndimage as ndi

from hybridseg.errors import NoGeoreference, ThemeError
from hybridseg.finetune.classes import Classes
from hybridseg.finetune.layers import burn, elsewhere
from hybridseg.read.describe import georeference
from hybridseg.read.raster import RasterScene

RASTERS = (".tif", ".tiff", ".vrt", ".img", ".jp2")


def read_codes(path: str, source: RasterScene, grid: GeoBox, classes: Classes) -> tuple[gpd.GeoDataFrame, np.ndarray]:
    """Connected ground of each class as polygons, and (H, W) bool where the raster speaks.

    Raises:
        ThemeError: it cannot be read, has no place, is not one band of whole numbers, or lies elsewhere.
    """
    wanted = {name: None if value is None else _code(value, path) for name, value in classes.items()}
    codes, said = _read(path, source, grid)
    rows = []
    for name, code in wanted.items():
        mask = said & (codes != 0 if code is None else codes == code)
        labels = ndi.label(mask)[0].astype(np.int32)
        rows += [(name, shapely.geometry.shape(g)) for g, _ in shapes(labels, mask=mask, transform=grid.affine)]
    frame = gpd.GeoDataFrame({"class": [r[0] for r in rows]}, geometry=[r[1] for r in rows], crs=str(grid.crs))
    return frame, said


def _read(path: str, source: RasterScene, grid: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) codes and (H, W) bool, on the grid."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # answered by an error
            file = rasterio.open(path)
        with file:
            _check(file, path)
            extent = gpd.GeoSeries([shapely.box(*file.bounds)], crs=georeference(file, None).crs).to_crs(str(grid.crs))
            with WarpedVRT(
                file, crs=str(grid.crs), transform=grid.affine, width=grid.width, height=grid.height,
                resampling=Resampling.nearest,
            ) as view:  # fmt: skip
                codes, said = view.read(1), view.read_masks(1) > 0
    except NoGeoreference as error:
        raise ThemeError(
            f"{path} has no CRS or no geotransform; give it those of its scene, e.g. gdal_edit.py -a_srs EPSG:32633"
        ) from error
    except RasterioIOError as error:
        raise ThemeError(f"cannot read {path}; give a raster of class codes, or a vector layer") from error
    on = burn(extent, grid) > 0
    if not on.any():
        raise elsewhere(path, extent.total_bounds, source)
    said &= np.isfinite(codes)
    if file.nodata is None:  # then what lies beyond the raster must not read as 0
        said &= on
    if (codes[said] != np.rint(codes[said])).any():
        raise ThemeError(f"{path} holds fractions; give a raster of class codes in whole numbers, 0 for none")
    return codes, said


def _check(file: rasterio.DatasetReader, path: str) -> None:
    kind = np.dtype(file.dtypes[0]).kind if "complex" not in file.dtypes[0] else "c"
    if file.count != 1 or kind not in "iuf":
        raise ThemeError(
            f"{path} has {file.count} band{'s' * (file.count > 1)} of {file.dtypes[0]}; give a raster of class codes: "
            "one band of whole numbers, 0 for none"
        )


def _code(value: str, path: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise ThemeError(
            f"{path} is a raster of codes; give them with --classes, e.g. building=1, not {value}"
        ) from error

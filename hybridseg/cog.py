"""Rasters of bytes, written block by block and ending as Cloud Optimized GeoTIFFs: memory does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.io import DatasetWriter
from rasterio.windows import Window as RasterioWindow

from hybridseg.types import Window

SUFFIXES = (".tif", ".tiff")
ERRORS = (RasterioError, CPLE_BaseError)
"""What GDAL reports by way of rasterio; the first time a disk is full while it writes is one of these."""
_TILE_PX = 512


def create_tiled(path: Path, geobox: GeoBox, count: int, nodata: int) -> DatasetWriter:
    """Create a sparse tiled GeoTIFF of `count` bands of bytes, all nodata until written, on any grid."""
    return rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=geobox.width,
        height=geobox.height,
        count=count,
        dtype="uint8",
        nodata=nodata,
        crs=wkt(geobox),
        transform=geobox.affine,
        tiled=True,
        blockxsize=_TILE_PX,
        blockysize=_TILE_PX,
        compress="deflate",
        zlevel=1,
        sparse_ok=True,
        bigtiff="if_safer",
        photometric="minisblack",  # or three bands are taken for RGB, and a fourth for alpha
        alpha="no",
    )


def copy_to_cog(source: Path, target: Path, **options: str) -> None:
    """Copy a GeoTIFF to a COG with overviews; options as GDAL's COG driver names them."""
    settings = {"compress": "deflate", "blocksize": str(_TILE_PX), "bigtiff": "if_safer", "num_threads": "all_cpus"}
    rasterio.shutil.copy(source, target, driver="COG", **settings, **options)


def read_through(path: Path) -> None:
    """Read each pixel of a raster and of its overviews.

    Raises:
        RasterioError: the file is damaged.
    """
    with rasterio.open(path) as source:
        levels = [None, *range(len(source.overviews(1)))]
    for level in levels:
        with rasterio.open(path, **({} if level is None else {"overview_level": level})) as source:
            for _, window in source.block_windows(1):
                source.read(window=window)


def to_rasterio(window: Window) -> RasterioWindow:
    """Return the window as rasterio has it."""
    return RasterioWindow(window.col, window.row, window.width, window.height)


def whole(geobox: GeoBox) -> Window:
    """Return the window of all pixels of a grid."""
    return Window(0, 0, geobox.width, geobox.height)


def blocks(geobox: GeoBox, side_px: int = 2048) -> Iterator[Window]:
    """Yield windows that cover a grid, each pixel once."""
    for row in range(0, geobox.height, side_px):
        for col in range(0, geobox.width, side_px):
            yield Window(col, row, side_px, side_px).clip(whole(geobox))


def wkt(geobox: GeoBox) -> str:
    """Return the grid's CRS as WKT."""
    if geobox.crs is None:
        raise ValueError("the grid has no CRS")
    return geobox.crs.to_wkt()

"""Rasters of bytes, written block by block and ending as Cloud Optimized GeoTIFFs: memory does not grow with them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.io import DatasetWriter
from rasterio.windows import Window as RasterioWindow

from hybridseg.files import replacing, scratch
from hybridseg.types import Window

SUFFIXES = (".tif", ".tiff")
ERRORS = (RasterioError, CPLE_BaseError)
"""What GDAL reports by way of rasterio; the first time a disk is full while it writes is one of these."""
_TILE_PX = 512


@contextmanager
def new_cog(
    path: Path | str,
    geobox: GeoBox,
    count: int,
    nodata: int,
    verify: Callable[[Path], object] | None = None,
    sidecar: str = "",
    **options: str,
) -> Iterator[DatasetWriter]:
    """Create a raster of `count` bands of bytes on any grid; the file appears, as a COG, when the block ends well.

    Args:
        path: the file.
        geobox: its grid.
        count: number of bands.
        nodata: value of all pixels until they are written.
        verify: reads the written file, see `replacing`; default: `read_through`.
        sidecar: text of `<path>.aux.xml`; empty for none.
        options: as GDAL's COG driver names them.

    Raises:
        OutputError: the file cannot be written there.
    """
    with replacing(path, verify or read_through, ERRORS) as beside, scratch(path) as tiled, rasterio.Env():
        with rasterio.open(
            tiled,
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
        ) as dataset:
            yield dataset
        copy_to_cog(tiled, beside, **options)
        if sidecar:
            beside.with_name(f"{beside.name}.aux.xml").write_text(sidecar, encoding="utf-8")


def copy_to_cog(source: Path, target: Path, **options: str) -> None:
    """Copy a GeoTIFF to a COG with overviews; options as GDAL's COG driver names them."""
    settings = {"compress": "deflate", "blocksize": str(_TILE_PX), "bigtiff": "if_safer", "num_threads": "all_cpus"}
    rasterio.shutil.copy(source, target, driver="COG", **settings, **options)


def write_values(
    path: Path | str,
    geobox: GeoBox,
    values_of: Callable[[GeoBox], np.ndarray],
    names: Sequence[str],
    colours: Mapping[int, tuple[int, int, int, int]],
    tags: Mapping[str, str],
) -> None:
    """Write a band of named values, block by block, as a COG with a palette; the file appears whole or not at all.

    Names go into `<path>.aux.xml`, the only place GDAL has for them, and into the band's tags.

    Args:
        path: the file.
        geobox: its grid.
        values_of: returns the pixels (H, W) uint8 of a part of the grid; 0 is nodata.
        names: of the values from 1 on.
        colours: RGBA of each value.
        tags: of the file.

    Raises:
        OutputError: the file cannot be written there.
    """
    written = 0

    def verify(beside: Path) -> None:
        read_through(beside)
        found = 0
        with rasterio.open(beside) as made:
            for window in map(to_rasterio, blocks(geobox)):
                found = zlib.crc32(made.read(1, window=window).tobytes(), found)
        if found != written:
            raise ValueError("pixels are lost")

    with new_cog(path, geobox, 1, 0, verify, _category_names(names), overview_resampling="mode") as target:
        target.write_colormap(1, colours)
        target.update_tags(**tags)
        target.update_tags(1, **{f"class_{value}": name for value, name in enumerate(names, 1)})
        for window in map(to_rasterio, blocks(geobox)):
            pixels = values_of(geobox[window.toslices()])
            written = zlib.crc32(pixels.tobytes(), written)
            if pixels.any():
                target.write(pixels, 1, window=window)


def _category_names(names: Sequence[str]) -> str:
    listed = "".join(f"<Category>{escape(name)}</Category>" for name in ("", *names))
    band = f'<PAMRasterBand band="1"><CategoryNames>{listed}</CategoryNames></PAMRasterBand>'
    return f"<PAMDataset>{band}</PAMDataset>\n"


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
            yield Window(col, row, min(side_px, geobox.width - col), min(side_px, geobox.height - row))


def wkt(geobox: GeoBox) -> str:
    """Return the grid's CRS as WKT."""
    if geobox.crs is None:
        raise ValueError("the grid has no CRS")
    return geobox.crs.to_wkt()

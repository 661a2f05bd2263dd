"""Rasters to files: the map of classes, and the heatmap that the first sweep leaves on disk.

Both are made block by block in a tiled GeoTIFF beside their place and end as Cloud Optimized GeoTIFFs, so memory
does not grow with the raster. Any grid will do: rotated and south-up ones come back with the transform they had.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import geopandas as gpd
import numpy as np
import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.features import rasterize
from rasterio.io import DatasetWriter
from rasterio.windows import Window as RasterioWindow

from hybridseg.errors import OutputError, SourceError
from hybridseg.files import check_output, replacing, scratch
from hybridseg.types import Window
from hybridseg.write.lineage import KEY, abstract, attributions, title
from hybridseg.write.style import color_table

SUFFIXES = (".tif", ".tiff")

ERRORS = (RasterioError, CPLE_BaseError)
"""What GDAL reports by way of rasterio; the first time a disk is full while it writes is one of these."""

NONE = 0
"""Value of a class raster where there is no class; class k of the list has value k + 1."""

_BLOCK_PX = 2048
_TILE_PX = 512
_STEPS = 254
_NODATA = 255
_MAX_CLASSES = 255


def write_classes(
    features: gpd.GeoDataFrame,
    path: Path | str,
    geobox: GeoBox,
    classes: Sequence[str],
    provenance: Mapping[str, Any],
) -> Path:
    """Write the features as a map of classes on `geobox` (the source's grid): uint8 with palette and class names.

    A pixel belongs to the outlines over its centre; where there are several, to the one of highest score. Names of the
    classes go into `<path>.aux.xml`, the only place GDAL has for them, and into the band's tags.

    Raises:
        OutputError: the file cannot be written there, or there are more classes than a byte can tell apart.
    """
    path = check_output(path, SUFFIXES)
    if len(classes) > _MAX_CLASSES:
        raise OutputError(f"{path} cannot hold {len(classes)} classes: {_MAX_CLASSES} at most, write vectors instead")
    values = {name: value for value, name in enumerate(classes, start=NONE + 1)}
    if unknown := set(features["class"]) - set(values):
        raise ValueError(f"features have classes {sorted(unknown)} that are not in {list(classes)}")
    # Later ones are burnt over earlier ones; the id settles ties, so that the order of rows does not matter.
    features = features.sort_values(["score", "id"], na_position="first").to_crs(_wkt(geobox))
    burnt = features["class"].map(values).to_numpy()
    written = 0

    def verify(beside: Path) -> None:
        read_through(beside)
        with rasterio.open(beside) as made:
            if written != _checksum(made.read(1, window=_rasterio(window)) for window in _blocks(geobox)):
                raise ValueError("pixels are lost")

    with replacing(path, verify, ERRORS) as beside, scratch(path) as tiled, rasterio.Env():
        with _create(tiled, geobox, count=1, nodata=NONE) as target:
            target.write_colormap(1, color_table(classes))
            target.update_tags(**{KEY: json.dumps(provenance)}, **_readable(provenance, classes))
            target.update_tags(1, **{f"class_{value}": name for name, value in values.items()})
            for window in _blocks(geobox):
                pixels = _burn(features, burnt, geobox[window.slices(_whole(geobox))])
                written = _checksum([pixels], written)
                if pixels.any():
                    target.write(pixels, 1, window=_rasterio(window))
        _to_cog(tiled, beside, overview_resampling="mode")
        beside.with_name(f"{beside.name}.aux.xml").write_text(_category_names(classes), encoding="utf-8")
    return path


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


@dataclass(frozen=True)
class HeatmapWriter:
    """Takes a heatmap window by window, in any order; one thread at a time."""

    dataset: DatasetWriter

    def write(self, values: np.ndarray, valid: np.ndarray, window: Window) -> None:
        """Store one window; what lies outside the grid is dropped.

        Args:
            values: (B, h, w) float in [0, 1], kept to 1/508; of no account where not valid.
            valid: (h, w) bool.
            window: the place of these (h, w) pixels on the heatmap's grid.
        """
        shape = (window.height, window.width)
        if values.shape != (self.dataset.count, *shape) or valid.shape != shape:
            raise ValueError(f"window is {shape} of {self.dataset.count} bands, got {values.shape} and {valid.shape}")
        inside = window.clip(Window(0, 0, self.dataset.width, self.dataset.height))
        if inside.width and inside.height:
            steps = np.rint(np.where(valid, values, 0).clip(0, 1) * _STEPS).astype(np.uint8)
            steps[:, ~valid] = _NODATA
            self.dataset.write(steps[:, *inside.slices(window)], window=_rasterio(inside))


@dataclass(frozen=True)
class Heatmap:
    """A heatmap on disk. Opened anew for each read, so it pickles and threads may share it."""

    path: Path
    geobox: GeoBox
    bands: tuple[str, ...]

    def read(self, window: Window, names: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Values of the bands named (default: all) in a window, which may reach beyond the grid.

        Returns:
            (B, h, w) float32 in [0, 1], 0 where not valid; (h, w) bool, False for nodata and outside the grid.
        """
        names = self.bands if names is None else names
        steps = np.full((len(names), window.height, window.width), _NODATA, np.uint8)
        inside = window.clip(_whole(self.geobox))
        if inside.width and inside.height:
            with rasterio.open(self.path) as source:
                indexes = [self.bands.index(name) + 1 for name in names]
                steps[:, *inside.slices(window)] = source.read(indexes, window=_rasterio(inside))
        valid = (steps != _NODATA).all(axis=0)
        return np.where(valid, steps, 0).astype(np.float32) / np.float32(_STEPS), valid


@contextmanager
def heatmap_sink(
    path: Path | str,
    geobox: GeoBox,
    bands: Sequence[str],
    provenance: Mapping[str, Any] | None = None,
) -> Iterator[HeatmapWriter]:
    """Something to write a heatmap to; the file appears, as a COG, when the block ends well.

    A byte a value: round(254 p), 255 for nodata and for what was never written. Overviews are averages.

    Raises:
        OutputError: the file cannot be written there.
    """
    path = check_output(path, SUFFIXES)
    with replacing(path) as beside, scratch(path) as tiled:
        with _create(tiled, geobox, count=len(bands), nodata=_NODATA) as dataset:
            dataset.descriptions = tuple(bands)
            dataset.update_tags(**{KEY: json.dumps(provenance or {})})
            yield HeatmapWriter(dataset)
        _to_cog(tiled, beside, overview_resampling="average", predictor="yes")


def open_heatmap(path: Path | str) -> Heatmap:
    """A heatmap that `heatmap_sink` wrote, to be read by windows.

    Raises:
        SourceError: no such file, or not a heatmap.
    """
    try:
        source = rasterio.open(path)
    except RasterioIOError as error:
        raise SourceError(f"{path} cannot be opened ({error}): give a heatmap that hybridseg wrote") from error
    with source:
        if set(source.dtypes) != {"uint8"} or source.nodata != _NODATA or not all(source.descriptions):
            raise SourceError(f"{path} is no heatmap (bytes, nodata 255, named bands): give one that hybridseg wrote")
        return Heatmap(Path(path), GeoBox.from_rio(source), tuple(source.descriptions))


def read_provenance(path: Path | str) -> dict[str, Any] | None:
    """What the writer of a raster was told of its origin; None where the file does not say."""
    with rasterio.open(path) as source:
        text = source.tags().get(KEY)
    return None if text is None else json.loads(text)


def _burn(features: gpd.GeoDataFrame, burnt: np.ndarray, block: GeoBox) -> np.ndarray:
    """The block's pixels: the values `burnt` under the features' outlines, the last on top."""
    near = np.sort(features.sindex.query(block.extent.geom, predicate="intersects"))
    if not len(near):
        return np.full(block.shape, NONE, np.uint8)
    shapes = zip(features.geometry.to_numpy()[near], burnt[near], strict=True)
    return rasterize(shapes, block.shape, fill=NONE, transform=block.affine, dtype="uint8")


def _checksum(blocks: Iterable[np.ndarray], start: int = 0) -> int:
    for pixels in blocks:
        start = zlib.crc32(pixels.tobytes(), start)
    return start


def _readable(provenance: Mapping[str, Any], classes: Sequence[str]) -> dict[str, str]:
    """Tags that GDAL and QGIS show to people."""
    tags = {
        "TIFFTAG_DOCUMENTNAME": title(provenance, classes, "class raster"),
        "TIFFTAG_IMAGEDESCRIPTION": abstract(provenance),
        "TIFFTAG_COPYRIGHT": "\n".join(attributions(provenance)),
    }
    return {name: text for name, text in tags.items() if text}


def _whole(geobox: GeoBox) -> Window:
    return Window(0, 0, geobox.width, geobox.height)


def _wkt(geobox: GeoBox) -> str:
    if geobox.crs is None:
        raise ValueError("the grid has no CRS")
    return geobox.crs.to_wkt()


def _blocks(geobox: GeoBox) -> Iterator[Window]:
    """Windows that cover the grid, each pixel once."""
    for row in range(0, geobox.height, _BLOCK_PX):
        for col in range(0, geobox.width, _BLOCK_PX):
            yield Window(col, row, _BLOCK_PX, _BLOCK_PX).clip(_whole(geobox))


def _create(path: Path, geobox: GeoBox, count: int, nodata: int) -> DatasetWriter:
    """A sparse tiled GeoTIFF of bytes, all nodata until written."""
    return rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=geobox.width,
        height=geobox.height,
        count=count,
        dtype="uint8",
        nodata=nodata,
        crs=_wkt(geobox),
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


def _to_cog(source: Path, target: Path, **options: str) -> None:
    settings = {"compress": "deflate", "blocksize": str(_TILE_PX), "bigtiff": "if_safer", "num_threads": "all_cpus"}
    rasterio.shutil.copy(source, target, driver="COG", **settings, **options)


def _category_names(classes: Sequence[str]) -> str:
    names = "".join(f"<Category>{escape(name)}</Category>" for name in ("", *classes))
    band = f'<PAMRasterBand band="1"><CategoryNames>{names}</CategoryNames></PAMRasterBand>'
    return f"<PAMDataset>{band}</PAMDataset>\n"


def _rasterio(window: Window) -> RasterioWindow:
    return RasterioWindow(window.col, window.row, window.width, window.height)

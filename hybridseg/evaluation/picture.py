"""Pictures of a map: a scene with outlines over it."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from pyproj import CRS
from rasterio import DatasetReader
from rasterio.enums import Resampling
from rasterio.errors import RasterioIOError
from rasterio.windows import Window as RasterWindow
from shapely.geometry.base import BaseGeometry

from hybridseg.errors import EmptySource, NoGeoreference, OutputError, SourceError
from hybridseg.files import replacing
from hybridseg.read.stretch import estimate, validity
from hybridseg.types import Window

_LINE_PX = 1.5
_DASHES = (4, 3)  # on and off, in line widths
_DPI = 72  # so that a point is a pixel


class Layer(NamedTuple):
    """Outlines of one kind.

    Attributes:
        features: polygons or lines, in any CRS.
        color: a matplotlib colour.
        label: text in the legend, "" for no entry.
        dashed: whether lines are dashed.
    """

    features: gpd.GeoDataFrame
    color: str
    label: str
    dashed: bool = False


def against_truth(features: gpd.GeoDataFrame, truth: gpd.GeoDataFrame) -> list[Layer]:
    """Return layers that show a result over its truth: refined outlines red, coarse dashed yellow, truth white."""
    refined = features["origin"] == "refined"
    return [
        Layer(truth, "#ffffff", "truth"),
        Layer(features[refined], "#ff4d6d", "refined"),
        Layer(features[~refined], "#ffd166", "coarse", dashed=True),
    ]


class Backdrop(NamedTuple):
    """What outlines are drawn over.

    Attributes:
        image: (H, W, 3) uint8.
        crs: of the raster that it shows.
        transform: from the raster's pixels to its CRS.
        window: the part of the raster that it shows, in its pixels.
    """

    image: np.ndarray
    crs: CRS
    transform: Affine
    window: Window


def draw_features(
    source_path: str | Path,
    layers: Sequence[Layer],
    path: str | Path,
    max_px: int = 2048,
    window: Window | None = None,
) -> None:
    """Write a PNG of the scene with the layers' outlines over it, the last layer on top.

    Args:
        source_path: any raster with a CRS, shown as `backdrop` describes.
        layers: what to outline; they are brought to the raster's CRS.
        path: the .png to write.
        max_px: longest side of the picture (px).
        window: the part of the raster to show, in its pixels; all of it when None.

    Raises:
        SourceError: the raster cannot be opened, has no CRS, or `window` lies outside it.
        OutputError: `path` is not a .png or its folder does not exist.
    """
    path = Path(path)
    if path.suffix.lower() != ".png" or not path.parent.is_dir():
        raise OutputError(f"cannot draw to {path}: give a file name that ends in .png, in a folder that exists")
    drawn = render(backdrop(source_path, max_px, window), layers)
    with replacing(path) as beside:
        beside.write_bytes(drawn)


def backdrop(
    source_path: str | Path, max_px: int, window: Window | None = None, around: gpd.GeoSeries | None = None
) -> Backdrop:
    """Return a part of a raster as a picture.

    Large scenes are read decimated; small ones are enlarged by a whole factor to at most three quarters of `max_px`, so
    that lines stay thin against what they outline. The first three bands are red, green and blue, or the first is grey;
    8-bit values are shown as they are, others are stretched as the scene itself would be (`read.stretch`).

    Args:
        source_path: any raster with a CRS.
        max_px: longest side of the picture (px).
        window: the part to show, in the raster's pixels; all of it when None.
        around: show the part around these geometries instead, of any CRS.

    Raises:
        SourceError: the raster cannot be opened, is damaged, has no CRS, or the part lies outside it.
    """
    try:
        source = rasterio.open(source_path)
    except RasterioIOError as error:
        raise SourceError(f"cannot open {source_path} as a raster: give a GeoTIFF or another GDAL raster") from error
    with source:
        if source.crs is None:
            raise NoGeoreference(f"{source_path} has no CRS, features cannot be placed on it: assign one (gdal_edit)")
        crs, transform = CRS.from_user_input(source.crs), source.transform
        if around is not None:
            window = _window(around.to_crs(crs).affine_transform((~transform).to_shapely()).total_bounds)
        whole = Window(0, 0, source.width, source.height)
        shown = whole if window is None else window.clip(whole)
        if shown.width == 0 or shown.height == 0:
            raise EmptySource(f"{window} is outside of {source_path}: move it into {whole.width} x {whole.height} px")
        try:
            return Backdrop(_image(source, shown, max_px), crs, transform, shown)
        except RasterioIOError as error:
            raise SourceError(f"{source_path} cannot be read to its end: it is damaged or cut short") from error


def plain(around: gpd.GeoSeries, max_px: int) -> Backdrop:
    """Return grey ground around geometries in a metric CRS, for maps without a scene."""
    left, bottom, right, top = around.total_bounds
    size_m = max(right - left, top - bottom, 1e-6) / max_px
    window = Window(0, 0, max(1, math.ceil((right - left) / size_m)), max(1, math.ceil((top - bottom) / size_m)))
    grey = np.full((window.height, window.width, 3), 70, np.uint8)
    return Backdrop(grey, CRS.from_user_input(around.crs), Affine(size_m, 0, left, 0, -size_m, top), window)


def render(under: Backdrop, layers: Sequence[Layer], file_format: str = "png") -> bytes:
    """Draw the layers' outlines over a picture, the last layer on top; returns PNG or JPEG bytes."""
    height, width = under.image.shape[:2]
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)  # no pyplot: no global state, nothing to close
    axes = figure.add_axes((0, 0, 1, 1), frameon=False, xticks=(), yticks=())
    (left, top), (right, bottom) = (under.window.col, under.window.row), under.window.stop
    axes.imshow(under.image, extent=(left, right, bottom, top), interpolation="none", aspect="auto")
    key = []
    for layer in layers:
        lines = _lines(layer.features, under.crs, under.transform, shapely.box(left, top, right, bottom))
        axes.add_collection(LineCollection(lines, **_style(layer)), autolim=False)
        if layer.label:
            key.append(Line2D([], [], label=layer.label, **_style(layer)))
    if key:
        axes.legend(
            handles=key, loc="lower left", fontsize=min(18, max(11, width // 90)), handlelength=2.4, borderaxespad=0.8,
            facecolor="black", edgecolor="none", framealpha=0.6, labelcolor="white", fancybox=False,
        )  # fmt: skip
    file = io.BytesIO()
    figure.savefig(file, format=file_format, pil_kwargs={"quality": 88} if file_format == "jpeg" else None)
    return file.getvalue()


def _window(bounds: np.ndarray) -> Window:
    left, top, right, bottom = bounds
    col, row = math.floor(left), math.floor(top)
    return Window(col, row, math.ceil(right) - col, math.ceil(bottom) - row)


def _style(layer: Layer) -> dict[str, Any]:
    """Return a thin line with a dark rim, visible on bright roofs and dark trees alike."""
    rim = [Stroke(linewidth=_LINE_PX + 1.5, foreground="black", alpha=0.45), Normal()]
    dashes = (0, _DASHES) if layer.dashed else "solid"
    return {"color": layer.color, "linewidth": _LINE_PX, "linestyle": dashes, "path_effects": rim}


def _lines(features: gpd.GeoDataFrame, crs: CRS, transform: Affine, frame: BaseGeometry) -> list[np.ndarray]:
    """Return the outlines, or the lines, that meet the frame, each (n, 2) in the raster's pixels."""
    if features.crs is None:
        raise NoGeoreference("a layer to draw has no CRS: set the one its coordinates are in (set_crs)")
    placed = features.geometry.to_crs(crs).affine_transform((~transform).to_shapely())
    placed = placed[placed.intersects(frame)].to_numpy()
    outlines = np.where(shapely.get_dimensions(placed) == 2, shapely.boundary(placed), placed)
    parts = shapely.get_parts(outlines)
    parts = parts[shapely.get_dimensions(parts) == 1]
    ends = np.cumsum(shapely.get_num_coordinates(parts))
    return np.split(shapely.get_coordinates(parts), ends[:-1]) if len(parts) else []


def _image(source: DatasetReader, shown: Window, max_px: int) -> np.ndarray:
    """Read a window at the size of the picture, (H, W, 3) uint8."""
    longer = max(shown.width, shown.height)
    scale = max_px / longer if longer > max_px else max(1, max_px * 3 // 4 // longer)
    height, width = max(1, round(shown.height * scale)), max(1, round(shown.width * scale))
    pixels = source.read(
        indexes=(1, 2, 3) if source.count >= 3 else (1, 1, 1),
        window=RasterWindow(shown.col, shown.row, shown.width, shown.height),
        out_shape=(3, height, width),
        resampling=Resampling.average if scale < 1 else Resampling.cubic,
        masked=True,
    )
    valid = validity(pixels.data, ~np.ma.getmaskarray(pixels))
    if not valid.any():
        return np.zeros((height, width, 3), np.uint8)
    return np.moveaxis(estimate(pixels.data, valid, pixels.dtype).apply(pixels.data, valid), 0, -1)

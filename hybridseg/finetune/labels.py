"""Scenes and their labels (polygons, lines with a width, class rasters) on the working grid, ready to learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import RasterioIOError
from rasterio.features import rasterize, shapes
from rasterio.vrt import WarpedVRT
from scipy import ndimage as ndi

from hybridseg.errors import ThemeError
from hybridseg.read.grid import work_grid
from hybridseg.read.source import Source
from hybridseg.train.scenes import Scene

RASTERS = (".tif", ".tiff", ".vrt", ".img", ".jp2")
MOST_BYTES = 3 * 2**27
"""A scene is held in memory while it is learnt from."""
AROUND_M = 50.0
"""Ground kept around labels and the area where they are complete, so that objects at its border have surroundings."""
Classes = Mapping[str, str | None]
"""Class to its value in the column or raster; None: whatever the layer holds."""


@dataclass(frozen=True)
class Ground:
    """A labelled scene on its working grid.

    scene: what training learns from; source: its raster; seen: the same as the backbone sees it; grid: the pixels of
    `scene`.
    truth: polygons with `class`, in the source's CRS; known: where every object is drawn, in the same CRS.
    """

    scene: Scene
    source: Source
    seen: Source
    grid: GeoBox
    truth: gpd.GeoDataFrame
    known: shapely.Geometry


def parse_classes(text: str | None, names: Sequence[str], column: str | None) -> dict[str, str | None]:
    """What the labels call each class of the themes.

    Args:
        text: `building=1,road=2`, or None: each by its own name, or the whole layer where there is but one class.
        names: classes of the themes, in order.
        column: column of the class, if any.

    Raises:
        ThemeError: a class is missing, or nothing tells several apart.
    """
    if text is None:
        if len(names) > 1 and column is None:
            raise ThemeError(
                f"{len(names)} classes ({', '.join(names)}) need --column or --classes, e.g. {names[0]}=1,{names[1]}=2"
            )
        return {name: name if column else None for name in names}
    pairs = [part.partition("=")[::2] for part in text.split(",")]
    given = {name.strip(): value.strip() or name.strip() for name, value in pairs}
    if set(given) != set(names):
        raise ThemeError(f"--classes names {', '.join(given)}; the themes' classes are {', '.join(names)}")
    return {name: given[name] for name in names}


def read_ground(
    source: Source,
    labels: str,
    classes: Classes,
    gsd_m: float,
    snap_px: int,
    *,
    column: str | None = None,
    width: str | None = None,
    complete_within: str | None = None,
    seen: Source | None = None,
) -> Ground:
    """A scene with its labels.

    Args:
        source: raster.
        labels: layer of polygons or lines, or a raster of class codes (its nodata is unknown ground).
        classes: see `parse_classes`.
        gsd_m: of the working grid.
        snap_px: of the backbone.
        column: of the class.
        width: of lines, in metres, or the name of the column that holds it.
        complete_within: polygon layer; outside it, ground that is not labelled is unknown. None: the whole scene.
        seen: the source as the backbone sees it; default: in 8-bit RGB.

    Raises:
        ThemeError: the labels cannot be read, lack the column, lie beside the scene; the scene is too large.
    """
    area = None if complete_within is None else read_layer(complete_within, source).union_all()
    raster = labels.lower().endswith(RASTERS)
    drawn = None if raster else _drawn(labels, source, classes, column, width)
    bounds = None
    if area is not None:
        around = [area] if drawn is None else [area, shapely.box(*drawn.total_bounds)]
        bounds = _bounds(shapely.union_all(around), source)
    grid = work_grid(source, gsd_m, snap_px, bounds)
    seen = seen or source
    if grid.width * grid.height * (3 if seen.stretch else 4 * len(seen.bands)) > MOST_BYTES:
        raise ThemeError(
            f"{source.path} is {grid.width} x {grid.height} px at {gsd_m:g} m, more than fits in memory; label a part "
            "of it and give that with --complete-within, or cut the scene"
        )
    said = np.ones(grid.shape, bool)
    if drawn is None:
        drawn, said = _from_codes(labels, grid, classes)
    objects = {name: _burn(drawn[drawn["class"] == name].geometry, grid) for name in classes}
    chip = seen.read_grid(grid)
    labelled = np.any([layer > 0 for layer in objects.values()], axis=0)
    known = shapely.box(*source.geobox.boundingbox.bbox) if area is None else area
    if not said.all():
        spoken = shapes(said.astype(np.uint8), mask=said, transform=grid.affine)
        known = shapely.intersection(known, shapely.union_all([shapely.geometry.shape(g) for g, _ in spoken]))
    complete = said if area is None else said & (_burn(gpd.GeoSeries([area]), grid) > 0)
    valid = chip.valid & (complete | labelled)
    if not (labelled & chip.valid).any():
        raise ThemeError(f"{labels} has no object on {source.path}; give each scene the labels drawn on it, in order")
    image = np.ascontiguousarray(chip.pixels.transpose(1, 2, 0))
    scene = Scene(image, objects, valid, gsd_m, Path(labels).stem, Path(source.path).stem)
    return Ground(scene, source, seen, grid, drawn, known)


def read_layer(path: str, source: Source) -> gpd.GeoDataFrame:
    """A vector layer in the source's CRS.

    Raises:
        ThemeError: it cannot be read, is empty or has no CRS.
    """
    try:
        layer = gpd.read_parquet(path) if path.endswith(".parquet") else gpd.read_file(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise ThemeError(f"cannot read {path}: {str(error).splitlines()[0]}; give a GeoPackage or similar") from error
    layer = layer[~(layer.geometry.is_empty | layer.geometry.isna())]
    if layer.crs is None or layer.empty:
        raise ThemeError(f"{path} has {'no CRS' if layer.crs is None else 'no features'}; give a layer that has")
    return layer.to_crs(str(source.crs))


def _drawn(path: str, source: Source, classes: Classes, column: str | None, width: str | None) -> gpd.GeoDataFrame:
    """Polygons with `class`; lines as wide as they are said to be."""
    layer = read_layer(path, source)
    lines = layer.geom_type.isin(["LineString", "MultiLineString"])
    if not (lines | layer.geom_type.isin(["Polygon", "MultiPolygon"])).all():
        raise ThemeError(f"{path} holds {', '.join(sorted(set(layer.geom_type)))}; give polygons, or lines and --width")
    if lines.any():
        layer.loc[lines, "geometry"] = _widened(layer[lines], width, path)
    layer["geometry"] = layer.geometry.make_valid()
    layer["class"] = _classes(layer, classes, column, path)
    kept = layer.loc[layer["class"].notna(), ["class", "geometry"]].explode().reset_index(drop=True)
    return kept[kept.geom_type == "Polygon"].reset_index(drop=True)


def _widened(lines: gpd.GeoDataFrame, width: str | None, path: str) -> gpd.GeoSeries:
    if width is None:
        raise ThemeError(f"{path} holds lines; give their width with --width, in metres or as the name of a column")
    if width in lines:
        metres = pd.to_numeric(lines[width], errors="coerce").to_numpy(float)
    else:
        try:
            metres = np.full(len(lines), float(width))
        except ValueError as error:
            raise ThemeError(f"{path} has no column {width!r}; give --width in metres or name a column") from error
    if not (metres > 0).all():
        raise ThemeError(f"{path} has lines whose width is not a positive number of metres; mend them or give --width")
    metric = lines.geometry.to_crs(lines.estimate_utm_crs())
    return metric.buffer(metres / 2, cap_style="flat").to_crs(lines.crs)


def _classes(layer: gpd.GeoDataFrame, classes: Classes, column: str | None, path: str) -> pd.Series:
    if column is None:
        if len(classes) > 1:
            raise ThemeError(f"{path} is to give {len(classes)} classes; name the column of the class with --column")
        return pd.Series(next(iter(classes)), index=layer.index, dtype=object)
    if column not in layer:
        there = ", ".join(c for c in layer.columns if c != "geometry") or "none"
        raise ThemeError(f"{path} has no column {column!r}; there are {there}")
    values = layer[column].map(_text)
    names = {value: name for name, value in classes.items()}
    found = values.map(names)
    if found.isna().all():
        there = ", ".join(sorted(set(values))[:8])
        raise ThemeError(f"column {column} of {path} holds {there}; tell which is which with --classes, e.g. road=2")
    return found.astype(object)


def _text(value: object) -> str:
    """A value as one types it: 2.0 is 2."""
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)


def _from_codes(path: str, grid: GeoBox, classes: Classes) -> tuple[gpd.GeoDataFrame, np.ndarray]:
    """Connected ground of each class as polygons, and (H, W) bool where the raster speaks."""
    try:
        with (
            rasterio.open(path) as file,
            WarpedVRT(
                file, crs=str(grid.crs), transform=grid.affine, width=grid.width, height=grid.height,
                resampling=Resampling.nearest,
            ) as view,
        ):  # fmt: skip
            codes, said = view.read(1), view.read_masks(1) > 0
            if file.nodata is None:  # then what lies beyond the raster must not read as 0
                said &= _burn(_extent(file, str(grid.crs)), grid) > 0
    except RasterioIOError as error:
        raise ThemeError(f"cannot read {path}; give a raster of class codes, or a vector layer") from error
    rows = []
    for name, value in classes.items():
        mask = said & (codes != 0 if value is None else codes == _code(value, path))
        labels = ndi.label(mask)[0].astype(np.int32)
        rows += [(name, shapely.geometry.shape(g)) for g, _ in shapes(labels, mask=mask, transform=grid.affine)]
    frame = gpd.GeoDataFrame({"class": [r[0] for r in rows]}, geometry=[r[1] for r in rows], crs=str(grid.crs))
    return frame, said


def _extent(file: rasterio.DatasetReader, crs: str) -> gpd.GeoSeries:
    return gpd.GeoSeries([shapely.box(*file.bounds)], crs=file.crs).to_crs(crs)


def _code(value: str, path: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise ThemeError(
            f"{path} is a raster of codes; give them with --classes, e.g. building=1, not {value}"
        ) from error


def _burn(geometry: gpd.GeoSeries, grid: GeoBox) -> np.ndarray:
    """(H, W) int32 ids, 0 none, by pixel centres; the smaller of two that overlap is seen."""
    order: Sequence[int] = np.argsort(-geometry.area.to_numpy()).tolist()
    pairs = [(geometry.iloc[row], number + 1) for number, row in enumerate(order)]
    if not pairs:
        return np.zeros(grid.shape, np.int32)
    return np.asarray(rasterize(pairs, out_shape=grid.shape, transform=grid.affine, dtype="int32"))


def _bounds(area: shapely.Geometry, source: Source) -> tuple[float, float, float, float]:
    """Bounds with a little around them, inside the source."""
    dx, dy = (AROUND_M / scale for scale in source.metres_per_unit)
    x0, y0, x1, y1 = shapely.bounds(area).tolist()
    left, bottom, right, top = source.geobox.boundingbox.bbox
    return max(x0 - dx, left), max(y0 - dy, bottom), min(x1 + dx, right), min(y1 + dy, top)

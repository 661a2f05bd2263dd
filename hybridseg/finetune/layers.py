"""Vector layers of labels: read, repaired, and said what was repaired or left out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from hybridseg.errors import HybridsegWarning, LayerError, ThemeError
from hybridseg.finetune.classes import Classes, as_typed
from hybridseg.read import vectors
from hybridseg.read.source import Source

MOST_WIDTH_M = 200.0
"""Wider lines are a mistake: no road, river or runway is."""


class LabelsWarning(HybridsegWarning):
    """Labels were repaired or left out."""


def tell(path: str, chosen: np.ndarray, what: str, of: str = "rows") -> None:
    """Warn of labels that something was done to, where there are any: (N,) bool."""
    if chosen.any():
        warnings.warn(f"{Path(path).name}: {chosen.sum()} of {len(chosen)} {of} {what}", LabelsWarning, stacklevel=2)


def read_layer(path: str, source: Source) -> gpd.GeoDataFrame:
    """The features of a vector layer that lie on a scene, valid, in its CRS.

    Raises:
        ThemeError: it cannot be read, has no geometry or no CRS, or lies elsewhere.
    """
    try:
        read = vectors.read_layer(path, crs=str(source.crs))
    except LayerError as error:
        raise ThemeError(str(error)) from error
    for line in read.notes:
        warnings.warn(line, LabelsWarning, stacklevel=2)
    layer = read.rows
    x0, y0, x1, y1 = layer.bounds.to_numpy().T
    left, bottom, right, top = source.geobox.boundingbox.bbox
    outside = ~((x0 < right) & (x1 > left) & (y0 < top) & (y1 > bottom))  # also what has no place in this CRS
    if outside.all():
        raise elsewhere(path, layer.total_bounds, source)
    tell(read.name, outside, f"beside {Path(source.path).name}, left out")
    return layer[~outside]


def elsewhere(path: str, bounds: np.ndarray, source: Source) -> ThemeError:
    """The error for labels that do not touch their scene."""
    its, scene = (", ".join(f"{v:.8g}" for v in box) for box in (bounds, source.geobox.boundingbox.bbox))
    return ThemeError(
        f"{path} has no object on {source.path}: it spans {its}, the scene {scene} (left, bottom, right, top in "
        f"{source.crs}); give each scene the labels drawn on it, in order"
    )


def read_area(path: str, source: Source) -> shapely.Geometry:
    """The area in which every object is drawn, in the source's CRS.

    Raises:
        ThemeError: as of `read_layer`, or it is not of polygons.
    """
    layer = read_layer(path, source)
    if not layer.geom_type.isin(["Polygon", "MultiPolygon"]).all():
        raise ThemeError(f"--complete-within {path} holds {_kinds(layer)}; give polygons")
    return layer.union_all()


def read_drawn(path: str, source: Source, classes: Classes, column: str | None, width: str | None) -> gpd.GeoDataFrame:
    """Polygons with `class`, in the source's CRS; lines as wide as they are said to be.

    Raises:
        ThemeError: as of `read_layer`; it holds points, lines without width, or lacks the column or its values.
    """
    layer = read_layer(path, source)
    lines = layer.geom_type.isin(["LineString", "MultiLineString"])
    if not (lines | layer.geom_type.isin(["Polygon", "MultiPolygon"])).all():
        raise ThemeError(f"{path} holds {_kinds(layer)}; give polygons, or lines and --width")
    if lines.any():
        layer.loc[lines, "geometry"] = _widened(layer[lines], width, path).make_valid()
    layer["class"] = _classes(layer, classes, column, path)
    kept = layer.loc[layer["class"].notna(), ["class", "geometry"]]
    same = pd.DataFrame({"class": kept["class"], "wkb": kept.normalize().to_wkb()}).duplicated().to_numpy()
    tell(path, same, "exact duplicates of others, left out", "labels")
    parts = kept[~same].explode().reset_index(drop=True)
    return parts[parts.geom_type == "Polygon"].reset_index(drop=True)


def _kinds(layer: gpd.GeoDataFrame) -> str:
    return ", ".join(sorted(set(layer.geom_type)))


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
    if not ((metres > 0) & (metres <= MOST_WIDTH_M)).all():
        raise ThemeError(
            f"--width {width} of {path} gives lines a width that is not more than 0 and at most {MOST_WIDTH_M:g} m; "
            "mend it"
        )
    metric = lines.geometry.to_crs(lines.estimate_utm_crs())
    return metric.buffer(metres / 2, cap_style="flat").to_crs(lines.crs)


def _classes(layer: gpd.GeoDataFrame, classes: Classes, column: str | None, path: str) -> pd.Series:
    there = ", ".join(c for c in layer.columns if c != layer.geometry.name) or "none"
    if column is None:
        if set(classes.values()) != {None}:
            raise ThemeError(
                f"--classes needs the column of {path} that it speaks of: give --column; there are {there}"
            )
        return pd.Series(next(iter(classes)), index=layer.index, dtype=object)
    if column not in layer or column == layer.geometry.name:
        raise ThemeError(f"{path} has no column {column!r}; there are {there}")
    values = as_typed(layer[column])
    found = values.map({value: name for name, value in classes.items()})
    if found.isna().all():
        held = ", ".join(sorted(set(values.dropna()))[:8]) or "nothing"
        raise ThemeError(f"column {column} of {path} holds {held}; tell which is which with --classes, e.g. road=2")
    tell(path, values.isna().to_numpy(), f"without a value in column {column}, left out")
    return found.astype(object)


def burn(geometry: gpd.GeoSeries, grid: GeoBox) -> np.ndarray:
    """(H, W) int32 ids, 0 none, by pixel centres; the smaller of two that overlap is seen."""
    order: Sequence[int] = np.argsort(-geometry.area.to_numpy()).tolist()
    pairs = [(geometry.iloc[row], number + 1) for number, row in enumerate(order)]
    if not pairs:
        return np.zeros(grid.shape, np.int32)
    return np.asarray(rasterize(pairs, out_shape=grid.shape, transform=grid.affine, dtype="int32"))

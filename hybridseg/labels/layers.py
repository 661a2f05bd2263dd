"""Labels from vector layers: valid polygons with a class, in the CRS of their scene."""

from __future__ import annotations

import warnings
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from hybridseg.errors import HybridsegWarning, LayerError, ThemeError
from hybridseg.labels.codes import Classes, as_typed
from hybridseg.read.paths import display_name
from hybridseg.read.scene import Scene
from hybridseg.read.vectors import count_rows, read_layer

MAX_LINE_WIDTH_M = 200.0
"""Wider lines are refused as a mistake: no road, river or runway is wider."""
POLYGONS, LINES = ("Polygon", "MultiPolygon"), ("LineString", "MultiLineString")


class LabelsWarning(HybridsegWarning):
    """Labels were repaired or left out."""


def warn_rows(path: str | Path, chosen: np.ndarray, what: str) -> None:
    """Warn of the rows of a layer that something was done to, if there are any.

    Args:
        path: the layer.
        chosen: (N,) bool.
        what: what was done to them.
    """
    if chosen.any():
        warnings.warn(f"{display_name(Path(path).name)}: {count_rows(chosen)} {what}", LabelsWarning, stacklevel=2)


def read_on_scene(path: str | Path, scene: Scene) -> gpd.GeoDataFrame:
    """Return the features of a vector layer that touch a scene, valid, in the scene's CRS.

    What was repaired or left out is a LabelsWarning.

    Raises:
        LayerError: the layer cannot be read, or nothing of it lies on the scene.
    """
    read = read_layer(path, crs=str(scene.crs))
    for note in read.notes:
        warnings.warn(note, LabelsWarning, stacklevel=2)
    x0, y0, x1, y1 = read.rows.bounds.to_numpy().T
    left, bottom, right, top = scene.geobox.boundingbox.bbox
    outside = ~((x0 < right) & (x1 > left) & (y0 < top) & (y1 > bottom))
    if outside.all():
        raise not_on_scene(path, read.rows.total_bounds, scene)
    warn_rows(path, outside, f"beside {Path(scene.name).name}, left out")
    return read.rows[~outside]


def not_on_scene(path: str | Path, bounds: np.ndarray, scene: Scene) -> LayerError:
    """Return the error for labels that do not touch their scene; bounds: (4,), in the scene's CRS."""
    labels, whole = (", ".join(f"{v:.8g}" for v in box) for box in (bounds, scene.geobox.boundingbox.bbox))
    return LayerError(
        f"{display_name(path)} has no object on {scene.name}: it spans {labels}, the scene {whole} (left, bottom, "
        f"right, top in {scene.crs}); give each scene the labels drawn on it, in order"
    )


def read_area(path: str | Path, scene: Scene) -> shapely.Geometry:
    """Return the union of a layer of polygons, in the scene's CRS: the area in which every object is drawn.

    Raises:
        LayerError: as `read_on_scene`; or the layer holds something else than polygons.
    """
    layer = read_on_scene(path, scene)
    if not layer.geom_type.isin(POLYGONS).all():
        raise LayerError(f"{display_name(path)} holds {_kinds(layer)}; give the complete area as polygons")
    return layer.union_all()


def read_polygons(
    path: str | Path, scene: Scene, classes: Classes, column: str | None = None, width: str | None = None
) -> gpd.GeoDataFrame:
    """Return labels as polygons with a column `class`, in the scene's CRS; lines are widened.

    Args:
        path: layer of polygons or lines.
        scene: what they were drawn on.
        classes: see `parse_classes`.
        column: where the class stands; not needed for one class.
        width: of lines, in metres, or the name of the column that holds it.

    Raises:
        LayerError: as `read_on_scene`; or the layer holds points, lines without a width, no such column or no class.
        ThemeError: `column` is needed, or `width` is neither a number nor a column.
    """
    layer = read_on_scene(path, scene)
    lines = layer.geom_type.isin(LINES)
    if not (lines | layer.geom_type.isin(POLYGONS)).all():
        raise LayerError(f"{display_name(path)} holds {_kinds(layer)}; give polygons, or lines and --width")
    if lines.any():
        layer.loc[lines, layer.geometry.name] = _widened(layer[lines], width, path).make_valid()
    table = gpd.GeoDataFrame({"class": _classes(layer, classes, column, path)}, geometry=layer.geometry)
    kept = table[table["class"].notna()]
    same = pd.DataFrame({"class": kept["class"], "wkb": kept.normalize().to_wkb()}).duplicated().to_numpy()
    warn_rows(path, same, "exact duplicates of others, left out")
    parts = kept[~same].explode().reset_index(drop=True)
    return parts[parts.geom_type == "Polygon"].reset_index(drop=True)


def burn(geometry: gpd.GeoSeries, grid: GeoBox) -> np.ndarray:
    """Return (H, W) int32 ids by pixel centres, 0 for none; where two polygons overlap, the smaller one wins.

    The ids count the polygons from the largest to the smallest, from 1.
    """
    order = np.argsort(-geometry.area.to_numpy()).tolist()
    pairs = [(geometry.iloc[row], number + 1) for number, row in enumerate(order)]
    if not pairs:
        return np.zeros(grid.shape, np.int32)
    return np.asarray(rasterize(pairs, out_shape=grid.shape, transform=grid.affine, dtype="int32"))


def _kinds(layer: gpd.GeoDataFrame) -> str:
    return ", ".join(sorted(set(layer.geom_type)))


def _widened(lines: gpd.GeoDataFrame, width: str | None, path: str | Path) -> gpd.GeoSeries:
    shown = display_name(path)
    if width is None:
        raise LayerError(f"{shown} holds lines; give their width with --width, in metres or as the name of a column")
    if width in lines:
        metres = pd.to_numeric(lines[width], errors="coerce").to_numpy(float)
    else:
        try:
            metres = np.full(len(lines), float(width))
        except ValueError as error:
            raise ThemeError(f"{shown} has no column {width!r}; give --width in metres or name a column") from error
    if not ((metres > 0) & (metres <= MAX_LINE_WIDTH_M)).all():
        raise ThemeError(
            f"--width {width} gives lines of {shown} a width that is not more than 0 and at most "
            f"{MAX_LINE_WIDTH_M:g} m; correct it"
        )
    metric = lines.geometry.to_crs(lines.estimate_utm_crs())
    return metric.buffer(metres / 2, cap_style="flat").to_crs(lines.crs)


def _classes(layer: gpd.GeoDataFrame, classes: Classes, column: str | None, path: str | Path) -> pd.Series:
    """Return the class of each row, missing where a row has none of those asked for."""
    shown = display_name(path)
    there = ", ".join(c for c in layer.columns if c != layer.geometry.name) or "none"
    if column is None:
        if set(classes.values()) != {None}:
            raise ThemeError(f"--classes needs the column of {shown} that holds them: give --column; it has {there}")
        return pd.Series(next(iter(classes)), index=layer.index, dtype=object)
    if column not in layer or column == layer.geometry.name:
        raise LayerError(f"{shown} has no column {column!r}; it has {there}")
    values = as_typed(layer[column])
    found = values.map({value: name for name, value in classes.items()})
    if found.isna().all():
        held = ", ".join(sorted(set(values.dropna()))[:8]) or "nothing"
        raise LayerError(f"column {column} of {shown} holds {held}; name each class with --classes, e.g. road=2")
    warn_rows(path, values.isna().to_numpy(), f"without a value in column {column}, left out")
    return found.astype(object)

"""Layers to compare, from any vector file: read, repaired, and said what was repaired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS

from hybridseg.errors import EvaluateError
from hybridseg.evaluate.align.metric import horizontal, to_crs
from hybridseg.evaluate.align.rasters import is_missing, is_raster
from hybridseg.evaluate.measure.objects import repaired

Vectors: TypeAlias = str | Path | gpd.GeoDataFrame
Kind: TypeAlias = Literal["polygons", "lines"]

CLASS_COLUMNS = ("class", "label")
SCORE_COLUMNS = ("score", "confidence")
UNNAMED = "unnamed"
"""Class of a row whose class is missing."""

_DIMENSION: dict[Kind, int] = {"polygons": 2, "lines": 1}
_HOLDS = {-1: "no geometry", 0: "points", 1: "lines", 2: "polygons"}
_PARQUET = (".parquet", ".geoparquet")
_COLLECTION = 7
_MANY_CLASSES = 100
_NAMED_ROWS = 5


@dataclass(frozen=True)
class Features:
    """Objects of one side.

    name: what messages call them.
    geometry: (n,) valid (Multi)Polygons or (Multi)LineStrings, none empty.
    classes: (n,) str, or None where the layer has no classes.
    scores: (n,) float64, or None where it has none.
    rows: (n,) int, the position of each in its file.
    crs: of `geometry`; None only for a layer without any.
    warnings: one line for each thing that was repaired or left out.
    """

    name: str
    geometry: np.ndarray
    classes: np.ndarray | None
    scores: np.ndarray | None
    rows: np.ndarray
    crs: CRS | None
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.geometry)

    def where(self, chosen: np.ndarray) -> Features:
        """Only the objects chosen by a mask or by positions."""
        classes = None if self.classes is None else self.classes[chosen]
        scores = None if self.scores is None else self.scores[chosen]
        return replace(self, geometry=self.geometry[chosen], classes=classes, scores=scores, rows=self.rows[chosen])

    def to(self, crs: CRS) -> Features:
        """The same objects in another CRS; those that have no place in it, as they are far away, are left out."""
        if self.crs is None or self.crs == crs:
            return replace(self, crs=crs)
        moved = replace(self, geometry=to_crs(self.geometry, self.crs, crs), crs=crs)
        there = np.isfinite(shapely.bounds(moved.geometry)).all(axis=1)
        if there.all():
            return moved
        return replace(
            moved.where(there), warnings=(*self.warnings, f"{self.name}: {_rows(~there)} too far away, left out")
        )


def read_table(source: Vectors, role: str) -> tuple[gpd.GeoDataFrame, str, tuple[str, ...]]:
    """A vector file as it is: (rows, name for messages, warnings).

    Args:
        source: GeoParquet (.parquet, .geoparquet), any file that GDAL reads as vectors, or a GeoDataFrame.
        role: what messages call a layer without a file.

    Raises:
        EvaluateError: there is no such file, or no geometry in it.
    """
    if isinstance(source, gpd.GeoDataFrame):
        return source, role, ()
    path = Path(source)
    if is_missing(source):
        raise EvaluateError(f"{path} does not exist; give the path of a vector file")
    if is_raster(source):
        raise EvaluateError(f"{path} is a raster, which can only be the reference; give a vector file as {role}")
    try:
        if path.suffix.lower() in _PARQUET:
            return gpd.read_parquet(path), path.name, ()
        layer, warnings = _choose_layer(source, path.name)
        return gpd.read_file(source, layer=layer, engine="pyogrio"), path.name, warnings
    except (DataSourceError, DataLayerError, ValueError, OSError) as error:
        raise EvaluateError(
            f"{path} is not a vector file with geometry; give a GeoPackage, GeoParquet, GeoJSON, FlatGeobuf or similar"
        ) from error


def _choose_layer(source: str | Path, name: str) -> tuple[str, tuple[str, ...]]:
    """The layer to read: the first with rows, of those that have geometry (styles are layers without)."""
    layers = [layer for layer, geometry in pyogrio.list_layers(source) if geometry is not None]
    if not layers:
        raise DataLayerError("no layer with geometry")
    if len(layers) == 1:
        return str(layers[0]), ()
    full = (layer for layer in layers if pyogrio.read_info(source, layer=layer, force_feature_count=True)["features"])
    chosen = next(full, layers[0])
    others = ", ".join(layer for layer in layers if layer != chosen)
    return str(chosen), (f"{name} has {len(layers)} layers: '{chosen}', the first with rows, is read, {others} not",)


def check_column(column: str | None, tables: Mapping[str, gpd.GeoDataFrame]) -> None:
    """Refuse a class column that none of the layers has.

    Raises:
        EvaluateError: so it is; the message names the columns there are.
    """
    if column is None or any(_column(table, [column]) is not None for table in tables.values()):
        return
    there = "; ".join(f"{name} has {', '.join(_attributes(table)) or 'none'}" for name, table in tables.items())
    raise EvaluateError(f"no column '{column}' that could hold classes: {there}")


def kind_of(table: gpd.GeoDataFrame, name: str) -> Kind:
    """Whether a layer is one of polygons or of lines, by what most of its rows are.

    Raises:
        EvaluateError: it has neither.
    """
    dimension = shapely.get_dimensions(table.geometry.to_numpy())
    polygons, lines = int((dimension == 2).sum()), int((dimension == 1).sum())
    if polygons + lines == 0:
        raise EvaluateError(f"{name} holds neither polygons nor lines; give a reference with objects in it")
    return "polygons" if polygons >= lines else "lines"


def features(
    table: gpd.GeoDataFrame,
    name: str,
    kind: Kind,
    label_column: str | None = None,
    rename: Mapping[str, str] | None = None,
    said: tuple[str, ...] = (),
) -> Features:
    """The objects of a layer, made fit for comparison.

    Geometries lose their heights; missing and empty ones, and parts of another kind than asked for, are left out;
    invalid ones are repaired. Each of these is a warning in the result.

    Args:
        table: any layer.
        name: what messages call it.
        kind: what to keep.
        label_column: holds the classes; default: `class` or `label`, whichever is there.
        rename: classes to be called otherwise.
        said: warnings from reading it.

    Raises:
        EvaluateError: the layer has no CRS, or nothing of that kind.
    """
    if table.crs is None and len(table):
        raise EvaluateError(f"{name} has no CRS; assign the one its coordinates are in, e.g. ogr2ogr -a_srs EPSG:32633")
    crs = None if table.crs is None else CRS.from_user_input(table.crs)
    geometry, rows, warnings = _sorted_out(table.geometry.to_numpy(), name, kind)
    if len(table) and not len(rows):
        held = _HOLDS[shapely.get_dimensions(table.geometry.to_numpy()).max()]
        raise EvaluateError(f"{name} holds {held}, no {kind} of any size; give a layer of {kind}")
    classes, class_warnings = classes_of(table, name, label_column, rename or {})
    scores, score_warnings = _scores(table, name)
    classes, scores = (None if values is None else values[rows] for values in (classes, scores))
    warnings += class_warnings + score_warnings
    if kind == "polygons":  # of lines doubles count once
        warnings += _doubles(geometry, classes, name)
    everything = Features(name, geometry, classes, scores, rows, crs, (*said, *warnings))
    return everything if crs is None else everything.to(horizontal(crs))


def _sorted_out(geometry: np.ndarray, name: str, kind: Kind) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(valid geometries of one kind, their rows, what was done to get them)."""
    warnings = []
    geometry = shapely.force_2d(np.array(geometry, dtype=object))
    there = ~(shapely.is_missing(geometry) | shapely.is_empty(geometry))
    if not there.all():
        warnings.append(f"{name}: {_rows(~there)} without geometry left out")

    invalid = there & ~shapely.is_valid(geometry)
    if invalid.any():
        reason = shapely.is_valid_reason(geometry[invalid][0]).split("[")[0].lower()
        geometry[invalid] = repaired(geometry[invalid])
        warnings.append(f"{name}: {_rows(invalid)} invalid, repaired (the first: {reason})")

    mixed = there & (shapely.get_type_id(geometry) == _COLLECTION)
    geometry[mixed] = [_of_kind(one, kind) for one in geometry[mixed]]
    fits = there & (shapely.get_dimensions(geometry) == _DIMENSION[kind]) & ~shapely.is_empty(geometry)
    size = shapely.area(geometry) if kind == "polygons" else shapely.length(geometry)
    fits &= np.nan_to_num(size) > 0
    if (there & ~fits).any():
        warnings.append(f"{name}: {_rows(there & ~fits)} not {kind} of any size, left out")
    return geometry[fits], np.flatnonzero(fits), warnings


def _of_kind(collection: shapely.Geometry, kind: Kind) -> shapely.Geometry:
    """The polygons, or the lines, of a collection as one."""
    parts = shapely.get_parts([collection])
    while (shapely.get_type_id(parts) >= 4).any():  # multi-parts and collections within
        parts = shapely.get_parts(parts)
    return shapely.union_all(parts[shapely.get_dimensions(parts) == _DIMENSION[kind]])


def classes_of(
    table: gpd.GeoDataFrame, name: str, label_column: str | None, rename: Mapping[str, str]
) -> tuple[np.ndarray | None, list[str]]:
    """(class of each row as text, or None where the layer has none; warnings)."""
    column = _column(table, (label_column, *CLASS_COLUMNS) if label_column else CLASS_COLUMNS)
    if column is None:
        return None, []
    values = table[column]
    if column != label_column and values.nunique() > _MANY_CLASSES:
        return None, [f"{name}: column '{column}' has {values.nunique()} values, taken for numbers and not for classes"]
    names = np.array([_name(value) for value in values], dtype=object)
    missing = names == UNNAMED
    warnings = [f"{name}: {_rows(missing)} without a class, called '{UNNAMED}'"] if missing.any() else []
    return np.array([rename.get(value, value) for value in names], dtype=object), warnings


def _attributes(table: gpd.GeoDataFrame) -> list[str]:
    """Names of all columns but the geometry."""
    return [str(column) for column in table.columns if column != table.geometry.name]


def _column(table: gpd.GeoDataFrame, wanted: Sequence[str]) -> str | None:
    """The first of the names that a column has, whatever the case of its letters, or None."""
    there = _attributes(table)
    folded = {column.casefold(): column for column in reversed(there)}
    found = (name if name in there else folded.get(name.casefold()) for name in wanted)
    return next((column for column in found if column is not None), None)


def _doubles(geometry: np.ndarray, classes: np.ndarray | None, name: str) -> list[str]:
    """A warning of objects that are there more than once."""
    doubles = pd.DataFrame({"shape": shapely.to_wkb(geometry), "class": classes}).duplicated().sum()
    return [f"{name}: {doubles} rows repeat another one's shape and class; each counts"] if doubles else []


def class_text(value: object) -> str:
    """A class as one types it; 3 and 3.0 are one."""
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value)


def _name(value: object) -> str:
    return UNNAMED if pd.isna(value) or value == "" else class_text(value)


def _scores(table: gpd.GeoDataFrame, name: str) -> tuple[np.ndarray | None, list[str]]:
    column = _column(table, SCORE_COLUMNS)
    if column is None:
        return None, []
    scores = pd.to_numeric(table[column], errors="coerce").to_numpy(float, na_value=np.nan)
    missing = ~np.isfinite(scores)
    if missing.all():
        return None, [f"{name}: column {column} is empty"] if len(table) else []
    if missing.any():
        return np.where(missing, scores[~missing].min(), scores), [
            f"{name}: {_rows(missing)} without a score, given the lowest"
        ]
    return scores, []


def _rows(chosen: np.ndarray) -> str:
    """'2 of 30 rows (4, 7)', for warnings; rows count from 0."""
    found = np.flatnonzero(chosen)
    some = ", ".join(map(str, found[:_NAMED_ROWS])) + (", …" if len(found) > _NAMED_ROWS else "")
    return f"{len(found)} of {len(chosen)} rows ({some})"

"""Objects of a vector layer, made fit for comparison; each thing left out is a warning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyproj import CRS

from hybridseg.errors import EvaluateError
from hybridseg.evaluation.area import Region, plane_crs, to_crs
from hybridseg.evaluation.rasters import is_raster
from hybridseg.labels.codes import class_text
from hybridseg.metrics.touching import groups_touching, united
from hybridseg.read.vectors import LayerRead, Vectors, count_rows, read_layer

Kind: TypeAlias = Literal["polygons", "lines"]
Touching: TypeAlias = Literal["apart", "joined"]

CLASS_COLUMNS = ("class", "label")
SCORE_COLUMNS = ("score", "confidence")
UNNAMED = "unnamed"
"""Class of a row whose class is missing."""

_DIMENSION: dict[Kind, int] = {"polygons": 2, "lines": 1}
_HOLDS = {-1: "no geometry", 0: "points", 1: "lines", 2: "polygons"}
_COLLECTION = 7
_MOST_CLASSES = 100


@dataclass(frozen=True)
class Objects:
    """Objects of one layer.

    Attributes:
        name: what messages call the layer.
        geometry: (n,) valid (Multi)Polygons or (Multi)LineStrings, none empty.
        classes: (n,) str, or None where the layer has no classes.
        scores: (n,) float64, or None where it has none.
        rows: (n,) int, the position of each in its file.
        crs: of `geometry`; None only for a layer without rows.
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

    @property
    def region(self) -> Region:
        """Bounding box of a layer that has objects."""
        assert self.crs is not None
        return Region.around(self.geometry, self.crs, self.name)

    def where(self, chosen: np.ndarray) -> Objects:
        """Return only the objects chosen by a mask or by positions."""
        classes = None if self.classes is None else self.classes[chosen]
        scores = None if self.scores is None else self.scores[chosen]
        return replace(self, geometry=self.geometry[chosen], classes=classes, scores=scores, rows=self.rows[chosen])

    def joined(self) -> Objects:
        """Return the objects with those of one class that touch as one: the highest score, the row of the first."""
        groups = groups_touching(self.geometry, self.classes)
        first = np.unique(groups, return_index=True)[1]
        one = replace(self.where(first), geometry=united(self.geometry, groups))
        if self.scores is None:
            return one
        best = np.full(len(first), -np.inf)
        np.maximum.at(best, groups, self.scores)
        return replace(one, scores=best)

    def to(self, crs: CRS) -> Objects:
        """Return the objects in another CRS, without those too far away to have coordinates in it."""
        if self.crs is None or self.crs == crs:
            return replace(self, crs=crs)
        moved = replace(self, geometry=to_crs(self.geometry, self.crs, crs), crs=crs)
        there = np.isfinite(shapely.bounds(moved.geometry)).all(axis=1)
        if there.all():
            return moved
        return replace(
            moved.where(there), warnings=(*self.warnings, f"{self.name}: {count_rows(~there)} too far away, left out")
        )


def open_layer(source: Vectors, role: str) -> LayerRead:
    """Read a vector layer, which may be empty.

    Args:
        source: any that `read_layer` reads.
        role: what messages call it, such as "the prediction", where it is no file.

    Raises:
        EvaluateError: it is a raster.
        LayerError: it cannot be read.
    """
    if is_raster(source):
        raise EvaluateError(f"{source} is a raster, which can only be the reference; give a vector file as {role}")
    return read_layer(source, name=role if isinstance(source, gpd.GeoDataFrame) else None, empty_ok=True)


def read_region(source: Vectors, role: str) -> Region:
    """Read the polygons of a vector layer as a region.

    Args:
        source: the layer.
        role: what messages call it, such as "the AOI".

    Raises:
        EvaluateError: it has no polygons.
        LayerError: it cannot be read.
    """
    layer = open_layer(source, role)
    name = role if layer.name == role else f"{role} ({layer.name})"
    found = objects_of(replace(layer, name=name), "polygons")
    if found.crs is None or not len(found):
        raise EvaluateError(f"{name} is empty; give a layer with polygons, or leave it out")
    return Region(name, found.geometry, found.crs)


def check_column(column: str | None, layers: Sequence[LayerRead]) -> None:
    """Refuse a class column that no layer has.

    Args:
        column: its name, or None for the default.
        layers: those to look at.

    Raises:
        EvaluateError: none has it; the message names the columns there are.
    """
    if column is None or any(_column(layer.rows, [column]) is not None for layer in layers):
        return
    there = "; ".join(f"{one.name} has {', '.join(_attributes(one.rows)) or 'none'}" for one in layers)
    raise EvaluateError(f"no column '{column}' that could hold classes: {there}")


def kind_of(layer: LayerRead) -> Kind:
    """Return whether most rows of a layer are polygons or lines.

    Raises:
        EvaluateError: it has neither.
    """
    dimension = shapely.get_dimensions(layer.rows.geometry.to_numpy())
    polygons, lines = int((dimension == 2).sum()), int((dimension == 1).sum())
    if polygons + lines == 0:
        raise EvaluateError(f"{layer.name} holds neither polygons nor lines; give a reference with objects in it")
    return "polygons" if polygons >= lines else "lines"


def objects_of(
    layer: LayerRead,
    kind: Kind,
    label_column: str | None = None,
    rename: Mapping[str, str] | None = None,
    touching: Touching = "apart",
) -> Objects:
    """Return the objects of a layer, made fit for comparison.

    Parts of another kind than asked for and geometries without any size are left out. Each of these, and what was
    noted when the layer was read, is a warning in the result.

    Args:
        layer: any layer.
        kind: what to keep.
        label_column: column that holds the classes; default: `class` or `label`, whichever there is.
        rename: new names of classes.
        touching: whether polygons of one class that touch become one.

    Raises:
        EvaluateError: the layer has rows, but none of that kind; or lines are to be joined.
    """
    if touching == "joined" and kind == "lines":
        raise EvaluateError("--touching joined came with lines, which are compared as one network; leave it out")
    name, rows = layer.name, layer.rows
    geometry, fits = _of_kind(rows.geometry.to_numpy(), kind)
    if len(rows) + layer.dropped and not fits.any():
        held = _HOLDS[max(shapely.get_dimensions(rows.geometry.to_numpy()), default=-1)]
        raise EvaluateError(f"{name} holds {held}, no {kind} of any size; give a layer of {kind}")
    warnings = [] if fits.all() else [f"{name}: {_count(layer, ~fits)} not {kind} of any size, left out"]
    classes, class_warnings = classes_of(layer, label_column, rename or {})
    scores, score_warnings = _scores(layer)
    warnings += class_warnings + score_warnings
    if kind == "polygons":  # lines that repeat others count once
        warnings += _duplicates(geometry[fits], None if classes is None else classes[fits], name)
    crs = None if rows.crs is None else plane_crs(CRS.from_user_input(rows.crs))
    positions = rows.index.to_numpy()
    found = Objects(name, geometry, classes, scores, positions, crs, (*layer.notes, *warnings)).where(fits)
    return found.joined() if touching == "joined" else found


def classes_of(
    layer: LayerRead, label_column: str | None, rename: Mapping[str, str]
) -> tuple[np.ndarray | None, list[str]]:
    """Return (class of each row as text, or None where the layer has no classes; warnings)."""
    name = layer.name
    column = _column(layer.rows, (label_column, *CLASS_COLUMNS) if label_column else CLASS_COLUMNS)
    if column is None:
        return None, []
    values = layer.rows[column]
    if column != label_column and values.nunique() > _MOST_CLASSES:
        return None, [f"{name}: column '{column}' has {values.nunique()} values, taken for numbers and not for classes"]
    names = np.array([UNNAMED if pd.isna(v) or v == "" else class_text(v) for v in values], dtype=object)
    missing = names == UNNAMED
    warnings = [f"{name}: {_count(layer, missing)} without a class, called '{UNNAMED}'"] if missing.any() else []
    return np.array([rename.get(value, value) for value in names], dtype=object), warnings


def _of_kind(geometry: np.ndarray, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """Return the geometries (n,), of collections only the parts of a kind, and which of them have a size, (n,) bool."""
    geometry = geometry.copy()
    mixed = shapely.get_type_id(geometry) == _COLLECTION
    geometry[mixed] = [_parts_of_kind(one, kind) for one in geometry[mixed]]
    with np.errstate(over="ignore"):  # a damaged file may hold coordinates of 1e300; their place is refused later
        size = shapely.area(geometry) if kind == "polygons" else shapely.length(geometry)
    return geometry, (shapely.get_dimensions(geometry) == _DIMENSION[kind]) & (size > 0)


def _parts_of_kind(collection: shapely.Geometry, kind: Kind) -> shapely.Geometry:
    """Return the polygons, or the lines, of a collection as one geometry."""
    parts = shapely.get_parts([collection])
    while (shapely.get_type_id(parts) >= 4).any():  # multi-parts and collections within
        parts = shapely.get_parts(parts)
    return shapely.union_all(parts[shapely.get_dimensions(parts) == _DIMENSION[kind]])


def _attributes(rows: gpd.GeoDataFrame) -> list[str]:
    """Return the names of all columns but the geometry."""
    return [str(column) for column in rows.columns if column != rows.geometry.name]


def _column(rows: gpd.GeoDataFrame, wanted: Sequence[str]) -> str | None:
    """Return the first of the wanted columns that there is, upper and lower case alike, or None."""
    there = _attributes(rows)
    folded = {column.casefold(): column for column in reversed(there)}
    found = (name if name in there else folded.get(name.casefold()) for name in wanted)
    return next((column for column in found if column is not None), None)


def _scores(layer: LayerRead) -> tuple[np.ndarray | None, list[str]]:
    """Return (score of each row, or None where the layer has none; warnings)."""
    column = _column(layer.rows, SCORE_COLUMNS)
    if column is None:
        return None, []
    scores = pd.to_numeric(layer.rows[column], errors="coerce").to_numpy(float, na_value=np.nan)
    missing = ~np.isfinite(scores)
    if missing.all():
        return None, [f"{layer.name}: column {column} is empty"] if len(scores) else []
    if not missing.any():
        return scores, []
    warning = f"{layer.name}: {_count(layer, missing)} without a score, given the lowest"
    return np.where(missing, scores[~missing].min(), scores), [warning]


def _duplicates(geometry: np.ndarray, classes: np.ndarray | None, name: str) -> list[str]:
    """Return a warning where objects occur more than once."""
    number = pd.DataFrame({"shape": shapely.to_wkb(geometry), "class": classes}).duplicated().sum()
    return [f"{name}: {number} rows repeat another one's shape and class; each counts"] if number else []


def _count(layer: LayerRead, chosen: np.ndarray) -> str:
    """Return '2 of 30 rows (4, 7)' for warnings, from a mask on the rows that were read; rows count as in the file."""
    in_file = np.zeros(len(layer.rows) + layer.dropped, bool)
    in_file[layer.rows.index[chosen]] = True
    return count_rows(in_file)

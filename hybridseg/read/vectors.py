"""The one reader of vector layers: labels, references, areas and prompts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

import geopandas as gpd
import numpy as np
import pyogrio
import rasterio
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError, ProjError
from rasterio.errors import RasterioIOError

from hybridseg.errors import LayerError
from hybridseg.read.paths import display_name, is_virtual, problem

Vectors: TypeAlias = str | Path | gpd.GeoDataFrame
T = TypeVar("T")

IDS = ("track_id", "id", "osm_id", "@id", "full_id", "osm_way_id", "fid")
"""Columns that name an object, the first that a layer has."""
_PARQUET = (".parquet", ".geoparquet")
_NAMED_ROWS = 5
_FORMATS = "a GeoPackage, GeoParquet, GeoJSON, FlatGeobuf or Shapefile (zipped or not)"


@dataclass(frozen=True)
class LayerRead:
    """A vector layer, ready to use."""

    rows: gpd.GeoDataFrame
    """Valid 2-D geometries, none empty. The index is each row's position in the layer, from 0."""
    name: str
    """What messages call the layer: the file's name, or what the caller said."""
    dropped: int = 0
    """Rows left out: no geometry, an empty one, one that cannot be repaired, or with no place in the CRS asked for."""
    notes: tuple[str, ...] = ()
    """One line for each thing that a user should be told: layers not read, rows dropped or repaired."""


def read_layer(
    source: Vectors,
    columns: Sequence[str] | None = None,
    *,
    crs: object = None,
    name: str | None = None,
    polygons: bool = False,
    empty_ok: bool = False,
) -> LayerRead:
    """Read a vector layer, and repair it.

    Args:
        source: path or URL of anything that GDAL reads as vectors, GeoParquet (.parquet, .geoparquet), or a
            GeoDataFrame. Of several layers the first that has rows and geometry is read (the styles that QGIS puts in
            a GeoPackage have no geometry); a note names the others.
        columns: attributes to read; default: all. Geometry is always read.
        crs: to bring the rows to, anything that pyproj takes; default: the layer's own.
        name: what messages call it; default: the file's name.
        polygons: whether a layer that holds anything else is refused.
        empty_ok: whether a layer without rows is returned (a map may have found nothing) or refused.

    Raises:
        LayerError: there is no such file or column; it is damaged, or no vector file; it has no geometry, no
            CRS, geometry of another kind, or, unless `empty_ok`, no row that can be used.
    """
    if not isinstance(source, gpd.GeoDataFrame | str | Path):
        raise LayerError(f"a {type(source).__name__} is no vector layer; give a path or a GeoDataFrame")
    name = name or ("the layer" if isinstance(source, gpd.GeoDataFrame) else display_name(Path(source).name))
    notes: tuple[str, ...] = ()
    if isinstance(source, gpd.GeoDataFrame):
        table = source
    else:
        table, notes = _read(source, columns)
    table = _with_columns(table, columns, name).reset_index(drop=True)
    if not len(table) and not empty_ok:
        raise LayerError(f"{name} has no rows; give a layer that has")
    if table.crs is None and len(table):
        raise LayerError(f"{name} has no CRS; assign the one its coordinates are in, e.g. ogr2ogr -a_srs EPSG:32633")
    rows, dropped, said = _cleaned(table, name)
    kinds = set(rows.geom_type)
    if polygons and kinds - {"Polygon", "MultiPolygon"}:
        raise LayerError(f"{name} holds {', '.join(sorted(kinds))}; give a layer of polygons")
    if crs is not None:
        rows, away, more = _moved(rows, crs, name)
        dropped, said = dropped + away, (*said, *more)
    if not len(rows) and not empty_ok:
        raise LayerError(f"{said[-1] if said else name}: none is left; give a layer with geometries")
    return LayerRead(rows, name, dropped, (*notes, *said))


def id_column(rows: gpd.GeoDataFrame) -> str | None:
    """Return the column that names a layer's objects; None where it has none."""
    return next((name for name in IDS if name in rows), None)


def count_rows(chosen: np.ndarray) -> str:
    """Return '2 of 30 rows (4, 7)' for messages; rows count from 0.

    Args:
        chosen: (n,) bool, one for each row of the layer.
    """
    found = np.flatnonzero(chosen)
    some = ", ".join(map(str, found[:_NAMED_ROWS])) + (", …" if len(found) > _NAMED_ROWS else "")
    return f"{len(found)} of {len(chosen)} rows ({some})"


def repair(geometries: np.ndarray) -> np.ndarray:
    """Return (n,) valid geometries that cover the same ground; what collapses to a line or point is lost."""
    array = np.array(geometries, dtype=object)
    invalid = ~shapely.is_valid(array) & ~shapely.is_missing(array)
    array[invalid] = shapely.make_valid(array[invalid], method="structure", keep_collapsed=False)
    return array


def _read(source: str | Path, columns: Sequence[str] | None) -> tuple[gpd.GeoDataFrame, tuple[str, ...]]:
    """A file's layer as it is, and notes."""
    path, shown = Path(source), display_name(source)
    wrong = problem(source)
    if wrong:
        raise LayerError(f"{shown} {wrong}; give the path of {_FORMATS}")
    if path.suffix.lower() in _PARQUET and not is_virtual(source):
        return _guarded(lambda: gpd.read_parquet(path), shown, source), ()
    chosen, others = _guarded(lambda: _choose_layer(source, shown), shown, source)
    if columns is not None:
        fields = _guarded(lambda: pyogrio.read_info(source, layer=chosen)["fields"].tolist(), shown, source)
        _check_columns(columns, fields, display_name(path.name))
    table = _guarded(lambda: pyogrio.read_dataframe(source, layer=chosen, columns=columns), shown, source)
    note = f"{display_name(path.name)} has {len(others) + 1} layers: '{chosen}' is read, {', '.join(others)} not"
    return table, (note,) if others else ()


def _guarded(read: Callable[[], T], shown: str, source: str | Path) -> T:
    """Call a reader; whatever a damaged file makes it raise becomes one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # GDAL repeats what `_cleaned` counts
            return read()
    except (LayerError, MemoryError):
        raise
    except Exception as error:  # flipped bits make pyogrio, pyarrow, shapely, pyproj and json raise errors of all kinds
        if "not recognized" in str(error) and _is_raster(source):
            raise LayerError(f"{shown} is a raster; give {_FORMATS}") from error
        words = display_name(str(error).strip().split("\n")[0] or type(error).__name__)
        raise LayerError(f"{shown} cannot be read as vectors ({words}); give {_FORMATS}") from error


def _is_raster(source: str | Path) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with rasterio.open(source) as dataset:
                return bool(dataset.count)
    except RasterioIOError:
        return False


def _choose_layer(source: str | Path, shown: str) -> tuple[str, list[str]]:
    """(name of the layer to read, names of the others that could be meant: points stand for no lines or polygons)."""
    kinds = {str(layer): str(geometry) for layer, geometry in pyogrio.list_layers(source) if geometry is not None}
    layers = list(kinds)
    if not layers:
        raise LayerError(f"{shown} has no layer with geometry; give {_FORMATS}")
    chosen = layers[0]
    if len(layers) > 1:
        full = (one for one in layers if pyogrio.read_info(source, layer=one, force_feature_count=True)["features"])
        chosen = next(full, layers[0])
    points = {one for one in layers if "Point" in kinds[one]}
    return chosen, [one for one in layers if one != chosen and (one in points) <= (chosen in points)]


def _with_columns(table: gpd.GeoDataFrame, columns: Sequence[str] | None, name: str) -> gpd.GeoDataFrame:
    """The columns asked for and the geometry."""
    if not isinstance(table, gpd.GeoDataFrame) or table.active_geometry_name is None:
        raise LayerError(f"{name} is a table without geometry; give {_FORMATS}")
    if columns is None:
        return table
    _check_columns(columns, table.columns.drop(table.active_geometry_name).tolist(), name)
    return table[list(dict.fromkeys([*columns, table.active_geometry_name]))]


def _check_columns(wanted: Sequence[str], there: Sequence[object], name: str) -> None:
    missing = [column for column in wanted if column not in there]
    if missing:
        raise LayerError(f"{name} has no column '{missing[0]}'; it has {', '.join(map(str, there)) or 'none'}")


def _cleaned(table: gpd.GeoDataFrame, name: str) -> tuple[gpd.GeoDataFrame, int, tuple[str, ...]]:
    """(rows with valid geometry, number dropped, notes)."""
    geometry = shapely.force_2d(np.array(table.geometry.to_numpy(), dtype=object))
    notes: list[str] = []
    there = ~(shapely.is_missing(geometry) | shapely.is_empty(geometry))
    if not there.all():
        notes.append(f"{name}: {count_rows(~there)} without geometry left out")
    infinite = there & ~_finite(geometry)
    if infinite.any():
        notes.append(f"{name}: {count_rows(infinite)} with coordinates that are not numbers left out")
    there &= ~infinite
    invalid = there & ~shapely.is_valid(geometry)
    if invalid.any():
        reason = shapely.is_valid_reason(geometry[invalid][0]).split("[")[0].lower()
        geometry[invalid] = repair(geometry[invalid])
        notes.append(f"{name}: {count_rows(invalid)} invalid, repaired (the first: {reason})")
    collapsed = invalid & shapely.is_empty(geometry)
    if collapsed.any():
        notes.append(f"{name}: {count_rows(collapsed)} without any area, left out")
    there &= ~collapsed
    rows = table.set_geometry(gpd.GeoSeries(geometry, table.index, table.crs))[there]
    return rows, int((~there).sum()), tuple(notes)


def _finite(geometry: np.ndarray) -> np.ndarray:
    """(n,) bool: all coordinates are numbers."""
    coordinates, owner = shapely.get_coordinates(geometry, return_index=True)
    finite = np.ones(len(geometry), np.bool_)
    finite[owner[~np.isfinite(coordinates).all(axis=1)]] = False
    return finite


def _moved(rows: gpd.GeoDataFrame, crs: object, name: str) -> tuple[gpd.GeoDataFrame, int, tuple[str, ...]]:
    """(rows in another CRS, number of those that have no place in it, notes)."""
    try:
        target = CRS.from_user_input(crs)
        if rows.crs is None:
            return rows.set_crs(target), 0, ()
        if target.equals(rows.crs):
            return rows, 0, ()
        moved = rows.to_crs(target)
    except (CRSError, ProjError) as error:
        raise LayerError(f"{name} cannot be brought from {_crs_name(rows.crs)} to {_crs_name(crs)}") from error
    there = _finite(moved.geometry.to_numpy())
    notes = () if there.all() else (f"{name}: {count_rows(~there)} too far away, left out",)
    return moved[there], int((~there).sum()), notes


def _crs_name(crs: object) -> str:
    try:
        return CRS.from_user_input(crs).name
    except CRSError:
        return display_name(str(crs))

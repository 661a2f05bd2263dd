"""The formats of results, one table for polygons, lines and nodes; see `result` for how it is used.

| suffix   | format                                               | provenance              | meaning of columns |
|----------|------------------------------------------------------|-------------------------|--------------------|
| .gpkg    | GeoPackage, styled for QGIS; lines with their nodes  | layer and QGIS metadata | gpkg_data_columns  |
| .parquet | GeoParquet 1.1, Hilbert-sorted, bbox column          | schema metadata         | field metadata     |
| .fgb     | FlatGeobuf with spatial index                        | layer metadata          | column headers     |
| .geojson | RFC 7946: WGS84, 7 decimals, cut at the antimeridian | member "hybridseg"      | member "columns"   |

Title and description stand where each format has a place for them. GeoPackage and FlatGeobuf hold polygons as
MultiPolygon, so that a layer is of one type.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely

from hybridseg.errors import OutputError
from hybridseg.rowfile import as_parquet, in_batches
from hybridseg.types import METADATA_KEY
from hybridseg.write.geopackage import GPKG_VERSION, add_metadata, add_styles, check_index
from hybridseg.write.lineage import COLUMNS, abstract, qgis_metadata
from hybridseg.write.style import Kind, qml

_ROWS = 25_000
"""Rows on their way to or from a file at once, so that memory does not grow with the layer; and of a Parquet row group:
small enough that a bbox query skips most of a large file."""

DECIMALS = 7
"""Of degrees in GeoJSON: a centimetre."""


@dataclass(frozen=True)
class Layer:
    """A table with geometries on its way to a file.

    name: of the layer; frame: its rows; kind: what its geometries are; title: a line for people; style: its QML, by
    default a colour a class.
    """

    name: str
    frame: gpd.GeoDataFrame
    kind: Kind
    title: str
    style: str | None = None


def _explained(schema: pa.Schema) -> pa.Schema:
    """The schema with the meaning of each column, under the key that GDAL reads and writes."""
    for number, name in enumerate(schema.names):
        if name in COLUMNS:
            field = schema.field(number)
            meaning = {b"GDAL:OGR:comment": COLUMNS[name].encode()}
            schema = schema.set(number, field.with_metadata({**(field.metadata or {}), **meaning}))
    return schema


def _write_ogr(layer: Layer, path: Path, driver: str, **options: Any) -> None:
    geometry_type, multi = ("Unknown", False) if driver == "GeoJSON" else _one_type(layer)
    crs = layer.frame.crs
    epsg = crs.to_epsg()

    def table(rows: gpd.GeoDataFrame) -> pa.Table:
        rows = _to_multi(rows, layer.kind) if multi else rows
        return pa.table(rows.to_arrow(index=False, geometry_encoding="WKB"))

    schema, tables = _tables(layer.frame, table)
    pyogrio.write_arrow(
        pa.RecordBatchReader.from_batches(schema, (batch for part in tables for batch in part.to_batches())),
        path,
        layer=layer.name,
        driver=driver,
        geometry_name="geometry",
        geometry_type=geometry_type,
        crs=f"EPSG:{epsg}" if epsg else crs.to_wkt(),
        **options,
    )


def _tables(
    frame: gpd.GeoDataFrame, table: Callable[[gpd.GeoDataFrame], pa.Table]
) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """The rows as tables of one schema, `_ROWS` at a time, each made when it is asked for; an empty frame has one."""
    schema = table(frame.iloc[:_ROWS]).schema
    for field in pa.Schema.from_pandas(frame.drop(columns=frame.geometry.name), preserve_index=False):
        number = schema.get_field_index(field.name)  # what the first rows lack has no type there
        schema = schema.set(number, schema.field(number).with_type(field.type))
    schema = _explained(schema)
    starts = range(0, max(1, len(frame)), _ROWS)
    return schema, (table(frame.iloc[start : start + _ROWS]).cast(schema) for start in starts)


def _one_type(layer: Layer) -> tuple[str, bool]:
    """Name of the one type of a layer, and whether its geometries must be brought to it.

    QGIS shows a layer of two types as two.
    """
    single = {"polygons": "Polygon", "lines": "LineString", "nodes": "Point"}[layer.kind]
    if layer.kind != "polygons" and not layer.frame.geom_type.str.startswith("Multi").any():
        return single, False
    return f"Multi{single}", True


def _to_multi(rows: gpd.GeoDataFrame, kind: Kind) -> gpd.GeoDataFrame:
    """The rows with collections where there are single polygons or lines."""
    geometries = rows.geometry.to_numpy().copy()
    to_multi, single = (shapely.multipolygons, 3) if kind == "polygons" else (shapely.multilinestrings, 1)
    alone = shapely.get_type_id(geometries) == single
    geometries[alone] = to_multi(geometries[alone], indices=np.arange(alone.sum()))
    return rows.set_geometry(gpd.GeoSeries(geometries, rows.index, crs=rows.crs))


def _write_gpkg(layers: Sequence[Layer], path: Path, provenance: Mapping[str, Any]) -> None:
    for layer in layers:
        names = {"IDENTIFIER": layer.title, "DESCRIPTION": abstract(provenance)}
        metadata = {METADATA_KEY: json.dumps(provenance)}
        _write_ogr(layer, path, "GPKG", layer_metadata=metadata, SPATIAL_INDEX="YES", VERSION=GPKG_VERSION, **names)
    styles, documents = {}, {}
    for layer in layers:
        classes = sorted(layer.frame["class"].unique()) if "class" in layer.frame else []
        styles[layer.name] = layer.style or qml(classes, layer.kind)
        documents[layer.name] = qgis_metadata(provenance, layer.title, layer.frame.crs.to_wkt(), list(layer.frame))
    add_styles(path, styles, METADATA_KEY)
    add_metadata(path, documents)
    filled = {layer.name: layer.frame.geometry.notna() & ~layer.frame.geometry.is_empty for layer in layers}
    check_index(path, {name: int(rows.sum()) for name, rows in filled.items()})


def _write_fgb(layers: Sequence[Layer], path: Path, provenance: Mapping[str, Any]) -> None:
    names = {"TITLE": layers[0].title, "DESCRIPTION": abstract(provenance)}
    metadata = {METADATA_KEY: json.dumps(provenance)}
    _write_ogr(layers[0], path, "FlatGeobuf", layer_metadata=metadata, SPATIAL_INDEX="YES", **names)


def _write_geojson(layers: Sequence[Layer], path: Path, provenance: Mapping[str, Any]) -> None:
    members = {
        "type": "FeatureCollection",
        METADATA_KEY: provenance,
        "title": layers[0].title,
        "columns": {name: COLUMNS[name] for name in layers[0].frame if name in COLUMNS},
    }
    _write_ogr(
        layers[0],
        path,
        "GeoJSON",
        RFC7946="YES",
        COORDINATE_PRECISION=str(DECIMALS),
        WRITE_NAME="NO",
        DESCRIPTION=abstract(provenance),
        NATIVE_DATA=json.dumps(members),
        NATIVE_MEDIA_TYPE="application/vnd.geo+json",
    )


def _write_parquet(layers: Sequence[Layer], path: Path, provenance: Mapping[str, Any]) -> None:
    frame = layers[0].frame
    if not frame.empty:
        frame = frame.iloc[frame.hilbert_distance().argsort(kind="stable")]

    schema, tables = _tables(frame, as_parquet)
    texts = {METADATA_KEY: json.dumps(provenance), "title": layers[0].title, "description": abstract(provenance)}
    schema = schema.with_metadata({**schema.metadata, b"geo": json.dumps(_of_all(schema, frame)), **texts})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in tables:
            writer.write_table(part.cast(schema), row_group_size=_ROWS)


def _of_all(schema: pa.Schema, frame: gpd.GeoDataFrame) -> dict[str, Any]:
    """GeoParquet's metadata of some rows with the types and bounds of all."""
    geo: dict[str, Any] = json.loads(schema.metadata[b"geo"])
    for name, column in geo["columns"].items():
        kinds, flat = frame[name].geom_type, ~frame[name].has_z
        column["geometry_types"] = sorted({*kinds[flat].dropna(), *(f"{kind} Z" for kind in kinds[~flat].dropna())})
        if np.isfinite(bounds := frame[name].total_bounds).all():
            column["bbox"] = bounds.tolist()
    return geo


def _read_parquet(path: Path, layer: str | None) -> gpd.GeoDataFrame:
    return gpd.read_parquet(path)


def _parquet_batches(path: Path, layer: str) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        wanted = [name for name in ("id", "geometry") if name in file.schema_arrow.names]
        for batch in file.iter_batches(_ROWS, columns=wanted):
            yield batch.select(wanted)


def _ogr_batches(path: Path, layer: str) -> Iterator[pa.RecordBatch]:
    options = {"DATE_AS_STRING": "YES"} if path.suffix.lower() == ".geojson" else {}
    with pyogrio.open_arrow(path, layer=layer, columns=["id"], batch_size=_ROWS, use_pyarrow=True, **options) as opened:
        for batch in opened[1]:
            place = opened[0]["geometry_name"] or "wkb_geometry"
            wanted = {"id" if name == "id" else "geometry": batch[name] for name in batch.schema.names
                      if name in ("id", place)}  # fmt: skip
            yield pa.RecordBatch.from_pydict(wanted)


def _read_ogr(path: Path, layer: str | None) -> gpd.GeoDataFrame:
    # The layer is named because a GeoPackage holds its styles beside it.
    return pyogrio.read_dataframe(path, layer=layer or _spatial_layer(path))


def _read_geojson(path: Path, layer: str | None) -> gpd.GeoDataFrame:
    return pyogrio.read_dataframe(path, DATE_AS_STRING="YES")  # an id may look like a date


def _spatial_layer(path: Path) -> str:
    for name, geometry_type in pyogrio.list_layers(path):
        if geometry_type is not None:
            return str(name)
    raise OutputError(f"{path} has no layer with geometries: give a features file that hybridseg wrote")


def _ogr_provenance(path: Path) -> str | None:
    metadata = pyogrio.read_info(path, layer=_spatial_layer(path))["layer_metadata"] or {}
    return metadata.get(METADATA_KEY)


def _parquet_provenance(path: Path) -> str | None:
    text = (pq.read_schema(path).metadata or {}).get(METADATA_KEY.encode())
    return None if text is None else text.decode()


def _geojson_provenance(path: Path) -> str | None:
    with path.open(encoding="utf-8") as file:
        for line in file:  # GDAL gives each member a line, ours before the features
            if line.startswith(f'"{METADATA_KEY}":'):
                return line.partition(":")[2].strip().removesuffix(",")
            if line.startswith('"features"'):
                break
    return None


def check_rows(layer: Layer, path: Path) -> None:
    """Refuse a file that does not hold the layer that was written to it.

    Raises:
        ValueError: rows, ids or geometries are lost.
    """
    rows, missing, ids = 0, 0, [np.empty(0, np.uint64)]
    for batch in FORMATS[path.suffix.lower()].batches(path, layer.name):
        rows += batch.num_rows
        geometries = shapely.from_wkb(batch["geometry"].to_numpy(zero_copy_only=False))
        missing += int(shapely.is_missing(geometries).sum())
        if "id" in batch.schema.names:
            ids.append(_hashes(batch["id"].to_pylist()))
    if rows != len(layer.frame):
        raise ValueError(f"{rows} rows of {len(layer.frame)} are left")
    if rows and "id" in layer.frame:
        wanted = [_hashes(some["id"].astype(str)) for some in in_batches(layer.frame)]
        if not np.array_equal(np.unique(np.concatenate(ids)), np.unique(np.concatenate(wanted))):
            raise ValueError("ids are lost")
    if missing != layer.frame.geometry.isna().sum():
        raise ValueError("geometries are lost")


def _hashes(ids: Any) -> np.ndarray:
    return pd.util.hash_array(np.asarray(list(map(str, ids)), object))


@dataclass(frozen=True)
class Format:
    """How one format is written, read, and asked for its provenance (JSON), whatever the kind of geometry.

    batches: ids, where there are any, and geometries of a layer as WKB, some rows at a time.
    many: whether a file holds several layers; `write` is given one layer otherwise.
    """

    write: Callable[[Sequence[Layer], Path, Mapping[str, Any]], None]
    read: Callable[[Path, str | None], gpd.GeoDataFrame]
    provenance: Callable[[Path], str | None]
    batches: Callable[[Path, str], Iterator[pa.RecordBatch]] = _ogr_batches
    many: bool = False


FORMATS = {
    ".gpkg": Format(_write_gpkg, _read_ogr, _ogr_provenance, many=True),
    ".parquet": Format(_write_parquet, _read_parquet, _parquet_provenance, _parquet_batches),
    ".fgb": Format(_write_fgb, _read_ogr, _ogr_provenance),
    ".geojson": Format(_write_geojson, _read_geojson, _geojson_provenance),
}
"""By suffix. One more format is one more line here, for polygons and lines alike."""

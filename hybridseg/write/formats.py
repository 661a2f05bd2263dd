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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely

from hybridseg.errors import OutputError
from hybridseg.write.geopackage import add_metadata, add_styles, check_index
from hybridseg.write.lineage import COLUMNS, KEY, abstract, qgis_metadata
from hybridseg.write.style import Kind, qml

_ROW_GROUP = 25_000
"""Rows of a Parquet row group: small enough that a bbox query skips most of a large file."""


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
    frame, geometry_type = (layer.frame, "Unknown") if driver == "GeoJSON" else _one_type(layer)
    table = pa.table(frame.to_arrow(index=False, geometry_encoding="WKB"))
    crs = frame.crs
    epsg = crs.to_epsg()
    pyogrio.write_arrow(
        table.cast(_explained(table.schema)),
        path,
        layer=layer.name,
        driver=driver,
        geometry_name="geometry",
        geometry_type=geometry_type,
        crs=f"EPSG:{epsg}" if epsg else crs.to_wkt(),
        **options,
    )


def _one_type(layer: Layer) -> tuple[gpd.GeoDataFrame, str]:
    """The rows with geometries of one type, and its name: QGIS shows a layer of two types as two."""
    kinds = layer.frame.geom_type
    single = {"polygons": "Polygon", "lines": "LineString", "nodes": "Point"}[layer.kind]
    if layer.kind != "polygons" and not kinds.str.startswith("Multi").any():
        return layer.frame, single
    geometries = layer.frame.geometry.to_numpy().copy()
    alone = (kinds == single).to_numpy()
    to_multi = shapely.multipolygons if layer.kind == "polygons" else shapely.multilinestrings
    geometries[alone] = to_multi(geometries[alone], indices=np.arange(alone.sum()))
    return layer.frame.set_geometry(gpd.GeoSeries(geometries, layer.frame.index, crs=layer.frame.crs)), f"Multi{single}"


def _write_gpkg(layers: Sequence[Layer], path: Path, provenance: Mapping[str, Any]) -> None:
    for layer in layers:
        names = {"IDENTIFIER": layer.title, "DESCRIPTION": abstract(provenance)}
        metadata = {KEY: json.dumps(provenance)}
        _write_ogr(layer, path, "GPKG", layer_metadata=metadata, SPATIAL_INDEX="YES", **names)
    styles, documents = {}, {}
    for layer in layers:
        classes = sorted(layer.frame["class"].unique()) if "class" in layer.frame else []
        styles[layer.name] = layer.style or qml(classes, layer.kind)
        documents[layer.name] = qgis_metadata(provenance, layer.title, layer.frame.crs.to_wkt())
    add_styles(path, styles, KEY)
    add_metadata(path, documents)
    filled = {layer.name: layer.frame.geometry.notna() & ~layer.frame.geometry.is_empty for layer in layers}
    check_index(path, {name: int(rows.sum()) for name, rows in filled.items()})


def _write_fgb(layers: Sequence[Layer], path: Path, provenance: Mapping[str, Any]) -> None:
    names = {"TITLE": layers[0].title, "DESCRIPTION": abstract(provenance)}
    metadata = {KEY: json.dumps(provenance)}
    _write_ogr(layers[0], path, "FlatGeobuf", layer_metadata=metadata, SPATIAL_INDEX="YES", **names)


def _write_geojson(layers: Sequence[Layer], path: Path, provenance: Mapping[str, Any]) -> None:
    members = {
        "type": "FeatureCollection",
        KEY: provenance,
        "title": layers[0].title,
        "columns": {name: COLUMNS[name] for name in layers[0].frame if name in COLUMNS},
    }
    _write_ogr(
        layers[0],
        path,
        "GeoJSON",
        RFC7946="YES",
        COORDINATE_PRECISION="7",
        WRITE_NAME="NO",
        DESCRIPTION=abstract(provenance),
        NATIVE_DATA=json.dumps(members),
        NATIVE_MEDIA_TYPE="application/vnd.geo+json",
    )


def _write_parquet(layers: Sequence[Layer], path: Path, provenance: Mapping[str, Any]) -> None:
    frame = layers[0].frame
    if not frame.empty:
        frame = frame.iloc[frame.hilbert_distance().argsort(kind="stable")]
    frame.to_parquet(path, index=False, schema_version="1.1.0", write_covering_bbox=True)
    table = pq.read_table(path)  # geopandas has no way to hand metadata on
    texts = {KEY: json.dumps(provenance), "title": layers[0].title, "description": abstract(provenance)}
    schema = _explained(table.schema).with_metadata({**(table.schema.metadata or {}), **texts})
    pq.write_table(table.cast(schema), path, compression="zstd", row_group_size=_ROW_GROUP)


def _read_parquet(path: Path, layer: str | None) -> gpd.GeoDataFrame:
    return gpd.read_parquet(path)


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
    return metadata.get(KEY)


def _parquet_provenance(path: Path) -> str | None:
    text = (pq.read_schema(path).metadata or {}).get(KEY.encode())
    return None if text is None else text.decode()


def _geojson_provenance(path: Path) -> str | None:
    with path.open(encoding="utf-8") as file:
        for line in file:  # GDAL gives each member a line, ours before the features
            if line.startswith(f'"{KEY}":'):
                return line.partition(":")[2].strip().removesuffix(",")
            if line.startswith('"features"'):
                break
    return None


def check_rows(layer: Layer, read: gpd.GeoDataFrame) -> None:
    """Refuse what was read back from a file when it is not the layer that was written.

    Raises:
        ValueError: rows, ids or geometries are lost.
    """
    if len(read) != len(layer.frame):
        raise ValueError(f"{len(read)} rows of {len(layer.frame)} are left")
    if len(read) and "id" in layer.frame and set(read["id"].astype(str)) != set(layer.frame["id"].astype(str)):
        raise ValueError("ids are lost")
    if read.geometry.isna().sum() != layer.frame.geometry.isna().sum():
        raise ValueError("geometries are lost")


@dataclass(frozen=True)
class Format:
    """How one format is written, read, and asked for its provenance (JSON), whatever the kind of geometry.

    many: whether a file holds several layers; `write` is given one layer otherwise.
    """

    write: Callable[[Sequence[Layer], Path, Mapping[str, Any]], None]
    read: Callable[[Path, str | None], gpd.GeoDataFrame]
    provenance: Callable[[Path], str | None]
    many: bool = False


FORMATS = {
    ".gpkg": Format(_write_gpkg, _read_ogr, _ogr_provenance, many=True),
    ".parquet": Format(_write_parquet, _read_parquet, _parquet_provenance),
    ".fgb": Format(_write_fgb, _read_ogr, _ogr_provenance),
    ".geojson": Format(_write_geojson, _read_geojson, _geojson_provenance),
}
"""By suffix. One more format is one more line here, for polygons and lines alike."""

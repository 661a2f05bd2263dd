"""Features to files and back. The suffix chooses the format; each file carries its provenance.

| suffix   | format                                                        | provenance                      |
|----------|---------------------------------------------------------------|---------------------------------|
| .gpkg    | GeoPackage, styled for QGIS, all MultiPolygon                 | layer metadata                  |
| .parquet | GeoParquet 1.1, Hilbert-sorted, bbox column                   | schema metadata                 |
| .fgb     | FlatGeobuf with spatial index, all MultiPolygon               | layer metadata                  |
| .geojson | RFC 7946: WGS84, 7 decimals, cut at the antimeridian          | member "hybridseg" at the head  |
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyarrow.parquet as pq
import pyogrio
from pyproj import CRS

from hybridseg.atomic import check_output, replacing
from hybridseg.errors import OutputError
from hybridseg.types import FEATURE_COLUMNS
from hybridseg.write.provenance import KEY
from hybridseg.write.style import qml

_DTYPES = {name: str if name in ("id", "class", "origin") else float for name in FEATURE_COLUMNS if name != "geometry"}
_ROW_GROUP = 25_000
"""Rows of a Parquet row group: small enough that a bbox query skips most of a large file."""

# Exactly as QGIS makes it, by way of GDAL, when a style is saved to the database.
_LAYER_STYLES = """
CREATE TABLE "layer_styles" (
    "id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    "f_table_catalog" TEXT(256), "f_table_schema" TEXT(256), "f_table_name" TEXT(256), "f_geometry_column" TEXT(256),
    "styleName" TEXT(30), "styleQML" TEXT, "styleSLD" TEXT, "useAsDefault" BOOLEAN, "description" TEXT,
    "owner" TEXT(30), "ui" TEXT(30),
    "update_time" DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
);
INSERT INTO gpkg_contents (table_name, data_type, identifier, description, srs_id)
    VALUES ('layer_styles', 'attributes', 'layer_styles', '', 0);
"""


def write_features(
    features: gpd.GeoDataFrame,
    path: Path | str,
    provenance: Mapping[str, Any],
    crs: CRS | str | int | None = None,
) -> Path:
    """Write features to one file, in the format of its suffix; the file appears whole or not at all.

    Args:
        features: has `FEATURE_COLUMNS`, and others to be kept; may be empty. Geometries are (Multi)Polygons.
        path: ends in one of `FORMATS`.
        provenance: JSON values, see `Provenance.to_dict`.
        crs: to write in, anything pyproj takes; None keeps that of the features. GeoJSON is WGS84 always.

    Raises:
        OutputError: the file cannot be written there.
    """
    path = check_output(path, FORMATS)
    features = _tidy(features) if crs is None else _tidy(features).to_crs(crs)
    with replacing(path) as beside:
        FORMATS[path.suffix.lower()].write(features, beside, _layer_name(path), json.dumps(provenance))
    return path


def read_features(path: Path | str) -> gpd.GeoDataFrame:
    """Features of a file that `write_features` made, in the file's CRS and order.

    Raises:
        OutputError: no such file, or not one of `FORMATS`.
    """
    path, format_ = _existing(path)
    features = format_.read(path)
    if features.empty:  # an empty GeoJSON has no columns
        features = features.reindex(columns=list(dict.fromkeys((*FEATURE_COLUMNS, *features.columns))))
    return features.astype({name: dtype for name, dtype in _DTYPES.items() if name in features})


def read_provenance(path: Path | str) -> dict[str, Any] | None:
    """What `write_features` was told of the result's origin; None where the file does not say.

    Raises:
        OutputError: no such file, or not one of `FORMATS`.
    """
    path, format_ = _existing(path)
    text = format_.provenance(path)
    return None if text is None else json.loads(text)


def _tidy(features: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Our columns first and of one type each, whatever the rows (all may be NaN, or there may be none)."""
    if missing := [name for name in FEATURE_COLUMNS if name not in features]:
        raise ValueError(f"features lack the columns {missing}")
    if features.crs is None:
        raise ValueError("features have no CRS")
    order = list(dict.fromkeys((*FEATURE_COLUMNS, *features.columns)))
    return features[order].set_geometry("geometry").astype(_DTYPES)


def _existing(path: Path | str) -> tuple[Path, Format]:
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"{path} is no features file: expected one of {', '.join(sorted(FORMATS))}")
    if not path.is_file():
        raise OutputError(f"{path} does not exist: give a features file that hybridseg wrote")
    return path, FORMATS[path.suffix.lower()]


def _layer_name(path: Path) -> str:
    """The file's stem, unless GeoPackage keeps the name for itself."""
    name = path.stem
    reserved = name.lower() == "layer_styles" or name.lower().startswith(("gpkg", "rtree_", "sqlite_"))
    return f"features_{name}" if reserved else name


def _write_gpkg(features: gpd.GeoDataFrame, path: Path, layer: str, provenance: str) -> None:
    _write_multipolygons(features, path, layer, provenance, driver="GPKG")
    style = {
        "f_table_catalog": "",
        "f_table_schema": "",
        "f_table_name": layer,
        "f_geometry_column": "geom",  # GDAL's default
        "styleName": KEY,
        "styleQML": qml(sorted(features["class"].unique())),
        "styleSLD": "",
        "useAsDefault": True,
        "description": "colour by class, coarse outlines dashed",
        "owner": "",
    }
    columns, marks = ", ".join(style), ", ".join("?" * len(style))
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(_LAYER_STYLES)
        database.execute(f"INSERT INTO layer_styles ({columns}) VALUES ({marks})", tuple(style.values()))


def _write_fgb(features: gpd.GeoDataFrame, path: Path, layer: str, provenance: str) -> None:
    _write_multipolygons(features, path, layer, provenance, driver="FlatGeobuf")


def _write_multipolygons(features: gpd.GeoDataFrame, path: Path, layer: str, provenance: str, driver: str) -> None:
    # One geometry type, or QGIS shows the layer as two.
    pyogrio.write_dataframe(
        features,
        path,
        layer=layer,
        driver=driver,
        geometry_type="MultiPolygon",
        promote_to_multi=True,
        layer_metadata={KEY: provenance},
        SPATIAL_INDEX="YES",
    )


def _write_geojson(features: gpd.GeoDataFrame, path: Path, layer: str, provenance: str) -> None:
    pyogrio.write_dataframe(
        features,
        path,
        layer=layer,
        driver="GeoJSON",
        RFC7946="YES",
        COORDINATE_PRECISION="7",
        WRITE_NAME="NO",
        NATIVE_DATA=f'{{"type": "FeatureCollection", "{KEY}": {provenance}}}',
        NATIVE_MEDIA_TYPE="application/vnd.geo+json",
    )


def _write_parquet(features: gpd.GeoDataFrame, path: Path, layer: str, provenance: str) -> None:
    if not features.empty:
        features = features.iloc[features.hilbert_distance().argsort(kind="stable")]
    features.to_parquet(path, index=False, schema_version="1.1.0", write_covering_bbox=True)
    table = pq.read_table(path)  # geopandas has no way to hand metadata on
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), KEY.encode(): provenance.encode()})
    pq.write_table(table, path, compression="zstd", row_group_size=_ROW_GROUP)


def _read_parquet(path: Path) -> gpd.GeoDataFrame:
    return gpd.read_parquet(path)


def _read_ogr(path: Path) -> gpd.GeoDataFrame:
    # The layer is named because a GeoPackage holds its styles beside it.
    return pyogrio.read_dataframe(path, layer=_spatial_layer(path))


def _read_geojson(path: Path) -> gpd.GeoDataFrame:
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


@dataclass(frozen=True)
class Format:
    """How one format is written, read, and asked for its provenance (JSON)."""

    write: Callable[[gpd.GeoDataFrame, Path, str, str], None]
    read: Callable[[Path], gpd.GeoDataFrame]
    provenance: Callable[[Path], str | None]


FORMATS = {
    ".gpkg": Format(_write_gpkg, _read_ogr, _ogr_provenance),
    ".parquet": Format(_write_parquet, _read_parquet, _parquet_provenance),
    ".fgb": Format(_write_fgb, _read_ogr, _ogr_provenance),
    ".geojson": Format(_write_geojson, _read_geojson, _geojson_provenance),
}
"""By suffix. One more format is one more line here."""

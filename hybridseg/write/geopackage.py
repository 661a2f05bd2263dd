"""What a GeoPackage holds beside its features so that QGIS shows them well: styles and metadata."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

GPKG_VERSION = "1.3"
"""GDAL before 3.7, as of QGIS 3.22, warns at each layer of a GeoPackage 1.4, of which we would need upserts only."""

RESERVED = ("gpkg", "rtree_", "sqlite_", "layer_styles")
"""Beginnings of names that GeoPackage, SQLite and QGIS keep for their own tables."""

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


def add_styles(path: Path, styles: Mapping[str, str], name: str) -> None:
    """Add a default style (QML) for each layer.

    Args:
        path: a GeoPackage without styles.
        styles: QML by the layer's name.
        name: of the styles.
    """
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(_LAYER_STYLES)
        for layer, qml in styles.items():
            row = {
                "f_table_catalog": "",
                "f_table_schema": "",
                "f_table_name": layer,
                "f_geometry_column": "geom",  # GDAL's default
                "styleName": name,
                "styleQML": qml,
                "styleSLD": "",
                "useAsDefault": True,
                "description": "made by hybridseg",
                "owner": "",
            }
            _insert(database, "layer_styles", row)


def add_metadata(path: Path, documents: Mapping[str, str]) -> None:
    """Add QGIS metadata (XML) for each layer, in the tables of GeoPackage's metadata extension.

    Args:
        path: a GeoPackage whose layers have metadata of GDAL's already, so that the tables are there.
        documents: XML by the layer's name.
    """
    with closing(sqlite3.connect(path)) as database, database:
        for layer, xml in documents.items():
            row = {"md_scope": "dataset", "md_standard_uri": "http://mrcc.com/qgis.dtd", "mime_type": "text/xml"}
            number = _insert(database, "gpkg_metadata", row | {"metadata": xml})
            reference = {"reference_scope": "table", "table_name": layer, "md_file_id": number}
            _insert(database, "gpkg_metadata_reference", reference)


def check_index(path: Path, rows: Mapping[str, int]) -> None:
    """Refuse a GeoPackage whose spatial index is not whole: GDAL does not say when a full disk keeps it from that.

    Args:
        path: the GeoPackage.
        rows: number of geometries that the index must hold, by the layer's name.

    Raises:
        sqlite3.Error: a layer has no index, or one of other size.
    """
    with closing(sqlite3.connect(path)) as database:
        for layer, wanted in rows.items():
            table = f"rtree_{layer}_geom_rowid".replace('"', '""')
            (found,) = database.execute(f'SELECT count(*) FROM "{table}"').fetchone()
            if found != wanted:
                raise sqlite3.DatabaseError(f"the spatial index holds {found} rows of {wanted}")


def _insert(database: sqlite3.Connection, table: str, row: Mapping[str, object]) -> int | None:
    """Insert a row and return its number."""
    columns, marks = ", ".join(row), ", ".join("?" * len(row))
    return database.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(row.values())).lastrowid

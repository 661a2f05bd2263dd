"""The review file: a GeoPackage of objects, with the record of all actions beside them."""

from __future__ import annotations

import json
import math
import sqlite3
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import shapely

from hybridseg.errors import ReviewError
from hybridseg.files import replacing
from hybridseg.reviewing import findings as found
from hybridseg.reviewing.findings import Finding
from hybridseg.reviewing.objects import Object
from hybridseg.types import METADATA_KEY
from hybridseg.write.geopackage import GPKG_VERSION, add_styles
from hybridseg.write.result import ERRORS
from hybridseg.write.style import qml

LAYER, RECORD, FACTS = "objects", "actions", "review"
"""Tables: the objects as they are, the actions that made them so, and what is under review."""

FIGURES = ("score", "iou_pred", "stability", "agreement")

COLOURS: dict[str, str] = {
    "unseen": "#f0e442", "proposed": "#cc79a7", "accepted": "#009e73", "corrected": "#0072b2", "added": "#56b4e9",
    "rejected": "#d55e00", "deleted": "#d55e00",
}  # fmt: skip
"""Colours of verdicts in QGIS, from Okabe & Ito (2008): open warm, taken cool, refused red. Of the others, whose ground
others took or nobody decided on, none: grey."""

_COLUMNS = ("fid", "id", "class", *FIGURES, "origin", "verdict", "parents", "version", "who", "changed_at", "geom")
_LIST = ", ".join(_COLUMNS)
_HEADER = struct.Struct("<2sBBi4d")
"""Of a geometry in a GeoPackage: magic, version, flags, SRS, and the envelope (min x, max x, min y, max y)."""
_FLAGS = 0b00000011
"""Little-endian, with an envelope of x and y."""


def create(
    path: Path, objects: Sequence[Object], crs: Any, facts: dict[str, str], findings: Sequence[Finding] = ()
) -> None:
    """Make a review file; it appears whole or not at all.

    Args:
        path: ends in .gpkg.
        objects: those of the extraction, keys from 1 on.
        crs: of their geometries.
        facts: what is under review, by name.
        findings: what imagery says of each object.

    Raises:
        OutputError: it cannot be written there.
    """
    rows = gpd.GeoDataFrame(
        {
            "id": pd.Series([one.id for one in objects], dtype="string"),
            "class": pd.Series([one.label for one in objects], dtype="string"),
            **{name: pd.Series([getattr(one, name) for one in objects], dtype=float) for name in FIGURES},
            "origin": pd.Series([one.origin for one in objects], dtype="string"),
            "verdict": pd.Series([one.verdict for one in objects], dtype="string"),
            "parents": pd.Series([json.dumps(one.parents) if one.parents else "[]" for one in objects], dtype="string"),
            "version": pd.Series([one.version for one in objects], dtype="int64"),
            "who": pd.Series([one.who for one in objects], dtype="string"),
            "changed_at": pd.Series([one.when for one in objects], dtype="string"),
        },
        geometry=gpd.GeoSeries(_multis([one.geometry for one in objects]), crs=crs),
        crs=crs,
    )
    with replacing(path, errors=ERRORS) as beside:
        pyogrio.write_dataframe(
            rows, beside, layer=LAYER, driver="GPKG", geometry_type="MultiPolygon", VERSION=GPKG_VERSION
        )
        add_styles(beside, {LAYER: qml(list(COLOURS), field="verdict", colours=COLOURS)}, METADATA_KEY)
        database = sqlite3.connect(beside)
        try:
            database.executescript(
                f"""
                CREATE INDEX {LAYER}_id ON {LAYER} (id);
                CREATE INDEX {LAYER}_verdict ON {LAYER} (verdict);
                CREATE INDEX {LAYER}_version ON {LAYER} (version);
                CREATE TABLE {RECORD} (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, who TEXT NOT NULL,
                    at TEXT NOT NULL, undoes INTEGER, changes TEXT NOT NULL);
                CREATE TABLE {FACTS} (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, value TEXT NOT NULL);
                INSERT INTO gpkg_contents (table_name, data_type, identifier, description, srs_id)
                    VALUES ('{RECORD}', 'attributes', '{RECORD}', 'who did what, when', 0),
                    ('{FACTS}', 'attributes', '{FACTS}', 'what is under review', 0);
                """
            )
            database.executemany(f"INSERT INTO {FACTS} (name, value) VALUES (?, ?)", facts.items())
            if findings:
                found.write(database, findings)
            database.commit()
        finally:
            database.close()


def connect(path: Path) -> sqlite3.Connection:
    """Open a review file in WAL mode, each commit flushed to the disk.

    Raises:
        ReviewError: it is none, or damaged.
    """
    try:
        database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
    except sqlite3.Error as error:
        raise ReviewError(f"{path} cannot be opened as a review ({error}); choose another with --edits") from error
    try:
        found = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {LAYER, RECORD, FACTS} <= found:
            raise ReviewError(f"{path} is a GeoPackage, but no review; choose another name with --edits")
        database.execute("PRAGMA journal_mode = WAL")  # stays in the file, which is a review for certain by now
        database.execute("PRAGMA synchronous = FULL")
    except (sqlite3.Error, ReviewError) as error:
        database.close()
        if isinstance(error, ReviewError):
            raise
        raise ReviewError(f"{path} cannot be opened as a review ({error}); choose another with --edits") from error
    # the triggers that keep GDAL's spatial index need what GDAL brings along
    for name, place in (("ST_MinX", 4), ("ST_MaxX", 5), ("ST_MinY", 6), ("ST_MaxY", 7)):
        database.create_function(name, 1, lambda blob, at=place: _HEADER.unpack_from(blob)[at], deterministic=True)
    database.create_function("ST_IsEmpty", 1, lambda blob: int(blob is None), deterministic=True)
    areas: dict[int, tuple[int, float]] = {}

    def area_of(key: int, version: int, blob: bytes) -> float:
        """Area of an object in square units of the CRS, kept until another action touches it."""
        if areas.get(key, (-1,))[0] != version:
            areas[key] = version, float(_geometry(blob).area)
        return areas[key][1]

    database.create_function("area_of", 3, area_of)
    return database


def read(database: sqlite3.Connection, where: str = "", values: Sequence[Any] = ()) -> list[Object]:
    """Return the objects that a condition of SQL chooses, by key unless it says another order."""
    query = f"SELECT {_LIST} FROM {LAYER} {where or 'ORDER BY fid'}"
    return [_object(row) for row in database.execute(query, values)]


def write(database: sqlite3.Connection, one: Object, srs: int) -> None:
    """Insert or replace an object."""
    row = (
        one.key, one.id, one.label, *(_null(getattr(one, name)) for name in FIGURES), one.origin, one.verdict,
        json.dumps(one.parents), one.version, one.who, one.when, blob_of(one.geometry, srs),
    )  # fmt: skip
    # not both in one: the triggers of a GeoPackage 1.3 that keep the spatial index fail in an upsert
    updates = ", ".join(f"{name} = ?" for name in _COLUMNS[1:])
    if not database.execute(f"UPDATE {LAYER} SET {updates} WHERE fid = ?", (*row[1:], one.key)).rowcount:
        database.execute(f"INSERT INTO {LAYER} ({_LIST}) VALUES ({', '.join('?' * len(row))})", row)


def to_record(one: Object | None, wkb: str | None = None) -> dict[str, Any] | None:
    """Return an object as JSON values, for the record; its version, and who and when, are those of the action.

    Args:
        one: the object.
        wkb: its geometry, where that is written already.
    """
    if one is None:
        return None
    figures = {name: _null(getattr(one, name)) for name in FIGURES}
    named = {"key": one.key, "id": one.id, "class": one.label, "origin": one.origin, "verdict": one.verdict}
    return {**named, **figures, "parents": one.parents, "geometry": wkb or one.geometry.wkb_hex}


def from_record(row: dict[str, Any] | None) -> Object | None:
    """Return the object that `to_record` took apart."""
    if row is None:
        return None
    score, iou_pred, stability, agreement = (math.nan if row[name] is None else row[name] for name in FIGURES)
    return Object(
        row["key"], row["id"], row["class"], score, iou_pred, stability, agreement, shapely.from_wkb(row["geometry"]),
        row["origin"], row["verdict"], tuple(row["parents"]),
    )  # fmt: skip


def blob_of(geometry: shapely.Geometry, srs: int) -> bytes:
    """Return a geometry as a GeoPackage holds it."""
    x0, y0, x1, y1 = geometry.bounds
    return _HEADER.pack(b"GP", 0, _FLAGS, srs, x0, x1, y0, y1) + shapely.to_wkb(_multis([geometry])[0], byte_order=1)


def _object(row: tuple[Any, ...]) -> Object:
    key, name, label, *rest = row
    score, iou_pred, stability, agreement = (math.nan if value is None else float(value) for value in rest[:4])
    origin, verdict, parents, version, who, when, blob = rest[4:]
    return Object(
        key, name, label, score, iou_pred, stability, agreement, single(_geometry(blob)), origin,
        verdict, tuple(json.loads(parents)), version, who, when,
    )  # fmt: skip


def _geometry(blob: bytes) -> shapely.Geometry:
    """The geometry that a GeoPackage holds."""
    envelope = (0, 32, 48, 48, 64)[blob[3] >> 1 & 7]
    return shapely.from_wkb(blob[8 + envelope :])


def single(geometry: shapely.Geometry) -> shapely.Geometry:
    """Return a polygon for a multipolygon of one part; others as they are."""
    return geometry.geoms[0] if isinstance(geometry, shapely.MultiPolygon) and len(geometry.geoms) == 1 else geometry


def singles(geometries: np.ndarray) -> np.ndarray:
    """Return geometries (N,), with a polygon for each multipolygon of one part."""
    lone = shapely.get_type_id(geometries) == shapely.GeometryType.MULTIPOLYGON
    lone &= shapely.get_num_geometries(geometries) == 1
    return np.where(lone, shapely.get_geometry(geometries, 0), geometries)


def _multis(geometries: Sequence[shapely.Geometry]) -> np.ndarray:
    """Geometries (N,) as a layer of one type holds them."""
    found = np.array(geometries, object)
    lone = shapely.get_type_id(found) == shapely.GeometryType.POLYGON
    found[lone] = shapely.multipolygons(found[lone], indices=np.arange(lone.sum()))
    return found


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value

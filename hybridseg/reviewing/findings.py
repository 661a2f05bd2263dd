"""What imagery says of the objects of a layer that came from elsewhere: a table of the review file, which stays."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import shapely

Said = Literal["kept", "moved", "changed", "removed", "added", "unknown"]
"""How an object differs from the layer. moved: the same shape elsewhere; removed: it is not there; added: the layer
lacks it; unknown: there is no imagery of it. `became` of tracks tells of growth between dates instead."""

FLAGGED: tuple[Said, ...] = ("moved", "changed", "removed", "added")

TABLE = "findings"


@dataclass(frozen=True)
class Finding:
    """What imagery says of an object.

    key: of the object.
    said: see `Said`.
    disagreement: of layer and imagery, 0 to 1.
    shift_m: from the object's middle to that of its place; NaN where there is none.
    place: the outline that imagery shows, where that differs; None elsewhere.
    origin: of that outline, as in an extraction.
    """

    key: int
    said: Said
    disagreement: float
    shift_m: float = float("nan")
    place: shapely.Geometry | None = None
    origin: str = ""


def ranked(findings: Mapping[int, Finding]) -> list[int]:
    """Return the keys in the order in which a person should see them: what disagrees first, and most."""
    return [one.key for one in sorted(findings.values(), key=lambda one: (one.said not in FLAGGED, -one.disagreement))]


def write(database: sqlite3.Connection, findings: Sequence[Finding]) -> None:
    """Make the table in a GeoPackage."""
    database.execute(
        f"CREATE TABLE {TABLE} (key INTEGER PRIMARY KEY, said TEXT NOT NULL, disagreement REAL NOT NULL, "
        "shift_m REAL, place BLOB, origin TEXT NOT NULL)"
    )
    database.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, srs_id) "
        f"VALUES ('{TABLE}', 'attributes', '{TABLE}', 'what imagery says of each object', 0)"
    )
    database.executemany(
        f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                one.key, one.said, one.disagreement, None if one.place is None else one.shift_m,
                None if one.place is None else shapely.to_wkb(one.place), one.origin,
            )
            for one in findings
        ],
    )  # fmt: skip


def read(database: sqlite3.Connection) -> dict[int, Finding]:
    """Return the findings by key; none of a review that was begun without."""
    if not database.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (TABLE,)).fetchone():
        return {}
    return {
        key: Finding(
            key, said, disagreement, float("nan") if shift_m is None else shift_m,
            None if place is None else shapely.from_wkb(place), origin,
        )
        for key, said, disagreement, shift_m, place, origin in database.execute(f"SELECT * FROM {TABLE} ORDER BY key")
    }  # fmt: skip

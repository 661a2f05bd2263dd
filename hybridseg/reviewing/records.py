"""What a review file says: objects by key, place and filter, and how far the work is."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

from hybridseg.reviewing import findings, geopackage
from hybridseg.reviewing.findings import Finding
from hybridseg.reviewing.geopackage import FACTS, LAYER, RECORD
from hybridseg.reviewing.objects import OPEN, Kind, Object, Unknown, Verdict
from hybridseg.types import Extent

RECENT_S, LEAST_S = 300, 10
"""Time that the rate of decisions is taken over, and the least that it takes."""
_BATCH = 500
"""Keys in one query."""


@dataclass(frozen=True)
class Filter:
    """Lets objects through that fit every field; an empty field lets all through.

    label: class.
    verdict: see `Verdict`.
    origin: as in the extraction, or `Hand`.
    score: least and most; objects without a score do not fit.
    area_m2: least and most.
    extent: left, bottom, right, top in the CRS, which the object's box meets.
    """

    label: str | None = None
    verdict: str | None = None
    origin: str | None = None
    score: tuple[float | None, float | None] = (None, None)
    area_m2: tuple[float | None, float | None] = (None, None)
    extent: Extent | None = None

    def condition(self, index: str, area: str) -> tuple[str, list[Any]]:
        """Return a condition of SQL and its values.

        Args:
            index: table of the spatial index.
            area: expression of an object's area in m2; costly, so it comes last.
        """
        parts: list[tuple[str, tuple[Any, ...]]] = []
        for column, value in (("class", self.label), ("verdict", self.verdict), ("origin", self.origin)):
            if value is not None:
                parts.append((f"{column} = ?", (value,)))
        if self.extent is not None:
            left, bottom, right, top = self.extent
            near = f"SELECT id FROM {index} WHERE maxx >= ? AND minx <= ? AND maxy >= ? AND miny <= ?"
            parts.append((f"fid IN ({near})", (left, right, bottom, top)))
        for column, (least, most) in (("score", self.score), (area, self.area_m2)):
            if least is not None:
                parts.append((f"{column} >= ?", (least,)))
            if most is not None:
                parts.append((f"{column} <= ?", (most,)))
        return " AND ".join(text for text, _ in parts) or "1", [value for _, given in parts for value in given]


class Records:
    """A review file that is open, to be read. Any thread may call. path: of the file."""

    path: Path
    _database: sqlite3.Connection
    _lock: threading.RLock

    @property
    def head(self) -> int:
        """Number of the last action; 0: there is none."""
        return int(self._one(f"SELECT coalesce(max(seq), 0) FROM {RECORD}")[0])

    def facts(self) -> dict[str, str]:
        """Return what is under review."""
        with self._lock:
            return dict(self._database.execute(f"SELECT name, value FROM {FACTS}").fetchall())

    def findings(self) -> dict[int, Finding]:
        """Return what imagery says of the objects, by key."""
        with self._lock:
            return findings.read(self._database)

    def get(self, keys: Iterable[int]) -> list[Object]:
        """Return objects by key.

        Raises:
            Unknown: there is none of one of these keys.
        """
        found = []
        for key in keys:
            rows = self._read("WHERE fid = ?", [key])
            if not rows:
                raise Unknown(f"there is no object {key}; load the map again")
            found += rows
        return found

    def named(self, ids: Collection[str]) -> list[Object]:
        """Return objects by id, those that there are."""
        return self._read(f"WHERE id IN ({', '.join('?' * len(ids))})", sorted(ids)) if ids else []

    def all(self) -> list[Object]:
        """Return every object, gone or not, by key."""
        return self._read()

    def since(self, seq: int, most: int) -> list[Object]:
        """Return objects that actions after `seq` touched, those touched first before others."""
        return self._read("WHERE version > ? ORDER BY version, fid LIMIT ?", [seq, most])

    def within(self, extent: Extent, most: int) -> tuple[list[Object], int]:
        """Return objects on the map, and those proposed, whose boxes meet an extent, and how many there are.

        Args:
            extent: in the CRS.
            most: where there are more, the largest are given.
        """
        left, bottom, right, top = extent
        near = f"(SELECT id FROM rtree_{LAYER}_geom WHERE maxx >= ? AND minx <= ? AND maxy >= ? AND miny <= ?)"
        there = f"verdict IN {OPEN}"
        values = [left, right, bottom, top]
        (count,) = self._one(f"SELECT count(*) FROM {LAYER} WHERE fid IN {near} AND {there}", *values)
        large = (
            f"JOIN (SELECT id AS r, (maxx - minx) * (maxy - miny) AS size FROM rtree_{LAYER}_geom) ON r = fid "
            f"WHERE fid IN {near} AND {there} ORDER BY size DESC LIMIT ?"
        )
        chosen = large if count > most else f"WHERE fid IN {near} AND {there} ORDER BY fid"
        return self._read(chosen, [*values, most] if count > most else values), int(count)

    def later(self, key: int) -> list[int]:
        """Return the keys after one, in order."""
        with self._lock:
            found = self._database.execute(f"SELECT fid FROM {LAYER} WHERE fid > ? ORDER BY fid", [key])
            return [later for (later,) in found]

    def matching(self, only: Filter, m2: float) -> dict[int, bool]:
        """Return the keys that a filter lets through, and whether a person has still to decide on each.

        Args:
            only: the filter.
            m2: square metres of a square unit of the CRS.
        """
        where, values = only.condition(f"rtree_{LAYER}_geom", f"{m2!r} * area_of(fid, version, geom)")
        with self._lock:
            query = f"SELECT fid, verdict IN ('unseen', 'proposed') FROM {LAYER} WHERE {where}"
            return {key: bool(left) for key, left in self._database.execute(query, values)}

    def counts(self) -> dict[str, int]:
        """Return how many objects there are of each verdict."""
        with self._lock:
            query = f"SELECT verdict, count(*) FROM {LAYER} GROUP BY verdict"
            return dict(self._database.execute(query).fetchall())

    def origins(self) -> list[str]:
        """Return the origins that objects have."""
        with self._lock:
            return [name for (name,) in self._database.execute(f"SELECT DISTINCT origin FROM {LAYER} ORDER BY origin")]

    def states(self, keys: Sequence[int]) -> dict[int, tuple[Verdict, int]]:
        """Return verdict and version by key, of the objects that are there."""
        with self._lock:
            return {
                key: (verdict, version)
                for start in range(0, len(keys), _BATCH)
                for key, verdict, version in self._states(keys[start : start + _BATCH])
            }

    def _states(self, keys: Sequence[int]) -> list[tuple[int, Verdict, int]]:
        query = f"SELECT fid, verdict, version FROM {LAYER} WHERE fid IN ({', '.join('?' * len(keys))})"
        return self._database.execute(query, list(keys)).fetchall()

    def a_minute(self) -> float | None:
        """Return the decisions a minute of the last `RECENT_S`; None where fewer than two, or `LEAST_S`, tell of it."""
        since = (datetime.now(UTC) - timedelta(seconds=RECENT_S)).isoformat(timespec="milliseconds")
        query = f"SELECT count(*), min(at), max(at) FROM {RECORD} WHERE at > ? AND kind IN {get_args(Kind)}"
        count, first, last = self._one(query, since)
        if count < 2:
            return None
        elapsed = (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
        return (count - 1) * 60 / elapsed if elapsed >= LEAST_S else None

    def _read(self, where: str = "", values: Sequence[Any] = ()) -> list[Object]:
        with self._lock:
            return geopackage.read(self._database, where, values)

    def _one(self, query: str, *values: Any) -> tuple[Any, ...]:
        with self._lock:
            return tuple(self._database.execute(query, values).fetchone())

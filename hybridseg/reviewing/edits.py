"""The store of edits: each action is on the disk before it is answered; undo and redo are actions of their own."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count as count_from
from pathlib import Path
from typing import Any, Self, get_args

from hybridseg.errors import ReviewError
from hybridseg.files import check_output
from hybridseg.reviewing import geopackage
from hybridseg.reviewing.filters import Filter
from hybridseg.reviewing.geopackage import FACTS, LAYER, RECORD
from hybridseg.reviewing.objects import OPEN, Action, Conflict, Done, Kind, Object, Unknown, Verdict, outcome
from hybridseg.types import Extent

LOOK = "look "
"""Begins the kind of an action that says that a square of ground was looked over; its name follows."""
RECENT_S, LEAST_S = 300, 10
"""Time that the rate of decisions is taken over, and the least that it takes."""
_BATCH = 500
"""Keys in one query."""


class Edits:
    """A review file that is open. One writer at a time; any thread may call.

    path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._read_to = path, 0
        self._database = geopackage.connect(path)
        self._lock = threading.RLock()
        (self._srs,) = self._one("SELECT srs_id FROM gpkg_geometry_columns WHERE table_name = ?", LAYER)
        self._undoable: list[int] = []
        self._redoable: list[int] = []
        self._squares: dict[int, str] = {}
        self._catch_up()

    @classmethod
    def open(cls, path: Path, objects: Sequence[Object], crs: Any, facts: Mapping[str, str]) -> Self:
        """Open a review file, or begin one.

        Args:
            path: ends in .gpkg.
            objects: those of the extraction.
            crs: of their geometries.
            facts: what is under review; a file that is there must have begun with the same.

        Raises:
            OutputError: it cannot be written there.
            ReviewError: the file is no review, or one of something else.
        """
        if not path.exists():
            check_output(path, [".gpkg"])
            geopackage.create(path, objects, crs, dict(facts))
        edits = cls(path)
        for name, value in facts.items():
            if edits.facts().get(name) != value:
                edits.close()
                raise ReviewError(
                    f"{path} is the review of another {name} than the one given, or that has changed since; "
                    "begin a new one with --edits"
                )
        return edits

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    @property
    def head(self) -> int:
        """Number of the last action; 0: there is none."""
        return int(self._one(f"SELECT coalesce(max(seq), 0) FROM {RECORD}")[0])

    def facts(self) -> dict[str, str]:
        """Return what is under review."""
        with self._lock:
            return dict(self._database.execute(f"SELECT name, value FROM {FACTS}").fetchall())

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

    def act(self, action: Action, seen: Mapping[int, int], who: str) -> Done:
        """Do an action and write it down, both or neither.

        Args:
            action: what.
            seen: version of each object that it is about, as the caller saw it, by key.
            who: the person.

        Raises:
            Unknown: there is no such object.
            Conflict: one of them has another version by now.
            ReviewError: the action makes no sense of them.
        """
        with self._writing():
            objects = self.get(seen)
            stale = [one for one in objects if one.version != seen[one.key]]
            if stale:
                raise Conflict(f"{stale[0].id} was changed elsewhere; look at it as it is now, and decide again")
            (last,) = self._one("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?", LAYER)
            before: dict[int, Object] = {one.key: one for one in objects}
            after = outcome(action, objects, int(last) + 1)
            changes = [(before.get(one.key), one) for one in after]
            return self._write(action.kind, who, changes)

    def change(self, kind: str, changes: Sequence[tuple[Object | None, Object]], who: str) -> Done:
        """Do what a machine found, as one action. What somebody changed since it looked stays as it is.

        Args:
            kind: what the record calls it.
            changes: (as it was, as it is to be) of objects; None: it is new, and gets its key here.
            who: the person who wants it.
        """
        with self._writing():
            versions = self.states([old.key for old, _ in changes if old is not None])
            (last,) = self._one("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?", LAYER)
            keys = count_from(int(last) + 1)
            fitting = [
                (old, new if old is not None else replace(new, key=next(keys)))
                for old, new in changes
                if old is None or versions.get(old.key) == (old.verdict, old.version)
            ]
            return self._write(kind, who, fitting)

    def look(self, square: str, who: str) -> Done:
        """Write down that a square of ground was looked over, an action that undo takes back.

        Args:
            square: its name.
            who: the person.
        """
        with self._writing():
            return self._write(LOOK + square, who, [])

    @property
    def looked(self) -> set[str]:
        """Squares of ground that were looked over."""
        with self._lock:
            return {self._squares[seq] for seq in self._undoable if seq in self._squares}

    def a_minute(self) -> float | None:
        """Return the decisions a minute of the last `RECENT_S`; None where fewer than two, or `LEAST_S`, tell of it."""
        since = (datetime.now(UTC) - timedelta(seconds=RECENT_S)).isoformat(timespec="milliseconds")
        query = f"SELECT count(*), min(at), max(at) FROM {RECORD} WHERE at > ? AND kind IN {get_args(Kind)}"
        count, first, last = self._one(query, since)
        if count < 2:
            return None
        elapsed = (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
        return (count - 1) * 60 / elapsed if elapsed >= LEAST_S else None

    def undo(self, head: int, who: str) -> Done:
        """Take back the last action that is not taken back yet.

        Args:
            head: number of the last action that the caller knows of.
            who: the person.

        Raises:
            Conflict: there are later ones.
            ReviewError: there is nothing to undo.
        """
        return self._step("undo", head, who)

    def redo(self, head: int, who: str) -> Done:
        """Do again what was undone last; arguments and errors as of `undo`."""
        return self._step("redo", head, who)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction: what is written in the block is on the disk when it ends well, and nowhere when it does not.

        Another process may write to the file, too: the lock is taken before anything is read.
        """
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                raise ReviewError(
                    f"{self.path} cannot be written ({error}); close it elsewhere or make room"
                ) from error
            try:
                self._catch_up()
                yield
                self._database.execute("COMMIT")
            except BaseException as error:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                if self._read_to > self.head:  # what was written is not there
                    self._read_to, self._undoable, self._redoable = 0, [], []
                    self._catch_up()
                if isinstance(error, sqlite3.OperationalError):
                    raise ReviewError(f"{self.path} cannot be written ({error}); make room on the disk") from error
                raise

    def _step(self, kind: str, head: int, who: str) -> Done:
        with self._writing():
            if self.head != head:
                raise Conflict(f"something was done elsewhere since; look at it before you {kind}")
            stack = self._undoable if kind == "undo" else self._redoable
            if not stack:
                raise ReviewError(f"there is nothing to {kind}")
            seq = stack[-1]
            (text,) = self._one(f"SELECT changes FROM {RECORD} WHERE seq = ?", seq)
            pairs = [
                (geopackage.from_record(change["before"]), geopackage.from_record(change["after"]))
                for change in json.loads(text)
            ]
            if kind == "undo":
                pairs = [(after, before) for before, after in reversed(pairs)]
            return self._write(kind, who, pairs, seq)

    def _write(
        self, kind: str, who: str, changes: Sequence[tuple[Object | None, Object | None]], undoes: int | None = None
    ) -> Done:
        """Write an action down and do it, inside a transaction."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        text = json.dumps(
            [{"before": geopackage.to_record(old), "after": geopackage.to_record(new)} for old, new in changes]
        )
        row = self._database.execute(
            f"INSERT INTO {RECORD} (kind, who, at, undoes, changes) VALUES (?, ?, ?, ?, ?)",
            (kind, who, now, undoes, text),
        )
        seq, changed, removed = int(row.lastrowid or 0), list[Object](), list[int]()
        for old, new in changes:
            if new is None:
                assert old is not None
                self._database.execute(f"DELETE FROM {LAYER} WHERE fid = ?", (old.key,))
                removed.append(old.key)
            else:
                changed.append(replace(new, version=seq, who=who, when=now))
                geopackage.write(self._database, changed[-1], self._srs)
        self._catch_up()
        return Done(seq, tuple(changed), tuple(removed))

    def _catch_up(self) -> None:
        """Read what the record holds beyond what was read, to know what can be undone and redone."""
        query = f"SELECT seq, kind FROM {RECORD} WHERE seq > ? ORDER BY seq"
        for seq, kind in self._database.execute(query, (self._read_to,)):
            if kind == "undo":
                self._redoable.append(self._undoable.pop())
            elif kind == "redo":
                self._undoable.append(self._redoable.pop())
            else:
                self._undoable.append(seq)
                self._redoable.clear()
            if kind.startswith(LOOK):
                self._squares[seq] = kind.removeprefix(LOOK)
            self._read_to = seq

    def _read(self, where: str = "", values: Sequence[Any] = ()) -> list[Object]:
        with self._lock:
            return geopackage.read(self._database, where, values)

    def _one(self, query: str, *values: Any) -> tuple[Any, ...]:
        with self._lock:
            return tuple(self._database.execute(query, values).fetchone())

"""The store of edits: each action is on the disk before it is answered; undo and redo are actions of their own."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count as count_from
from pathlib import Path
from typing import Any, Self

from hybridseg.errors import ReviewError
from hybridseg.files import check_output
from hybridseg.reviewing import geopackage
from hybridseg.reviewing.findings import Finding
from hybridseg.reviewing.geopackage import LAYER, RECORD
from hybridseg.reviewing.objects import Action, Conflict, Done, Object, outcome
from hybridseg.reviewing.records import Records

LOOK = "look "
"""Begins the kind of an action that says that a square of ground was looked over; its name follows."""


class Edits(Records):
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
    def open(
        cls,
        path: Path,
        objects: Sequence[Object],
        crs: Any,
        facts: Mapping[str, str],
        said: Sequence[Finding] = (),
    ) -> Self:
        """Open a review file, or begin one.

        Args:
            path: ends in .gpkg.
            objects: those of the extraction.
            crs: of their geometries.
            facts: what is under review; a file that is there must have begun with the same.
            said: what imagery says of the objects.

        Raises:
            OutputError: it cannot be written there.
            ReviewError: the file is no review, or one of something else.
        """
        if not path.exists():
            check_output(path, [".gpkg"])
            geopackage.create(path, objects, crs, dict(facts), said)
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
            behind = self.named({name for one in objects if one.verdict == "proposed" for name in one.parents})
            before: dict[int, Object] = {one.key: one for one in [*objects, *behind]}
            after = outcome(action, objects, int(last) + 1, behind)
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

"""How far a run is, for people and for programs: bars, a line every half minute, JSON lines, or nothing."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from types import TracebackType
from typing import Any, Protocol, Self

KINDS = ("auto", "json", "none")
"""What `--progress` may be."""

EVERY_S = 30.0
"""Seconds between lines where standard error is not a terminal."""


class Progress(Protocol):
    """Is told how far a sweep is."""

    def start(self, sweep: str, total: int | None, unit: str = "windows") -> None:
        """Begin a sweep of so many windows or other units; None: the number is unknown."""

    def step(self, objects: int = 0) -> None:
        """Count one window as done, and so many objects as found."""


class Quiet:
    """Shows nothing."""

    def start(self, sweep: str, total: int | None, unit: str = "windows") -> None:
        """Do nothing."""

    def step(self, objects: int = 0) -> None:
        """Do nothing."""


class Reporter(Quiet):
    """What the command line says on standard error: progress (here none), warnings, errors. A context manager."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def say(self, text: str, kind: str) -> None:
        """Say a line.

        Args:
            text: without a line's end.
            kind: warning or error.
        """
        with suppress(OSError):  # whoever reads may have gone
            sys.stderr.write(f"hybridseg: {text}\n")

    def end(self, status: int) -> None:
        """Tell the exit status."""

    def close(self) -> None:
        """Stop showing."""


class Bars(Reporter):
    """A bar for each sweep, on a terminal; one without an end as long as nothing else is known."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._bars = RichProgress(
            TextColumn("{task.description:>14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TextColumn("{task.fields[found]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._task: Any = None
        self._endless, self._objects = False, 0

    def start(self, sweep: str, total: int | None, unit: str = "windows") -> None:
        """Begin a bar; one without an end or a unit, as of loading, goes when the next begins."""
        self._bars.start()
        if self._endless:
            self._bars.remove_task(self._task)
        self._objects, self._endless = 0, not unit
        self._task = self._bars.add_task(sweep, total=total, unit=unit, found="")

    def step(self, objects: int = 0) -> None:
        """Move the bar by one."""
        if self._task is not None:
            self._objects += objects
            found = f"{self._objects:,} objects" if self._objects else ""
            self._bars.update(self._task, advance=1, found=found)

    def say(self, text: str, kind: str) -> None:
        """Say a line above the bars, an error below them."""
        if kind == "error":
            self.close()
        self._bars.console.print(f"hybridseg: {text}", markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the bars as they are."""
        if self._endless:
            self._bars.remove_task(self._task)
            self._endless, self._task = False, None
        self._bars.stop()


class Lines(Reporter):
    """A plain line every half minute; a run that is shorter says nothing."""

    def __init__(self, every_s: float | None = None) -> None:
        """`every_s`: seconds between lines, `EVERY_S` by default."""
        every_s = EVERY_S if every_s is None else every_s
        self._begun, self._every_s, self._ended = time.monotonic(), every_s, threading.Event()
        # sweep, total, unit, done, objects: replaced whole, read by the thread
        self._now: tuple[str, int | None, str, int, int] = ("start", None, "", 0, 0)
        self._thread = threading.Thread(target=self._tell, daemon=True)
        self._thread.start()

    def start(self, sweep: str, total: int | None, unit: str = "windows") -> None:
        """Remember what is being done."""
        self._now = (sweep, total, unit, 0, 0)

    def step(self, objects: int = 0) -> None:
        """Count."""
        sweep, total, unit, done, found = self._now
        self._now = (sweep, total, unit, done + 1, found + objects)

    def close(self) -> None:
        """Say no more."""
        self._ended.set()

    def _tell(self) -> None:
        while not self._ended.wait(self._every_s):
            sweep, total, unit, done, found = self._now
            so_far = f" {done:,}{f' of {total:,}' if total else ''} {unit}," if unit else ""
            objects = f" {found:,} objects," if found else ""
            seconds = round(time.monotonic() - self._begun)
            with suppress(OSError):
                sys.stderr.write(f"hybridseg: {sweep}:{so_far}{objects} {seconds // 60}:{seconds % 60:02} min\n")
                sys.stderr.flush()


class Events(Reporter):
    """One JSON object a line, each with `event` and `seconds` since the start: start, step, warning, error, end."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._state: dict[str, Any] = {}

    def start(self, sweep: str, total: int | None, unit: str = "windows") -> None:
        """Tell of a sweep: `sweep`, `total` (or null), `unit`."""
        self._state = {"sweep": sweep, "total": total, "done": 0, "objects": 0}
        self._write("start", sweep=sweep, total=total, unit=unit)

    def step(self, objects: int = 0) -> None:
        """Tell how far it is: `sweep`, `total`, `done`, `objects`."""
        self._state["done"] += 1
        self._state["objects"] += objects
        self._write("step", **self._state)

    def say(self, text: str, kind: str) -> None:
        """Tell of a warning or an error: `message`."""
        self._write(kind, message=text)

    def end(self, status: int) -> None:
        """Tell the exit status: `status`."""
        self._write("end", status=status)

    def _write(self, event: str, **more: Any) -> None:
        seconds = round(time.monotonic() - self._begun, 3)
        with suppress(OSError):
            sys.stderr.write(json.dumps({"event": event, "seconds": seconds, **more}) + "\n")
            sys.stderr.flush()


def reporter(arguments: Sequence[str]) -> Reporter:
    """Return what the words of a command line ask for, before anything else is made of them."""
    words = [word for given in arguments for word in given.split("=", 1)]
    kind = next((after for word, after in pairwise(words) if word == "--progress"), "auto")
    if kind == "json":
        return Events()
    if kind == "none":
        return Reporter()
    return Bars() if sys.stderr.isatty() else Lines()

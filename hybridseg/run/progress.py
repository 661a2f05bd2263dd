"""How far a run is: a bar for each sweep on a terminal, or nothing."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


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


class Bars:
    """Progress on standard error; nothing where that is not a terminal."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bars = RichProgress(
            TextColumn("{task.description:>14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TextColumn("{task.fields[found]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._objects = 0

    def __enter__(self) -> Bars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def start(self, sweep: str, total: int | None, unit: str = "windows") -> None:
        """Begin a bar."""
        self._bars.start()  # not before: Lightning's own bar may come first
        self._objects = 0
        self._task = self._bars.add_task(sweep, total=total, unit=unit, found="")

    def step(self, objects: int = 0) -> None:
        """Move the bar by one."""
        if self._task is not None:
            self._objects += objects
            found = f"{self._objects:,} objects" if self._objects else ""
            self._bars.update(self._task, advance=1, found=found)

"""A bar for each sweep on a terminal: windows done, objects found, time left."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Bars:
    """Progress on standard error; nothing where that is not a terminal."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bars = Progress(
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

    def start(self, sweep: str, windows: int | None, unit: str = "windows") -> None:
        """Begin a bar."""
        self._bars.start()  # not before: Lightning's own bar may come first
        self._objects = 0
        self._task = self._bars.add_task(sweep, total=windows, unit=unit, found="")

    def step(self, objects: int = 0) -> None:
        """One window more."""
        if self._task is not None:
            self._objects += objects
            found = f"{self._objects:,} objects" if self._objects else ""
            self._bars.update(self._task, advance=1, found=found)

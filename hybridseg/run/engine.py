"""Runs a stage over many windows. Nothing crosses windows, so any engine may; here is the serial one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import rasterio.errors

from hybridseg.errors import HybridsegError
from hybridseg.run.summary import Failure

Task = TypeVar("Task")
Result = TypeVar("Result")

MISHAPS = (OSError, RuntimeError, MemoryError, rasterio.errors.RasterioError, HybridsegError)
"""What may go wrong with one window (a damaged block, memory) without the others being worthless."""


class Progress(Protocol):
    """Is told how far a sweep is."""

    def start(self, sweep: str, windows: int | None, unit: str = "windows") -> None:
        """A sweep begins, of so many windows or other units; None: nobody knows."""

    def step(self, objects: int = 0) -> None:
        """One window more is done, so many objects more are found."""


class Quiet:
    """Shows nothing."""

    def start(self, sweep: str, windows: int | None, unit: str = "windows") -> None:
        """Nothing."""

    def step(self, objects: int = 0) -> None:
        """Nothing."""


def serial(
    work: Callable[[Task], Result], tasks: Sequence[Task], place: Callable[[Task], str], failures: list[Failure]
) -> Iterator[tuple[Task, Result | None]]:
    """Each task with its result, in order; None, and a line in `failures`, where it failed."""
    for task in tasks:
        try:
            yield task, work(task)
        except MISHAPS as error:
            failures.append(Failure(place(task), f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))
            yield task, None

"""Runs tasks. Nothing crosses tasks, so any engine may run them in any order; here is the serial one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import rasterio.errors

from hybridseg.errors import HybridsegError, RunError
from hybridseg.run.store import Store
from hybridseg.types import Failure

SKIPPED = (OSError, RuntimeError, MemoryError, rasterio.errors.RasterioError, HybridsegError)
"""Exceptions that skip a task (a damaged block, memory) instead of ending the run."""


class Task(Protocol):
    """A piece of work: small, frozen, picklable."""

    @property
    def key(self) -> str:
        """Key of its result in a store: the same for the same work on the same ground."""

    @property
    def place(self) -> str:
        """Where it works, for messages."""

    def __call__(self) -> Any:
        """Do it, and return the result."""


@dataclass(frozen=True)
class Done:
    """A task with its result, or with what went wrong."""

    task: Any
    value: Any = None
    failure: Failure | None = None


class Engine(Protocol):
    """Runs tasks."""

    def run(self, tasks: Sequence[Task], store: Store) -> Iterator[Done]:
        """Yield every task once, done or failed, in any order.

        Raises:
            RunError: every task failed.
        """


@dataclass(frozen=True)
class Serial:
    """Runs one task after the other.

    patience: so many failures at the start, without a success between, end the run: the cause is not the place.
    """

    patience: int = 5

    def run(self, tasks: Sequence[Task], store: Store) -> Iterator[Done]:
        """Yield every task once, in order; results that the store has are not made again."""
        succeeded = False
        for number, task in enumerate(tasks, start=1):
            done = run_task(task, store)
            succeeded |= done.failure is None
            if not succeeded and number >= min(self.patience, len(tasks)) and done.failure:
                raise RunError(
                    f"the first {number} of {len(tasks)} windows failed, the last ({done.failure.place}) with "
                    f"{done.failure.reason}; nothing is written"
                )
            yield done


def run_task(task: Any, store: Store) -> Done:
    """Take a task's result from the store, or do it and save the result where the store keeps parts."""
    if store.keeps_parts and (value := store.load(task.key)) is not None:
        return Done(task, value)
    try:
        value = task()
    except SKIPPED as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return Done(task, failure=Failure(task.place, reason))
    if store.keeps_parts:
        store.save(task.key, value)
    return Done(task, value)

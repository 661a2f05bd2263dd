"""Runs tasks. Nothing crosses tasks, so any engine may run them in any order, beside other processes on one store."""

from __future__ import annotations

import re
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, Self

import rasterio.errors
import shapely.errors

from hybridseg import nn
from hybridseg.errors import HybridsegError, RunError, SourceUnavailable
from hybridseg.run.store import Store
from hybridseg.types import Failure

SKIPPED = (
    OSError, RuntimeError, MemoryError, rasterio.errors.RasterioError, shapely.errors.ShapelyError, HybridsegError,
)  # fmt: skip
"""Exceptions that skip a task (a damaged block, memory, a geometry beyond GEOS) instead of ending the run."""
PASSING = (SourceUnavailable, TimeoutError, ConnectionError)
"""Exceptions after which the same task may succeed a little later."""
PAUSES_S = (2.0, 10.0)
"""Seconds before the second and the third try of a task that such an exception stopped."""
_MEMORY = re.compile(r"out of memory|(can't|cannot) allocate|not enough memory", re.I)
"""What torch, CUDA and GDAL write when memory is short."""


class Task(Protocol):
    """A piece of work: small, frozen, picklable."""

    @property
    def key(self) -> str:
        """Key of its result in a store: the same for the same work on the same ground."""

    @property
    def place(self) -> str:
        """Where it works, for messages."""

    def lighter(self) -> Self | None:
        """Return the same work, with the same result, in steps that need less memory; None where there are none."""

    def __call__(self) -> Any:
        """Do it, and return the result."""


@dataclass(frozen=True)
class Done:
    """A task with its result, or with what went wrong.

    value: the result; None where it is reused.
    reused: whether the store had it already, from an earlier run or from another process.
    """

    task: Any
    value: Any = None
    failure: Failure | None = None
    reused: bool = False


class Engine(Protocol):
    """Runs tasks."""

    def run(self, tasks: Sequence[Any], store: Store) -> Iterator[Done]:
        """Yield every task once, done or failed, in any order.

        Raises:
            RunError: all failed, or as many at the start that the cause is not the place.
        """


@dataclass(frozen=True)
class Serial:
    """Runs one task after the other.

    patience: so many failures at the start, without a success between, end the run: the cause is not the place.
    """

    patience: int = 5

    def run(self, tasks: Sequence[Any], store: Store) -> Iterator[Done]:
        """Yield every task once, in order, those last that another process holds."""
        return run_by(map, tasks, store, self.patience)


@dataclass(frozen=True)
class Threads:
    """Runs several tasks at once: torch and GDAL let go of Python's lock, so reading overlaps with computing.

    workers: tasks at once.
    patience: as of `Serial`.
    """

    workers: int
    patience: int = 5

    def run(self, tasks: Sequence[Any], store: Store) -> Iterator[Done]:
        """Yield every task once, in order, those last that another process holds."""
        return run_by(self._map, tasks, store, self.patience)

    def _map(self, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        """As `map`, a few tasks ahead: not all, whose results would wait in memory."""
        pool = ThreadPoolExecutor(self.workers)
        ahead: deque[Future[Any]] = deque()
        # rasterio silences it where it rasterises, but by filters of warnings, which all threads share
        with nn.device.shared_cores(self.workers), warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            try:
                for task in tasks:
                    ahead.append(pool.submit(function, task))
                    if len(ahead) == 2 * self.workers:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)


_Spread = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""As `map`."""


def run_by(spread: _Spread, tasks: Sequence[Any], store: Store, patience: int) -> Iterator[Done]:
    """Yield every task once; see `Engine.run`.

    Args:
        spread: as `map`, in any order.
        tasks: all of them.
        store: as of `Engine.run`.
        patience: as of `Serial`.
    """
    left, tried, succeeded = tasks, 0, False
    while len(left):
        held = []
        for task, done in spread(partial(_attempt, store=store), left):
            if done is None:
                held.append(task)
                continue
            tried += 1
            succeeded |= done.failure is None
            if done.failure and not succeeded and tried >= min(patience, len(tasks)):
                raise _hopeless(done, tried, len(tasks))
            yield done
        if len(held) == len(left):
            with store.claim(held[0].key, wait=True):
                pass  # whoever held it has finished it, or is gone
        left = held


def _attempt(task: Any, store: Store) -> tuple[Any, Done | None]:
    """A task, with what came of it unless another process is at it."""
    if not store.keeps_parts:
        return task, run_task(task, store)
    if (known := _known(task, store)) is not None:
        return task, known
    with store.claim(task.key) as mine:
        # it may have been finished since we looked
        return task, (_known(task, store) or run_task(task, store)) if mine else None


def run_task(task: Any, store: Store) -> Done:
    """Do a task, and save its result, or that it failed, where the store keeps parts."""
    try:
        value = _try(task)
    except SKIPPED as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        failure = Failure(task.place, reason)
        if store.keeps_parts:
            store.save(failed(task), failure)
        return Done(task, failure=failure)
    if store.keeps_parts:
        store.save(task.key, value)
    return Done(task, value)


def failed(task: Any) -> str:
    """Return the key of the record that a task failed."""
    return f"failed-{task.key}"


def _known(task: Any, store: Store) -> Done | None:
    if store.has(task.key):
        return Done(task, reused=True)
    failure = store.load(failed(task))
    return None if failure is None else Done(task, failure=failure, reused=True)


def _try(task: Any) -> Any:
    """Do a task; where time or less memory may help, again."""
    pauses = iter(PAUSES_S)
    while True:
        try:
            return task()
        except PASSING:
            if (pause := next(pauses, None)) is None:
                raise
            time.sleep(pause)
        except (MemoryError, RuntimeError) as error:
            if not (isinstance(error, MemoryError) or _MEMORY.search(str(error))) or (less := task.lighter()) is None:
                raise
            task = less


def _hopeless(done: Done, tried: int, count: int) -> RunError:
    assert done.failure is not None
    again = "; it failed in an earlier run, too: --retry-failed tries again" if done.reused else ""
    return RunError(
        f"the first {tried} of {count} windows failed, the last ({done.failure.place}) with {done.failure.reason}; "
        f"nothing is written{again}"
    )

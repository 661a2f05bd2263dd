"""A sweep: tasks done by an engine, their results gathered to one value, once for all processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd

from hybridseg.run.engine import Engine, run_task
from hybridseg.run.progress import Progress
from hybridseg.run.store import Store
from hybridseg.types import Failure, Sweep

Results = Iterator[tuple[Any, Any]]
"""Tasks with their results."""


@dataclass
class Tally:
    """Counts what a sweep does.

    windows: that it has.
    """

    windows: int
    failures: dict[str, Failure] = field(default_factory=dict)
    reused: int = 0
    begun: float = field(default_factory=time.monotonic)

    def sweep(self) -> Sweep:
        """Return the counts; failures by place."""
        ordered = tuple(sorted(self.failures.values(), key=lambda failure: failure.place))
        return Sweep(self.windows, 0, time.monotonic() - self.begun, ordered, self.reused)


@dataclass(frozen=True)
class Sweeps:
    """Makes values of tasks.

    store: has values and, where it keeps them, results of single tasks.
    engine: runs the tasks.
    progress: is told how far each sweep is.
    """

    store: Store
    engine: Engine
    progress: Progress

    def value(self, key: str, name: str, tasks: Sequence[Any], gather: Callable[[Results], Any]) -> tuple[Any, Sweep]:
        """Return the value under a key, and how it came about.

        Args:
            key: of the value. With failures it is another value than the key says, and not saved.
            name: of the sweep, for people.
            tasks: all that the value is made of.
            gather: makes the value of their results, in any order, without those that failed.

        Raises:
            RunError: the tasks failed.
        """
        if (known := self.store.load(key)) is not None:
            return known, Sweep(len(tasks), reused=len(tasks))
        tally = Tally(len(tasks))
        results = self.results(name, tasks, tally)
        with self.store.claim(key, wait=True):
            known = self.store.load(key) if self.store.keeps_parts else None
            value = gather(results) if known is None else known
            if known is None and not tally.failures:
                self.store.save(key, value)
                if self.store.keeps_parts:  # what is temporary may be removed by a process that joins a day later
                    value = self.store.load(key) or value
        return value, tally.sweep()

    def results(self, name: str, tasks: Sequence[Any], tally: Tally) -> Results:
        """Return tasks with their results, and count.

        Where the store keeps parts, all tasks are done when this returns, and results are read as they are asked for.
        """
        done = self._done(name, tasks, tally)
        if not self.store.keeps_parts:
            return done
        for _ in done:
            pass
        return self._stored(tasks, tally)

    def _done(self, name: str, tasks: Sequence[Any], tally: Tally) -> Results:
        self.progress.start(name, len(tasks))
        for done in self.engine.run(tasks, self.store):
            tally.reused += done.reused
            self.progress.step(len(done.value) if isinstance(done.value, gpd.GeoDataFrame) else 0)
            if done.failure is not None:
                tally.failures[done.task.key] = done.failure
            else:
                yield done.task, done.value

    def _stored(self, tasks: Sequence[Any], tally: Tally) -> Results:
        for task in tasks:
            if task.key in tally.failures:
                continue
            if (value := self.store.load(task.key)) is not None:
                yield task, value
                continue
            again = run_task(task, self.store)  # its file is damaged
            if again.failure is not None:
                tally.failures[task.key] = again.failure
            else:
                yield task, again.value

"""An engine whose workers are actors of Ray: processes that hold the models, on one machine or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from typing import Any

from hybridseg.errors import HybridsegError
from hybridseg.run.engine import Done, run_by
from hybridseg.run.store import Store
from hybridseg.types import Failure

_AGAIN = 3
"""How often a task is done again whose worker was lost: one that takes all memory of its machine ends each."""
_STORE_BYTES = 256 << 20
"""Ray's memory for what travels: tasks and tables of one window."""


@dataclass(frozen=True)
class Ray:
    """Runs tasks in actors: a GPU each where the cluster has any, else a core each.

    Tasks travel by the names of their models and the paths of their scenes, so all machines must see these; pixels do
    not travel, and where the store keeps parts no result does. The tasks of a worker that was lost are done again. The
    cluster is that of `RAY_ADDRESS`; without it one starts on this machine.

    workers: tasks at once; None: as many as the cluster has GPUs, or else cores.
    patience: as of `Serial`.
    """

    workers: int | None = None
    patience: int = 5

    def __post_init__(self) -> None:
        if find_spec("ray") is None:
            raise HybridsegError("the engine ray needs Ray; install hybridseg[ray], or give serial or threads")
        # both are read when Ray is imported: it would report its use to its makers, and under `uv run` make each
        # worker an environment of its own
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

    def run(self, tasks: Sequence[Any], store: Store) -> Iterator[Done]:
        """Yield every task once, as they are done, those last that another process holds."""
        return run_by(self._map, tasks, store, self.patience)

    def _map(self, attempt: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        """As `map`, in any order. A worker gets its next task when it is free: else both would be lost with it."""
        import ray

        free = list(_workers(self.workers))
        work, left = ray.put(attempt), iter(tasks)
        running: dict[Any, tuple[Any, Any]] = {}
        while True:
            while free and (task := next(left, None)) is not None:
                worker = free.pop(0)
                running[worker.do.remote(work, task)] = task, worker
            if not running:
                return
            (first, *_), _ = ray.wait(list(running))
            task, worker = running.pop(first)
            free.append(worker)
            try:
                done = ray.get(first)
            except ray.exceptions.RayActorError as error:
                lost = f"its worker was lost {_AGAIN + 1} times: {' '.join(str(error).split())[:200]}"
                done = Done(None, failure=Failure(task.place, lost))
            yield task, None if done is None else replace(done, task=task)


@cache
def _workers(count: int | None) -> list[Any]:
    """Start the cluster, if there is none, and its workers, once in a process: opening models takes seconds."""
    import ray

    if not ray.is_initialized():
        here: Any = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": count, "object_store_memory": _STORE_BYTES}
        ray.init(include_dashboard=False, log_to_driver=False, **here)
    there = ray.cluster_resources()
    gpus = int(there.get("GPU", 0))
    number = count or gpus or int(there.get("CPU", 1))
    needs = {"num_gpus": min(1.0, gpus / number)} if gpus else {"num_cpus": 1}
    lasting = ray.remote(_Worker).options(max_restarts=-1, max_task_retries=_AGAIN, **needs)
    return [lasting.remote() for _ in range(number)]


class _Worker:
    """Does tasks in a process of its own, which keeps the models that it has opened; Ray gives it its cores."""

    def do(self, attempt: Callable[[Any], Any], task: Any) -> Done | None:
        """Return what came of a task, without it, and without its result where the store has that."""
        _, done = attempt(task)
        kept = attempt.keywords["store"].keeps_parts  # type: ignore[attr-defined]
        return None if done is None else replace(done, task=None, value=None if kept else done.value)

    def process(self) -> int:
        """Return the id of its process."""
        return os.getpid()

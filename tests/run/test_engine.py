from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import geopandas as gpd
import pytest
import shapely
from rasterio.errors import RasterioIOError
from shapely.errors import GEOSException

from hybridseg.errors import OutputError, RunError, SourceError, SourceUnavailable
from hybridseg.run import store as store_module
from hybridseg.run.engine import SKIPPED, Done, Engine, Serial, Threads, run_task
from hybridseg.run.store import Folder, Memory, key_of
from hybridseg.types import Failure

ENGINES = [Serial(), Threads(2)]


@dataclass(frozen=True)
class Job:
    """A task that gives one row, or raises."""

    number: int
    error: BaseException | None = None
    calls: list[int] = field(default_factory=list, compare=False)

    @property
    def key(self) -> str:
        return key_of("rows", self.number)

    @property
    def place(self) -> str:
        return f"window {self.number}"

    def lighter(self) -> None:
        return None

    def __call__(self) -> gpd.GeoDataFrame:
        self.calls.append(self.number)
        if self.error is not None:
            raise self.error
        return gpd.GeoDataFrame({"number": [self.number]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32645")


def jobs(outcomes: str) -> list[Job]:
    """A job for each letter: x fails, any other letter succeeds."""
    return [Job(k, RuntimeError(f"no luck\nwith {k}") if letter == "x" else None) for k, letter in enumerate(outcomes)]


def letters(done: Sequence[Done]) -> str:
    return "".join("x" if each.failure else "o" for each in done)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_every_task_is_done_once_in_order(engine: Engine) -> None:
    tasks = jobs("oooo")
    done = list(engine.run(tasks, Memory()))
    assert [each.task for each in done] == tasks
    assert [each.value["number"].tolist() for each in done] == [[0], [1], [2], [3]]
    assert [task.calls for task in tasks] == [[0], [1], [2], [3]]
    assert list(engine.run([], Memory())) == []


@pytest.mark.parametrize("outcomes", ["xo", "xxxxo", "ox", "oxxxxxxxx", "xoxxxxxxx", "xxxxoxxxxx"])
@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_a_failure_is_skipped_and_listed(engine: Engine, outcomes: str) -> None:
    tasks = jobs(outcomes)
    done = list(engine.run(tasks, Memory()))
    assert letters(done) == outcomes
    assert [each.task for each in done] == tasks
    for each in done:
        if each.failure:
            assert each.failure == Failure(each.task.place, f"RuntimeError: no luck with {each.task.number}")
            assert each.value is None


@pytest.mark.parametrize(
    ("outcomes", "patience", "tried"),
    [("xxxxxooo", 5, 5), ("xxxxxxxx", 5, 5), ("xxo", 2, 2), ("xxx", 5, 3), ("x", 5, 1), ("xxxxx", 5, 5), ("xo", 1, 1)],
)
def test_failures_at_the_start_end_the_run(outcomes: str, patience: int, tried: int) -> None:
    tasks, done = jobs(outcomes), []
    said = rf"the first {tried} of {len(outcomes)} windows failed, the last \(window {tried - 1}\) with .*no luck"
    with pytest.raises(RunError, match=said) as caught:
        done.extend(Serial(patience=patience).run(tasks, Memory()))
    assert "\n" not in str(caught.value)
    assert sum(len(task.calls) for task in tasks) == tried, "the others are not tried"


def test_results_from_the_store_are_successes(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    list(Serial().run(jobs("o"), store))
    tasks = [Job(0, RuntimeError("not asked")), *jobs("oxxxxxxx")[1:]]
    assert letters(list(Serial(patience=2).run(tasks, store))) == "oxxxxxxx"


@pytest.mark.parametrize(
    "error",
    [
        OSError("disk"),
        MemoryError(),
        RasterioIOError("block"),
        SourceError("damaged"),
        RuntimeError("out of memory"),
        GEOSException("side location conflict"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_be_of_the_place_is_skipped(error: Exception) -> None:
    done = run_task(Job(0, error), Memory())
    assert done.failure is not None
    assert done.failure.reason.startswith(type(error).__name__)
    assert isinstance(error, SKIPPED)


@pytest.mark.parametrize("error", [TypeError("fault"), KeyError("fault"), KeyboardInterrupt(), SystemExit(143)])
@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_faults_and_signals_are_not(engine: Engine, error: BaseException) -> None:
    with pytest.raises(type(error)):
        list(engine.run([Job(0, error), Job(1)], Memory()))


def test_a_reason_is_one_short_line() -> None:
    done = run_task(Job(0, RuntimeError("a\n\tb  c " + "long " * 200)), Memory())
    assert done.failure is not None
    assert done.failure.reason.startswith("RuntimeError: a b c long")
    assert len(done.failure.reason) < 330


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_a_folder_saves_parts_and_memory_does_not(engine: Engine, tmp_path: Path) -> None:
    for store, again in ((Folder(tmp_path), 1), (Memory(), 2)):
        task = Job(3)
        (first,), (second,) = (list(engine.run([task], store)) for _ in range(2))
        assert len(task.calls) == again
        assert first.value["number"].tolist() == [3]
        assert (first.reused, second.reused) == (False, again == 1)
        assert second.value is None if second.reused else second.value["number"].tolist() == [3]


def test_a_failure_is_remembered_until_it_is_forgotten(tmp_path: Path) -> None:
    store = Folder(tmp_path)
    tasks = [Job(0), Job(1, RuntimeError("no luck"))]
    first = list(Serial().run(tasks, store))
    again = list(Serial().run([Job(0), Job(1)], store))
    assert [done.failure for done in again] == [done.failure for done in first]
    assert [done.reused for done in again] == [True, True]
    store.forget_failures()
    assert [done.failure for done in Serial().run([Job(0), Job(1)], store)] == [None, None]


def test_failures_of_an_earlier_run_say_how_to_try_again(tmp_path: Path) -> None:
    for said in ("nothing is written$", "--retry-failed tries again"):
        with pytest.raises(RunError, match=said):
            list(Serial().run(jobs("xx"), Folder(tmp_path)))


@dataclass(frozen=True)
class Heavy(Job):
    """A task that needs less memory in smaller steps."""

    batch: int = 8

    def lighter(self) -> Heavy | None:
        return replace(self, batch=self.batch // 2) if self.batch > 1 else None

    def __call__(self) -> gpd.GeoDataFrame:
        self.calls.append(self.batch)
        if self.error is not None and self.batch > 2:
            raise self.error
        return gpd.GeoDataFrame({"number": [0]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32645")


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("CUDA out of memory. Tried"), RuntimeError("DefaultCPUAllocator: can't allocate")],
)
def test_what_lacks_memory_is_done_in_smaller_steps(error: Exception) -> None:
    task = Heavy(0, error)
    assert run_task(task, Memory()).failure is None
    assert task.calls == [8, 4, 2]
    other = Heavy(0, RuntimeError("shapes differ"))
    assert run_task(other, Memory()).failure is not None
    assert other.calls == [8]


@dataclass(frozen=True)
class Flaky(Job):
    """A task whose server fails so many times."""

    times: int = 1

    def __call__(self) -> gpd.GeoDataFrame:
        if len(self.calls) < self.times:
            self.calls.append(0)
            raise SourceUnavailable("timed out")
        return super().__call__()


@pytest.mark.parametrize(("times", "fails"), [(1, False), (2, False), (3, True), (9, True)])
def test_a_server_that_fails_is_asked_again_but_not_for_ever(
    times: int, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybridseg.run.engine.PAUSES_S", (0.01, 0.01))
    task = Flaky(0, times=times)
    assert (run_task(task, Memory()).failure is not None) == fails
    assert len(task.calls) == 3 if fails else times + 1


# --- several at once --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Meets(Job):
    """A task that ends when another runs at the same time."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(2), compare=False)

    def __call__(self) -> gpd.GeoDataFrame:
        self.barrier.wait(10)
        return super().__call__()


def test_threads_run_tasks_at_the_same_time_and_no_more_than_asked() -> None:
    barrier, before = threading.Barrier(2), set(threading.enumerate())
    done = list(Threads(2).run([Meets(k, barrier=barrier) for k in range(6)], Memory()))
    assert [each.failure for each in done] == [None] * 6
    assert set(threading.enumerate()) <= before


def test_threads_do_not_run_far_ahead_of_who_takes_the_results() -> None:
    tasks = jobs("o" * 50)
    results = Threads(2).run(tasks, Memory())
    next(results)
    time.sleep(0.1)
    assert sum(len(task.calls) for task in tasks) <= 5
    results.close()


def test_what_another_process_holds_comes_last_and_is_not_done_twice(tmp_path: Path) -> None:
    tasks, store = jobs("ooo"), Folder(tmp_path)
    held, release = threading.Event(), threading.Event()

    def other() -> None:
        with Folder(tmp_path).claim(tasks[0].key) as mine:
            assert mine
            held.set()
            release.wait(10)
            store.save(tasks[0].key, tasks[0]())

    thread = threading.Thread(target=other)
    thread.start()
    held.wait(10)
    results = Serial().run(tasks, store)
    assert [next(results).task for _ in range(2)] == tasks[1:]
    release.set()
    (last,) = results
    assert last.task is tasks[0]
    assert last.reused
    assert [task.calls for task in tasks] == [[0], [1], [2]]
    thread.join()


def test_the_claims_of_a_process_that_was_killed_are_taken_over(tmp_path: Path) -> None:
    task = Job(0)
    ask = (
        "import os, signal, sys; from pathlib import Path; from hybridseg.run.store import Folder\n"
        "with Folder(Path(sys.argv[1])).claim(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", ask, str(tmp_path), task.key], check=False, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "claims" / task.key).exists()
    assert [each.failure for each in Serial().run([task], Folder(tmp_path))] == [None]
    assert task.calls == [0]


def test_a_claim_that_nobody_signed_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process leaves it that is killed while it makes the file."""
    monkeypatch.setattr(store_module, "SIGNED_S", 1.0)
    store, key = Folder(tmp_path), Job(0).key
    empty = tmp_path / "claims" / key
    empty.parent.mkdir()
    empty.touch()
    with store.claim(key) as mine:
        assert not mine, "whoever made it may be about to sign it"
    with store.claim(key, wait=True) as mine:
        assert mine
        assert empty.read_bytes()


FOREIGN = """
import socket, sys, time
socket.gethostname = lambda: "elsewhere"
from pathlib import Path
from hybridseg.run import store
store.LEASE_S = 2.0
with store.Folder(Path(sys.argv[1])).claim(sys.argv[2]) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


def test_claims_of_another_machine_hold_as_long_as_they_are_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a process there nobody here can tell whether it runs."""
    monkeypatch.setattr(store_module, "LEASE_S", 2.0)
    store, key = Folder(tmp_path), Job(0).key
    command = [sys.executable, "-c", FOREIGN, str(tmp_path), key]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        taken = threading.Event()

        def wait() -> None:
            with store.claim(key, wait=True) as mine:
                assert mine
                taken.set()

        thread = threading.Thread(target=wait)
        thread.start()
        assert not taken.wait(5), "it is renewed"
        other.kill()
        begun = time.monotonic()
        assert taken.wait(30)
        assert time.monotonic() - begun > 1, "it may still have been at work"
        thread.join()


def test_a_store_that_is_full_ends_the_run_in_one_line(tmp_path: Path) -> None:
    store, task = Folder(tmp_path), Job(3)
    (tmp_path / f"{task.key}.parquet").mkdir()
    with pytest.raises(OutputError) as caught:
        list(Serial().run([task], store))
    assert "\n" not in str(caught.value)

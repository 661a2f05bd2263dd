from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import geopandas as gpd
import pytest
import shapely
from rasterio.errors import RasterioIOError

from hybridseg.errors import OutputError, RunError, SourceError
from hybridseg.run.engine import SKIPPED, Done, Serial, run_task
from hybridseg.run.store import Folder, Memory, key_of
from hybridseg.types import Failure


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


def test_every_task_is_done_once_in_order() -> None:
    tasks = jobs("oooo")
    done = list(Serial().run(tasks, Memory()))
    assert [each.task for each in done] == tasks
    assert [each.value["number"].tolist() for each in done] == [[0], [1], [2], [3]]
    assert [task.calls for task in tasks] == [[0], [1], [2], [3]]
    assert list(Serial().run([], Memory())) == []


@pytest.mark.parametrize("outcomes", ["xo", "xxxxo", "ox", "oxxxxxxxx", "xoxxxxxxx", "xxxxoxxxxx"])
def test_a_failure_is_skipped_and_listed(outcomes: str) -> None:
    tasks = jobs(outcomes)
    done = list(Serial(patience=5).run(tasks, Memory()))
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
    [OSError("disk"), MemoryError(), RasterioIOError("block"), SourceError("damaged"), RuntimeError("out of memory")],
    ids=lambda error: type(error).__name__,
)
def test_what_may_be_of_the_place_is_skipped(error: Exception) -> None:
    done = run_task(Job(0, error), Memory())
    assert done.failure is not None
    assert done.failure.reason.startswith(type(error).__name__)
    assert isinstance(error, SKIPPED)


@pytest.mark.parametrize("error", [TypeError("fault"), KeyError("fault"), KeyboardInterrupt(), SystemExit(143)])
def test_faults_and_signals_are_not(error: BaseException) -> None:
    with pytest.raises(type(error)):
        list(Serial().run([Job(0, error), Job(1)], Memory()))


def test_a_reason_is_one_short_line() -> None:
    done = run_task(Job(0, RuntimeError("a\n\tb  c " + "long " * 200)), Memory())
    assert done.failure is not None
    assert done.failure.reason.startswith("RuntimeError: a b c long")
    assert len(done.failure.reason) < 330


def test_a_folder_saves_parts_and_memory_does_not(tmp_path: Path) -> None:
    for store, again in ((Folder(tmp_path), 1), (Memory(), 2)):
        task = Job(3)
        first, second = run_task(task, store), run_task(task, store)
        assert len(task.calls) == again
        assert first.value["number"].tolist() == second.value["number"].tolist() == [3]


def test_a_failure_is_not_saved(tmp_path: Path) -> None:
    assert run_task(Job(3, RuntimeError()), Folder(tmp_path)).failure
    assert run_task(Job(3), Folder(tmp_path)).failure is None


def test_a_store_that_is_full_ends_the_run_in_one_line(tmp_path: Path) -> None:
    store, task = Folder(tmp_path), Job(3)
    (tmp_path / f"{task.key}.parquet").mkdir()
    with pytest.raises(OutputError) as caught:
        list(Serial().run([task], store))
    assert "\n" not in str(caught.value)

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import geopandas as gpd
import pytest
import shapely

from hybridseg.errors import HybridsegError
from hybridseg.run import actors
from hybridseg.run.actors import Ray
from hybridseg.run.extract import extract
from hybridseg.run.store import Folder, Memory, Store, key_of
from hybridseg.types import Failure
from tests.run.test_engine import jobs, letters
from townscape import render_town

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: hybridseg[ray]"),
    pytest.mark.filterwarnings("ignore"),  # Ray leaves sockets and files to the garbage collector
]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A cluster on this machine, whose workers find these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(actors, "_AGAIN", 1)  # a worker takes seconds to come back
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        patch.delenv("RAY_ADDRESS", raising=False)
        actors._workers.cache_clear()
        yield
        import ray  # here and not above: the engine says how, before Ray is imported

        ray.shutdown()
        actors._workers.cache_clear()


@dataclass(frozen=True)
class Deadly:
    """A task that kills its process, the first time or always, and leaves a mark of each time."""

    folder: Path
    always: bool = False

    @property
    def key(self) -> str:
        return key_of("rows", "deadly", str(self.folder))

    @property
    def place(self) -> str:
        return "window 9"

    def lighter(self) -> None:
        return None

    def __call__(self) -> gpd.GeoDataFrame:
        tried = len(list(self.folder.glob("tried-*")))
        (self.folder / f"tried-{tried}").touch()
        if self.always or not tried:
            os.kill(os.getpid(), signal.SIGKILL)
        return gpd.GeoDataFrame({"number": [9]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32645")


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Memory() if request.param == "memory" else Folder(tmp_path / "run")


def test_every_task_is_done_once_in_other_processes(store: Store) -> None:
    tasks = jobs("ooxoo")
    done = list(Ray(2).run(tasks, store))
    assert sorted(each.task.number for each in done) == [0, 1, 2, 3, 4]
    assert letters(sorted(done, key=lambda each: each.task.number)) == "ooxoo"
    assert [task.calls for task in tasks] == [[]] * 5, "nothing was done in this process"
    if store.keeps_parts:
        assert [store.load(task.key)["number"].tolist() for task in tasks if not task.error] == [[0], [1], [3], [4]]
        assert all(each.value is None for each in done), "results do not travel"
        assert all(each.reused for each in Ray(2).run(tasks, store))
    else:
        assert sorted(each.value["number"].item() for each in done if not each.failure) == [0, 1, 3, 4]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_the_task_of_a_lost_worker_is_done_again(tmp_path: Path) -> None:
    tasks = [*jobs("oo"), Deadly(tmp_path), *jobs("oooo")[2:]]
    done = list(Ray(2).run(tasks, Memory()))
    assert letters(done) == "ooooo"
    assert {each.task.key for each in done} == {task.key for task in tasks}
    assert len(list(tmp_path.glob("tried-*"))) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_workers_that_are_killed_from_outside_come_back(tmp_path: Path) -> None:
    workers = actors._workers(2)
    import ray

    before = [ray.get(worker.process.remote()) for worker in workers]
    for process in before:
        os.kill(process, signal.SIGKILL)
    assert letters(list(Ray(2).run(jobs("oooo"), Folder(tmp_path / "run")))) == "oooo"
    assert not set(before) & {ray.get(worker.process.remote()) for worker in workers}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_task_that_ends_every_worker_fails_and_the_others_do_not(tmp_path: Path) -> None:
    done = list(Ray(2).run([*jobs("oo"), Deadly(tmp_path, always=True)], Memory()))
    assert sorted(letters(done)) == ["o", "o", "x"]
    (failure,) = (each.failure for each in done if each.failure)
    assert isinstance(failure, Failure)
    assert failure.place == "window 9"
    assert failure.reason.startswith("its worker was lost 2 times")
    assert len(list(tmp_path.glob("tried-*"))) == 2


def test_a_map_made_by_ray_is_the_same(tmp_path: Path) -> None:
    scene, _ = render_town(192, 0.3, seed=3, density=0.7).write(tmp_path)
    plain, spread = (
        extract(scene, theme="buildings", engine=engine, device="cpu", runtime="torch") for engine in ("serial", "ray")
    )
    assert len(plain.features) > 5
    assert spread.summary.failures == ()
    assert spread.features["id"].tolist() == plain.features["id"].tolist()
    iou = plain.features.intersection(spread.features).area / plain.features.union(spread.features).area
    assert iou.min() > 0.98, "an actor computes with another number of threads"


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors, "find_spec", lambda _: None)
    with pytest.raises(HybridsegError, match=r"hybridseg\[ray\]"):
        Ray(2)

"""Runs that are killed go on, and runs share their work: real processes, real signals, doubles for the networks."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from hybridseg import extract, load_theme
from hybridseg.run.result import Result
from hybridseg.shape import AsTraced
from hybridseg.write.result import read_result
from tests.rasters import make
from tests.run import worker
from townscape import render_town

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.run.worker"])
PAUSE_S = 0.1


class Place:
    """A scene with 49 bright blocks, and processes that extract them."""

    def __init__(self, folder: Path) -> None:
        image = np.full((3, 448, 448), 40, np.uint8)
        for row in range(7):
            for col in range(7):
                image[:, 64 * row + 16 : 64 * row + 40 + col, 64 * col + 16 : 64 * col + 40 + row] = 220
        self.folder, self.scene, self.theme = folder, make("utm", folder, image, 0.3), folder / "mine.yaml"
        self.run, self.out, self.log = folder / "run", folder / "map.gpkg", folder / "log"
        theme = load_theme("buildings").model_copy(update={"name": "mine", "shape": AsTraced()})
        self.theme.write_text(theme.to_yaml())

    def start(self, engine: str = "serial") -> ForkServerProcess:
        given = (self.scene, self.out, self.theme, self.run, self.log, PAUSE_S, engine)
        process = processes.Process(target=worker.work, args=given)
        process.start()
        return process

    def alone(self) -> gpd.GeoDataFrame:
        """The features of a process that nobody disturbs."""
        out, log = self.folder / "alone.gpkg", self.folder / "alone" / "log"
        log.parent.mkdir()
        worker.work(self.scene, out, self.theme, None, log, 0.0, "serial")
        return read_result(out)

    def summary(self, process: ForkServerProcess) -> dict:
        return json.loads((self.folder / f"{process.pid}.json").read_text())

    def encoded(self) -> list[str]:
        return [line.partition(" ")[2] for line in self.log.read_text().splitlines()]

    def wait_for_windows(self, count: int) -> None:
        until = time.monotonic() + 60
        while not self.log.exists() or len(self.encoded()) < count:
            assert time.monotonic() < until, "nothing happens"
            time.sleep(0.01)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def same(one: gpd.GeoDataFrame, other: gpd.GeoDataFrame) -> None:
    assert one["id"].is_unique
    assert one["id"].tolist() == other["id"].tolist()
    assert shapely.equals_exact(one.geometry.to_numpy(), other.geometry.to_numpy(), 0).all()
    assert one.drop(columns="geometry").equals(other.drop(columns="geometry"))


@pytest.mark.parametrize("engine", ["serial", "threads"])
def test_a_run_that_was_killed_goes_on(place: Place, engine: str) -> None:
    moments, kills = random.Random(engine), 4
    for _ in range(kills):
        before = len(place.encoded()) if place.log.exists() else 0
        process = place.start(engine)
        place.wait_for_windows(before + moments.randint(1, 6))
        time.sleep(moments.uniform(0, 2 * PAUSE_S))
        process.kill()
        process.join()
        assert process.exitcode == -9
        assert not place.out.exists()
    last = place.start(engine)
    last.join()
    assert last.exitcode == 0
    same(read_result(place.out), place.alone())
    summary, encoded = place.summary(last), place.encoded()
    assert summary["windows_reused"] > 1
    assert summary["windows_done"] + summary["windows_reused"] == summary["windows_refined"] + 1
    assert summary["doubled"] == 0
    at_once = 2 if engine == "threads" else 1
    assert len(encoded) <= len(set(encoded)) + kills * at_once, "a kill costs the windows at hand and no more"


def test_processes_share_a_run(place: Place) -> None:
    both = [place.start(), place.start()]
    for process in both:
        process.join()
        assert process.exitcode == 0
    same(read_result(place.out), place.alone())
    assert len(place.encoded()) == len(set(place.encoded())), "no window is done twice"
    one, two = map(place.summary, both)
    assert one["windows_refined"] == two["windows_refined"] == len(place.encoded())
    assert one["windows_done"] + two["windows_done"] == len(place.encoded()) + 1
    assert min(one["windows_done"], two["windows_done"]) > len(place.encoded()) / 4
    assert one["features"] == two["features"] == 49


def test_who_is_killed_leaves_its_work_to_the_other(place: Place) -> None:
    first, second = place.start(), place.start()
    place.wait_for_windows(5)
    first.kill()
    first.join()
    second.join()
    assert second.exitcode == 0
    same(read_result(place.out), place.alone())
    assert len(place.encoded()) <= len(set(place.encoded())) + 1


def test_a_result_that_stands_is_not_written_again(place: Place) -> None:
    stamps = []
    for change in (None, None, b"spoiled", None):
        if change is not None:
            place.out.write_bytes(change)
        process = place.start()
        process.join()
        assert process.exitcode == 0
        stamps.append(place.out.stat().st_mtime_ns)
    assert stamps[0] == stamps[1] < stamps[2] == stamps[3]
    assert len(read_result(place.out)) == 49


def test_a_run_may_go_on_by_another_runtime(tmp_path: Path) -> None:
    """The runtime is no part of a run's keys: of windows from both come the features of one."""
    pytest.importorskip("openvino")
    scene, _ = render_town(160, 0.3, seed=5, density=0.7).write(tmp_path)

    def made(out: str, runtime: str, run: str) -> Result:
        return extract(scene, tmp_path / out, run=tmp_path / run, device="cpu", runtime=runtime)

    begun = made("begun.gpkg", "torch", "run")
    parts = tmp_path / "run" / "parts"
    for path in (*parts.glob("refined-*"), *parts.glob("heatmap-*"), *parts.glob("prompts-*")):
        path.unlink()
    tasks = sorted([*parts.glob("part-*"), *parts.glob("rows-*")])
    for path in tasks[::2]:
        path.unlink()
    mixed = made("mixed.gpkg", "openvino", "run")
    assert mixed.summary.windows_done > 0
    assert mixed.summary.windows_reused > 0
    one, other = (result.features.sort_values("id", ignore_index=True) for result in (begun, mixed))
    assert one["id"].tolist() == other["id"].tolist()
    assert len(one) > 5
    np.testing.assert_allclose(other["iou_pred"], one["iou_pred"], atol=2e-3)
    shared = one.geometry.intersection(other.geometry).area / one.geometry.union(other.geometry).area
    assert shared.min() > 0.98

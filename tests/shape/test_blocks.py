"""Shaping block by block: every object once, with all that it may look at, and shaped as in the whole layer."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.features import rasterize, shapes

from hybridseg.rowfile import PackedRows
from hybridseg.run import shaping
from hybridseg.run.shaping import JoinTask, ShapeTasks, cut_and_measured
from hybridseg.shape import Buildings, Coverage, Rows, Shape
from hybridseg.shape.measure import blocks_of

GSD_M = 0.3


def scattered(crs: str, left: float, top: float, span: float) -> gpd.GeoSeries:
    """Boxes of many sizes over a square."""
    rng = np.random.default_rng(3)
    x, y = left + rng.uniform(0, span, 300), top - rng.uniform(0, span, 300)
    size = span * rng.uniform(0.001, 0.05, 300)
    return gpd.GeoSeries(shapely.box(x, y - size, x + size, y), crs=crs)


@pytest.mark.parametrize(
    "outlines",
    [scattered("EPSG:32645", 500_000, 3_000_000, 5_000), scattered("EPSG:4326", 7.48, 50.52, 0.05)],
    ids=["utm", "degrees, over four frames"],
)
def test_each_outline_is_in_one_block_and_all_near_ones_are_known(outlines: gpd.GeoSeries) -> None:
    around_m = 100.0
    blocks = list(blocks_of(outlines, 1000.0, around_m))
    assert len(blocks) > 10
    assert sorted(np.concatenate([core for core, _ in blocks])) == list(range(len(outlines)))
    metric = outlines.to_crs("EPSG:25832") if outlines.crs.is_geographic else outlines
    for core, known in blocks:
        assert set(core) <= set(known)
        # the other plane's scale is off by a few parts in ten thousand
        near = shapely.distance(metric.to_numpy(), shapely.union_all(metric.to_numpy()[core])) < 0.99 * around_m
        assert set(np.flatnonzero(near)) <= set(known)


def test_empty_outlines_have_a_block() -> None:
    outlines = gpd.GeoSeries([shapely.Polygon(), shapely.box(0, 0, 9, 9), None], crs="EPSG:32645")
    assert sorted(np.concatenate([core for core, _ in blocks_of(outlines, 1000.0, 0.0)])) == [0, 1, 2]
    assert list(blocks_of(outlines[:0], 1000.0, 0.0)) == []


def traced_town() -> gpd.GeoDataFrame:
    """Buildings as a mask gives them: turned rectangles, many of which touch, along pixels."""
    rng = np.random.default_rng(5)
    drawn = []
    for row in range(16):
        turn = rng.uniform(0, 90)
        for col in range(16):
            x, y = 15 * col + rng.uniform(-1, 1), 15 * row + rng.uniform(-1, 1)
            box = shapely.box(x, y, x + rng.uniform(8, 16), y + rng.uniform(6, 15))
            drawn.append(shapely.affinity.rotate(box, turn))
    to_world = Affine(GSD_M, 0, -20, 0, -GSD_M, 280)
    labels = rasterize(zip(drawn, range(1, 257), strict=True), (1000, 1000), transform=to_world, dtype=np.int32)
    to_utm = Affine(GSD_M, 0, 500_000, 0, -GSD_M, 3_000_000)
    found = [(shapely.geometry.shape(s), int(k)) for s, k in shapes(labels, mask=labels > 0, transform=to_utm)]
    frame = {"id": [f"b{k}-{n}" for n, (_, k) in enumerate(found)], "class": "building", "score": 0.9}
    figures = dict.fromkeys(("iou_pred", "stability", "agreement"), 0.9)
    return gpd.GeoDataFrame(frame | {"origin": "refined"} | figures, geometry=[s for s, _ in found], crs="EPSG:32645")


@pytest.mark.parametrize("stage", [Buildings(), Rows()])
def test_blocks_shape_as_the_whole_layer_does(stage: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    town, sizes = traced_town(), list[int]()
    shape = type(stage).shape

    def watched(self: Shape, features: gpd.GeoDataFrame, *args: float, **kwargs: float) -> gpd.GeoDataFrame:
        sizes.append(len(features))
        return shape(self, features, *args, **kwargs)

    monkeypatch.setattr(type(stage), "shape", watched)
    layer = JoinTask(town, False)()

    def shaped() -> gpd.GeoDataFrame:
        tasks = ShapeTasks.of(layer, stage, GSD_M, 0.0)
        return tasks.gather((each, each()) for each in tasks)

    monkeypatch.setattr(type(stage), "block_m", property(lambda _: None))
    whole = shaped()
    assert sizes.pop() == len(whole), "at once"
    monkeypatch.setattr(type(stage), "block_m", property(lambda _: 50.0))
    blocks = shaped()
    assert len(sizes) > 20
    assert max(sizes) < 0.8 * len(whole), "never all of them"
    assert blocks.drop(columns="geometry").equals(whole.drop(columns="geometry"))
    assert shapely.equals_exact(blocks.geometry.to_numpy(), whole.geometry.to_numpy(), 1e-6).all()


def test_of_what_shaping_drops_nothing_is_left() -> None:
    town = traced_town()
    tasks = ShapeTasks.of(town, Coverage(min_area_m2=float(np.median(town.area))), GSD_M, 0.0)
    made = tasks.gather((each, each()) for each in tasks)
    assert len(made) == len(town)
    left = cut_and_measured(made, ())
    assert 0 < len(left) < len(town)
    assert set(made["id"][made.geometry.is_empty]) == set(town["id"]) - set(left["id"])


def test_blocks_that_failed_stay_as_they_were_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Buildings, "block_m", property(lambda _: 50.0))
    town = traced_town()
    tasks = ShapeTasks.of(town, Buildings(), GSD_M, 0.0)
    first, *_ = tasks
    made = tasks.gather([(first, first())])
    others = np.setdiff1d(np.arange(len(town)), first.rows)
    assert 0 < len(others) < len(town)
    assert shapely.equals_exact(made.geometry.to_numpy()[others], town.geometry.to_numpy()[others], 0).all()
    assert not shapely.equals_exact(made.geometry.to_numpy(), town.geometry.to_numpy(), 0).all()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says how much memory a process has held")
def test_while_they_are_gathered_outlines_are_not_in_memory_twice() -> None:
    ask = "from tests.shape.test_blocks import room_of_gathering; print(room_of_gathering())"
    at = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, cwd=at)
    assert 1 < float(done.stdout) < 2, "1.6 as objects, 2.6 with all of them packed beside"


def room_of_gathering() -> float:
    """Most memory that gathering outlines of 501 corners takes, in what they take packed; for a process of its own."""
    shaping.AT_ONCE = 1000
    rows = np.arange(20_000)
    layer = gpd.GeoDataFrame({"id": rows}, geometry=shapely.points(rows, rows), crs="EPSG:32645")
    tasks = ShapeTasks(PackedRows.of(layer), [(some, some) for some in np.split(rows, 100)], Buildings(), GSD_M, 0.0)

    def results() -> Iterator[tuple[Any, gpd.GeoDataFrame]]:
        for task in tasks:
            yield task, task.outlines.assign(unshaped=None, geometry=task.outlines.buffer(1, 125))

    before = most_held()
    made = tasks.gather(results())
    return (most_held() - before) / (16 * shapely.get_num_coordinates(made.geometry.to_numpy()).sum())


def most_held() -> int:
    """Bytes; of this process alone, while `getrusage` counts what held the memory before it."""
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0])

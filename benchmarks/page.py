"""How soon the page of a review is ready and how it pans: `python -m benchmarks.page [--side 20000] [--objects 10000]`.

A scene of so many pixels a side (tiled, with overviews, JPEG) and a map of so many polygons are made in a folder that
goes afterwards.
Chromium draws without a graphics card here, so its frames are a lower bound; each view is panned with and without its
polygons, so that what they cost is known on a busy machine, too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from playwright.sync_api import Page, sync_playwright
from rasterio.enums import Resampling

from hybridseg.reviewing.desk import Desk
from hybridseg.reviewing.server.serving import Serving
from hybridseg.write.result import write_result

GSD_M, EAST, NORTH = 0.3, 360_000.0, 3_070_000.0
BLOCK = 2048
SOFTWARE = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def write_scene(path: Path, side: int) -> None:
    """Write blobs of colour, the same in each block."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 200, (3, BLOCK // 16, BLOCK // 16), dtype=np.uint8)
    block = coarse.repeat(16, axis=1).repeat(16, axis=2)
    profile = {
        "driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "crs": "EPSG:32645",
        "transform": rasterio.Affine(GSD_M, 0, EAST, 0, -GSD_M, NORTH), "tiled": True, "blockxsize": 512,
        "blockysize": 512, "compress": "jpeg", "photometric": "ycbcr",
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as scene:
        for row in range(0, side, BLOCK):
            for col in range(0, side, BLOCK):
                high, wide = min(BLOCK, side - row), min(BLOCK, side - col)
                window = rasterio.windows.Window(col, row, wide, high)
                scene.write(block[:, :high, :wide], window=window)
    with rasterio.open(path, "r+") as scene:
        scene.build_overviews([2, 4, 8, 16, 32, 64], Resampling.nearest)


def write_map(path: Path, side: int, count: int) -> None:
    """Write octagons of 10 m on a lattice."""
    rng, lines = np.random.default_rng(0), int(np.ceil(np.sqrt(count)))
    step = side * GSD_M / lines
    at = (np.stack(np.divmod(np.arange(count), lines), 1) + 0.5) * step
    shapes = shapely.buffer(shapely.points(EAST + at[:, 1], NORTH - at[:, 0]), min(5, step / 3), quad_segs=2)
    figures = {name: rng.uniform(0.3, 1, count) for name in ("score", "iou_pred", "stability", "agreement")}
    names = [f"building-{k}" for k in range(count)]
    columns = {"id": names, "class": "building", **figures, "origin": "refined", "area_m2": shapely.area(shapes)}
    write_result(gpd.GeoDataFrame(columns, geometry=shapes, crs="EPSG:32645"), path, {})


PAN = """() => new Promise((done) => {
  const { map } = review.scene; const times = []; let last = performance.now(), n = 0;
  const step = () => { const now = performance.now(); times.push(now - last); last = now;
    if (++n > 60) return done(times.slice(1)); map.panBy([12, 5], { animate: false }); requestAnimationFrame(step); };
  requestAnimationFrame(step); })"""


def main() -> None:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--objects", type=int, default=10_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scene, layer = Path(folder) / "scene.tif", Path(folder) / "map.gpkg"
        write_scene(scene, asked.side)
        write_map(layer, asked.side, asked.objects)
        begun, cpu = time.perf_counter(), time.process_time()
        with Desk.open(scene, layer, device="cpu") as desk:
            opened = time.perf_counter() - begun, time.process_time() - cpu
            serving = Serving(desk, page=True)
            thread = threading.Thread(target=serving.run, daemon=True)
            thread.start()
            found = _look(serving)
            serving.stop()
            thread.join(20)
    told = {"side_px": asked.side, "objects": asked.objects, "open_s": round(opened[0], 2)}
    print(json.dumps({**told, "open_cpu_s": round(opened[1], 2), **found, "load": round(os.getloadavg()[0], 1)}))


def _look(serving: Serving) -> dict[str, Any]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=SOFTWARE)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(240_000)
        begun, cpu = time.perf_counter(), time.process_time()
        page.goto(serving.address.link)
        page.wait_for_selector("body[data-ready=yes]")
        ready, ready_cpu = time.perf_counter() - begun, time.process_time() - cpu
        near = _pan(page, "review.scene.map.jumpTo({ zoom: review.scene.map.getZoom() - 3 })")
        dense = _pan(page, "review.scene.map.fitBounds(review.place.bounds, { animate: false })")
        browser.close()
    times = {"ready_s": round(ready, 2), "server_cpu_until_ready_s": round(ready_cpu, 2)}
    return {**times, "near": near, "whole_scene": dense}


def _pan(page: Page, go: str) -> dict[str, float]:
    """Times of frames in a view, and without its polygons: the same machine at the same time."""
    page.evaluate(go)
    page.wait_for_timeout(3000)
    found = {"polygons": page.evaluate("review.scene.features.size")}
    for name, hidden in (("", "false"), ("without_", "true")):
        page.evaluate(f"review.scene.hide({hidden})")
        page.wait_for_timeout(1000)
        times = sorted(page.evaluate(PAN))
        page.evaluate(go)
        for kind, place in (("median", len(times) // 2), ("p95", int(0.95 * len(times)))):
            found[f"{name}frame_{kind}_ms"] = round(times[place], 1)
    page.evaluate("review.scene.hide(false)")
    return found


if __name__ == "__main__":
    main()

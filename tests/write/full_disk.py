"""Writes results again and again under a limit of the size of files, and prints what became of each try.

Run as a script, in a process of its own: python full_disk.py FOLDER TRIES NAME... The limit stands for a disk that is
full: the system refuses to let a file grow, at a place that moves through the file from try to try.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely import LineString, Point, box

from hybridseg.errors import HybridsegError
from hybridseg.write.raster import write_classes
from hybridseg.write.result import read_result, write_result

UTM = "EPSG:32633"
MANY, FEW = 700, 10


def polygons(count: int, side: int = 30) -> gpd.GeoDataFrame:
    corners = np.random.default_rng(count).uniform(0, 970, (count, 2))
    numbers = dict.fromkeys(("score", "iou_pred", "stability", "agreement", "area_m2"), 0.5)
    return gpd.GeoDataFrame(
        {"id": [str(k) for k in range(count)], "class": "water", "origin": "coarse"} | numbers,
        geometry=[box(5e5 + x, 5e6 - y - side, 5e5 + x + side, 5e6 - y) for x, y in corners],
        crs=UTM,
    )


def write(path: Path, count: int) -> None:
    features = polygons(count)
    if path.suffix == ".tif":  # noise, so that its overviews make the file larger than what it is copied from
        geobox = GeoBox((1000, 1000), Affine(1, 0, 5e5, 0, -1, 5e6), UTM)
        noise = polygons(10 * count, side=4).assign(**{"class": [str(k % 100) for k in range(10 * count)]})
        write_classes(noise, path, geobox, [str(k) for k in range(100)], {"made": count})
    elif path.stem == "lines":
        lines = features.set_geometry([LineString(g.exterior.coords[:2]) for g in features.geometry], crs=UTM)
        nodes = gpd.GeoDataFrame({"id": features["id"]}, geometry=[Point(g.coords[0]) for g in lines.geometry], crs=UTM)
        write_result(lines[["id", "class", "geometry"]], path, {"made": count}, nodes=nodes)
    else:
        write_result(features, path, {"made": count})


def content(path: Path) -> list[Any]:
    """What a reader finds in the file."""
    if path.suffix != ".tif":
        layers = [] if path.suffix == ".parquet" else [n for n, kind in pyogrio.list_layers(path) if kind is not None]
        indexed = [pyogrio.read_info(path, layer=n)["capabilities"]["fast_spatial_filter"] for n in layers]
        return [indexed, [sorted(read_result(path, n)["id"]) for n in layers or [None]]]
    pixels = []
    for level in ({}, {"overview_level": 0}):
        with rasterio.open(path, **level) as source:
            pixels.append(source.read(1).tolist())
    return [pixels, path.with_name(f"{path.name}.aux.xml").read_text()]


def under_limit(work: Callable[[], Any], size: int) -> str:
    """What a piece of work ends with when no file may grow above a size: an error's one line, or nothing."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        work()
    except HybridsegError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    return ""


def main(path: Path, tries: int) -> None:
    path.parent.mkdir()
    write(path, MANY)
    wanted, whole = content(path), path.stat().st_size
    write(path, FEW)
    former = path.read_bytes()
    for size in np.linspace(0, 1.5 * whole, tries).astype(int).tolist():
        said = under_limit(lambda: write(path, MANY), size)
        kept = path.read_bytes() == former
        sound = kept or content(path) == wanted
        left = sorted(file.name for file in path.parent.iterdir())
        report = {"name": path.name, "size": size, "said": said, "kept": kept, "sound": sound, "left": left}
        sys.stdout.write(f"{json.dumps(report)}\n")
        if not kept:
            write(path, FEW)
            former = path.read_bytes()


if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    folder, times, *names = sys.argv[1:]
    for name in names:
        main(Path(folder) / name.replace(".", "_") / name, int(times))

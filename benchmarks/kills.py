"""Kill whole extractions at random moments and start them again: nothing may be lost, nothing doubled.

    python -m benchmarks.kills [KILLS [FORMAT ...]]      writes benchmarks/results/kills.json

For each format and engine, `hybridseg extract SCENE OUT --run FOLDER` runs as a process of its own that gets SIGKILL at
a moment drawn evenly from the time that a whole run takes, and is started again with the same command, until it ends
well; then its result is compared with that of a run that nobody disturbed, and the next begins in an empty folder.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import geopandas as gpd
import shapely

from benchmarks.accuracy import RESULTS
from hybridseg import Models, load_theme
from hybridseg.cli import main as hybridseg
from hybridseg.write.result import read_result
from townscape import render_town

FORMATS, ENGINES = ("gpkg", "parquet", "geojson", "fgb"), ("serial", "threads")
THEME = load_theme("buildings")

processes = multiprocessing.get_context("forkserver")


def start(scene: Path, out: Path, run: Path, engine: str) -> ForkServerProcess:
    """Start an extraction in a process of its own."""
    workers = ["--workers", "2"] if engine == "threads" else []
    command = ["extract", str(scene), str(out), "--run", str(run), "--engine", engine, *workers, "--device", "cpu"]
    process = processes.Process(target=_extract, args=(command,))
    process.start()
    return process


def _extract(command: list[str]) -> None:
    with open(os.devnull, "w") as sys.stdout:
        sys.exit(hybridseg(command))


def same(one: gpd.GeoDataFrame, other: gpd.GeoDataFrame) -> bool:
    """Whether two results hold the same features: each id once, all columns and all coordinates equal."""
    if not one["id"].is_unique or set(one["id"]) != set(other["id"]):
        return False
    one, other = (rows.sort_values("id", ignore_index=True) for rows in (one, other))
    values = one.drop(columns="geometry").equals(other.drop(columns="geometry"))
    return values and bool(shapely.equals_exact(one.geometry.to_numpy(), other.geometry.to_numpy(), 0).all())


def disturbed(scene: Path, folder: Path, suffix: str, engine: str, kills: int, wanted: gpd.GeoDataFrame) -> dict:
    """Kill extractions so often, and compare what the runs made in the end."""
    moments, killed, whole, equal = random.Random(f"{suffix}{engine}"), 0, 0, 0
    begun = time.monotonic()
    length_s = 0.0
    while killed < kills or not length_s:
        run, out = folder / "run", folder / f"map.{suffix}"
        while True:
            process, started = start(scene, out, run, engine), time.monotonic()
            process.join(moments.uniform(0, length_s) if length_s and killed < kills else None)
            if process.exitcode is not None:
                break
            process.kill()
            process.join()
            killed += 1
        length_s = length_s or time.monotonic() - started
        whole += 1
        equal += process.exitcode == 0 and same(read_result(out), wanted)
        print(suffix, engine, killed, whole, equal, round(time.monotonic() - begun), flush=True)
        shutil.rmtree(run)
        out.unlink(missing_ok=True)
    seconds = round(time.monotonic() - begun)
    return {"format": suffix, "engine": engine, "kills": killed, "runs": whole, "equal": equal, "seconds": seconds}


def keep(row: dict) -> None:
    """Put a row into the file of results, in place of a former one of its format and engine."""
    path = RESULTS / "kills.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    others = [other for other in rows if (other["format"], other["engine"]) != (row["format"], row["engine"])]
    path.write_text(json.dumps(sorted([*others, row], key=lambda r: (r["format"], r["engine"])), indent=1) + "\n")


def main(kills: int, formats: Sequence[str]) -> int:
    """Kill, compare, and write the result; 1 where a map differs."""
    lost = 0
    os.environ.setdefault("PYTHONWARNINGS", "ignore::RuntimeWarning:runpy")  # this module runs there under two names
    processes.set_forkserver_preload(["benchmarks.kills"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene, _ = render_town(160, 0.3, seed=5, density=0.7).write(folder)
        for suffix in formats:
            out = folder / f"whole.{suffix}"
            process = start(scene, out, folder / "whole", "serial")
            process.join()
            wanted = read_result(out)
            for engine in ENGINES:
                row = disturbed(scene, folder, suffix, engine, kills, wanted) | {"features": len(wanted)}
                print(row, flush=True)
                keep(row)
                lost += row["equal"] != row["runs"]
    return int(lost > 0)


if __name__ == "benchmarks.kills":
    # in the process that the others are forked from: they are killed at work, and not while torch and models load
    Models.open(THEME.classifier, THEME.refiner, "cpu")
elif __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20, sys.argv[2:] or FORMATS))

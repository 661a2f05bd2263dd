"""A run that is killed goes on where it was: nothing is lost, nothing doubled."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import geopandas as gpd
import shapely

from hybridseg import track
from hybridseg.cli import main
from tests.tracking.places import ASKED, write
from tests.tracking.test_track import FLAGS

PONDS = [(20, 20, 30, 30), (120, 120, 24, 40)]


def made_in(run: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(run))  # folders may vanish while one looks


def killed_at(command: list[str], run: Path, files: int) -> bool:
    """Whether a process was killed (SIGKILL) in its work, once its run's folder held so many files."""
    with subprocess.Popen([sys.executable, "-m", "hybridseg", *command], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and made_in(run) < files:
            time.sleep(0.005)
        process.kill()
    return process.returncode == -9


def test_a_killed_run_goes_on_and_gives_the_same(tmp_path):
    scenes = [write(tmp_path / f"place_{year}.tif", PONDS[: 1 + number % 2], (number % 2, 0))
              for number, year in enumerate((2009, 2012, 2016))]  # fmt: skip
    whole = track(scenes, tmp_path / "whole.gpkg", run=tmp_path / "whole", **ASKED)
    count = made_in(tmp_path / "whole")
    run, out = tmp_path / "run", tmp_path / "killed.gpkg"
    command = ["track", *map(str, scenes), str(out), *FLAGS, "--run", str(run), "--progress", "none"]
    assert all([killed_at(command, run, files) for files in (1, count // 3, 2 * count // 3)])  # each is tried
    assert not out.exists()
    assert main(command) == 0
    for layer, frame in (("objects", whole.objects), ("observations", whole.observations)):
        one, other = (gpd.read_file(tmp_path / f"{name}.gpkg", layer=layer) for name in ("whole", "killed"))
        assert len(one) == len(frame)
        assert one.drop(columns="geometry").equals(other.drop(columns="geometry"))
        drawn = one.geometry.notna().to_numpy()
        assert shapely.equals_exact(one.geometry[drawn].to_numpy(), other.geometry[drawn].to_numpy(), 0).all()

"""Two processes that share a run against one, each with a core of its own.

    python -m benchmarks.shared_run [TOWN_PX [REPEATS]]      writes benchmarks/results/shared_run.json

`hybridseg extract TOWN OUT --run FOLDER` is started once or twice at the same moment, each bound to one core and with
one thread; the time is that until the last one ends. What a process needs to start is measured with a run that is
finished, in which it finds nothing to do. Wall times: the machine must be idle otherwise, so its load stands beside.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.accuracy import RESULTS
from townscape import render_town

GSD_M = 0.5


def extract(scene: Path, folder: Path, cores: list[int]) -> float:
    """Seconds until the last of as many processes as there are cores has ended, all at one run in a folder."""
    command = [sys.executable, "-m", "hybridseg", "extract", str(scene), str(folder / "map.gpkg")]
    command += ["--run", str(folder / "run"), "--device", "cpu"]
    bound = [["taskset", "--cpu-list", str(core), *command] for core in cores]
    begun = time.monotonic()
    started = [subprocess.Popen(each, stdout=subprocess.DEVNULL, env=os.environ | ONE_THREAD) for each in bound]
    statuses = [process.wait() for process in started]
    assert not any(statuses), statuses
    return time.monotonic() - begun


ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def main(town_px: int, repeats: int) -> None:
    """Measure one process and two in turn, and write the result."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    load, alone, both, starts = os.getloadavg()[0], list[float](), list[float](), list[float]()
    with tempfile.TemporaryDirectory() as name:
        scene, _ = render_town(town_px, GSD_M, seed=5, density=0.7).write(Path(name))
        for number in range(repeats):
            one, two = Path(name) / f"one{number}", Path(name) / f"two{number}"
            one.mkdir()
            two.mkdir()
            alone.append(extract(scene, one, cores[:1]))
            both.append(extract(scene, two, cores))
            starts.append(extract(scene, one, cores[:1]))
            print(alone[-1], both[-1], starts[-1], flush=True)
    one_s, two_s, start_s = (statistics.median(times) for times in (alone, both, starts))
    result = {
        "town_px": town_px, "gsd_m": GSD_M, "repeats": repeats, "one_process_s": round(one_s, 1),
        "two_processes_s": round(two_s, 1), "start_s": round(start_s, 1), "times": round(one_s / two_s, 2),
        "times_without_start": round((one_s - start_s) / (two_s - start_s), 2), "load_before": round(load, 2),
    }  # fmt: skip
    (RESULTS / "shared_run.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1536, int(sys.argv[2]) if len(sys.argv) > 2 else 3)

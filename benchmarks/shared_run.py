"""Two processes that share a run against one, each with a core of its own.

    python -m benchmarks.shared_run [TOWN_PX [REPEATS]]      a row of benchmarks/results/shared_run.json

`hybridseg extract TOWN OUT --run FOLDER` is started once or twice at the same moment, each bound to one core and with
one thread; the time is that until the last one ends. Beside it: two processes with a run each, which is the most that
the machine gives; a run that is finished, in which a process finds nothing to do, which is what starting takes; and the
processor time of the slower process, which tells waiting from work. Wall times need an idle machine: its load stands
beside.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.accuracy import RESULTS
from townscape import render_town

GSD_M = 0.5
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Took:
    """Seconds until the last process ended, and seconds of processor time of the one with the most."""

    wall_s: float
    cpu_s: float


def extract(scene: Path, folders: list[Path]) -> Took:
    """Start a process for each folder of a run, each on a core of its own, and wait for all."""
    begun, started = time.monotonic(), list[int]()
    for core, folder in zip(sorted(os.sched_getaffinity(0)), folders, strict=False):
        folder.mkdir(exist_ok=True)
        command = ["hybridseg", "extract", str(scene), str(folder / "map.gpkg"), "--device", "cpu"]
        command = ["taskset", "--cpu-list", str(core), sys.executable, "-m", *command, "--run", str(folder / "run")]
        silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        started.append(os.posix_spawnp("taskset", command, os.environ | ONE_THREAD, file_actions=silent))
    ended = [os.wait4(pid, 0) for pid in started]
    assert len(ended) == len(folders), "there are fewer cores"
    assert not any(status for _, status, _ in ended), ended
    return Took(time.monotonic() - begun, max(used.ru_utime + used.ru_stime for *_, used in ended))


def main(town_px: int, repeats: int) -> None:
    """Measure each in turn, and write the medians."""
    load, took = os.getloadavg()[0], defaultdict[str, list[Took]](list)
    with tempfile.TemporaryDirectory() as name:
        scene, _ = render_town(town_px, GSD_M, seed=5, density=0.7).write(Path(name))
        for number in range(repeats):
            one, shared, other, third = (Path(name) / f"{kind}{number}" for kind in ("one", "shared", "other", "third"))
            asked = {"one": [one], "shared": [shared, shared], "apart": [other, third], "start": [one]}
            for kind, folders in asked.items():
                took[kind].append(extract(scene, folders))
                print(kind, took[kind][-1], flush=True)
    wall = {kind: median(each.wall_s for each in all_) for kind, all_ in took.items()}
    cpu = {kind: median(each.cpu_s for each in all_) for kind, all_ in took.items()}
    result = {
        "town_px": town_px, "gsd_m": GSD_M, "repeats": repeats, "wall_s": wall, "cpu_s": cpu,
        "times": wall["one"] / wall["shared"], "most_times": 2 * wall["one"] / wall["apart"],
        "times_without_start": (wall["one"] - wall["start"]) / (wall["shared"] - wall["start"]), "load_before": load,
    }  # fmt: skip
    path = RESULTS / "shared_run.json"
    others = [row for row in json.loads(path.read_text()) if row["town_px"] != town_px] if path.exists() else []
    path.write_text(json.dumps(sorted([*others, result], key=lambda row: row["town_px"]), indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1536, int(sys.argv[2]) if len(sys.argv) > 2 else 3)

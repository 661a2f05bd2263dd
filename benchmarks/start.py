"""What a small run costs beyond its work: processor time of a scene of 256 px, beside that of importing torch alone.

python -m benchmarks.start [--times 3]

Each command is a process of its own, run in turns, so that what else the machine does meets all alike; the least of
each counts. Networks are converted beforehand. "first window": until the models are open and the first window of the
scene is looked at. Writes benchmarks/results/start.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from townscape import render_town

RESULTS = Path(__file__).parent / "results" / "start.json"


def processor_s(command: list[str]) -> float:
    """Return the processor time that a command takes (s), its children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def to_first_window_s(command: list[str]) -> float:
    """Return the processor time until a run classifies its first window (s)."""
    ticks = os.sysconf("SC_CLK_TCK")
    with subprocess.Popen(
        [*command, "--progress", "json"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        for line in process.stderr or ():
            if json.loads(line)["sweep"] == "classify":
                fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
                process.kill()
                return (int(fields[11]) + int(fields[12])) / ticks  # utime and stime, fields 14 and 15
    raise RuntimeError("the run ended before it classified a window")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder:
        scene, _ = render_town(size_px=256, gsd_m=0.3, seed=7).write(Path(folder))
        run = [sys.executable, "-m", "hybridseg", "extract", str(scene), str(Path(folder) / "map.gpkg")]
        commands = {
            "import torch": [sys.executable, "-c", "import torch"],
            "hybridseg --help": [*run[:3], "--help"],
            "openvino": run,
            "torch": [*run, "--runtime", "torch"],
        }
        processor_s(run)  # converts the networks, where that was not done
        turns = [{name: processor_s(command) for name, command in commands.items()} for _ in range(times)]
        first = min(to_first_window_s(run) for _ in range(times))
    seconds = {name: round(min(turn[name] for turn in turns), 2) for name in commands} | {
        "first window": round(first, 2)
    }
    base = seconds["import torch"]
    ratios = {name: round(value / base, 2) for name, value in seconds.items() if name != "import torch"}
    found = {"processor_s": seconds, "times_import_torch": ratios, "times": times}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

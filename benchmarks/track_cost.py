"""What tracking costs by the number of dates: peak memory and CPU time of a process of its own for each.

python -m benchmarks.track_cost      writes benchmarks/results/track_cost.json and track_cost.md

A rendered town of 77 m at 4, 10 and 40 dates: its buildings are found and refined at each, and followed. Imports and
the loading of models count as warming up, not as seconds of a date.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.accuracy import RESULTS
from benchmarks.track_towns import render
from hybridseg import track

TOWN, SIDE_PX, COUNTS = 411, 256, (4, 10, 40)


def measure(dates: int) -> dict[str, Any]:
    """Follow houses through so many dates, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        place = render(TOWN, Path(folder), dates, SIDE_PX)
        before = time.process_time()
        track(place.files[:2], theme="buildings", clear_mask=place.masks[:2])  # models are in the user's memory now
        began = time.process_time()
        made = track(place.files, theme="buildings", clear_mask=place.masks)
        seconds, count = time.process_time() - began, len(made.observations)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "dates": dates, "objects": len(made.objects), "peak_mib": round(peak),
        "warm_up_cpu_s": round(began - before, 1), "cpu_s": round(seconds, 1),
        "cpu_s_per_date": round(seconds / dates, 2), "cpu_ms_per_object_and_date": round(1000 * seconds / count, 1),
    }  # fmt: skip


def main() -> None:
    """Measure each in a process of its own, and write."""
    rows = []
    for dates in COUNTS:
        command = [sys.executable, "-m", "benchmarks.track_cost", str(dates)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows.append(json.loads(said.strip().splitlines()[-1]))
        print(rows[-1], flush=True)
        (RESULTS / "track_cost.json").write_text(json.dumps(rows, indent=1) + "\n")
    heads = list(rows[0])
    text = ["# Cost of tracking", "", "By `python -m benchmarks.track_cost`.", ""]
    text += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    text += [f"| {' | '.join(str(row[head]) for head in heads)} |" for row in rows]
    (RESULTS / "track_cost.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]))))
    else:
        main()

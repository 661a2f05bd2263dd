"""CPU seconds of each step of an extraction, and what they make of a nation (docs/scale.md).

python -m benchmarks.rates [--town-px 2048] [--gsd 0.5] [--km2 100000] [--objects-km2 250] [--price 0.04]

The town is rendered. Seconds are CPU seconds of one process, network, reading and geometry together; models are loaded
before. `--price` is of an hour of one core, in any currency. Writes benchmarks/results/rates.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from benchmarks.accuracy import RESULTS
from hybridseg import Survey, load_theme, open_scene
from townscape import render_town


def main() -> None:
    """Measure, plan, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--town-px", type=int, default=2048)
    parser.add_argument("--gsd", type=float, default=0.5)
    parser.add_argument("--km2", type=float, default=100_000)
    parser.add_argument("--objects-km2", type=float, default=250)
    parser.add_argument("--price", type=float, default=0.04)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small, _ = render_town(256, asked.gsd, seed=1, density=0.7).write(Path(folder))
        Survey.open(open_scene(small), load_theme("buildings"), device="cpu").run()  # converts and loads
    with tempfile.TemporaryDirectory() as folder:
        scene, _ = render_town(asked.town_px, asked.gsd, seed=5, density=0.7).write(Path(folder))
        survey = Survey.open(open_scene(scene), load_theme("buildings"), device="cpu")
        took, last = dict[str, float](), time.process_time()

        def lap(step: str) -> None:
            nonlocal last
            took[step], last = time.process_time() - last, time.process_time()

        survey.heatmap()
        lap("classify")
        prompts = survey.prompts()
        lap("find objects")
        refined = survey.refine(prompts)
        lap("refine")
        survey.features(refined)
        lap("join and shape")
    mpx, count = asked.town_px**2 / 1e6, len(prompts)
    mpx_per_s, objects_per_s = mpx / took["classify"], count / (took["find objects"] + took["refine"])
    shaped_per_s = count / took["join and shape"]
    nation_mpx, nation_objects = asked.km2 / asked.gsd**2, asked.km2 * asked.objects_km2
    hours = {
        "classify": nation_mpx / mpx_per_s / 3600,
        "refine": nation_objects / objects_per_s / 3600,
        "join and shape": nation_objects / shaped_per_s / 3600,
    }
    total = sum(hours.values())
    result = {
        "asked": vars(asked), "objects": count, "cpu_s": took, "mpx_per_s": mpx_per_s,
        "km2_per_hour": mpx_per_s * asked.gsd**2 * 3600, "objects_per_s": objects_per_s, "shaped_per_s": shaped_per_s,
        "nation": {"mpx": nation_mpx, "objects": nation_objects, "core_hours": hours, "price": total * asked.price},
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "rates.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

"""Hiera-tiny told where to look by our classifier, against SAM2's automatic mask generator on the same ground.

    python -m benchmarks.generator [--town-px 3072]      writes benchmarks/results/generator.json

CPU seconds of one process, as in `benchmarks.speed`; weights are random, so masks mean nothing. The generator gets the
zoom of our windows and a grid of points half a usual building apart, instead of its own 32 x 32 a tile. Every tile has
as many points, so one is measured and multiplied.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

from benchmarks.accuracy import RESULTS
from benchmarks.speed import random_tiny
from hybridseg.demo import SEED
from hybridseg.nn.classify.classifier import load_classifier
from hybridseg.nn.device import native_bf16
from hybridseg.nn.models import Models
from hybridseg.read.opening import open_scene
from hybridseg.run.store import Memory
from hybridseg.run.survey import Survey
from hybridseg.theme import load_theme
from hybridseg.types import Window
from townscape import render_town

GSD_M, OBJECT_M = 0.3, 12.0


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--town-px", type=int, default=3072)
    town_px = parser.parse_args().town_px
    tiny = replace(random_tiny(), runtime="openvino", parts=True, agreements=[])
    theme, load = load_theme("buildings"), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        scene = open_scene(render_town(town_px, GSD_M, SEED).write(Path(folder))[0])
        survey = Survey(scene, theme, Models(load_classifier(theme.classifier, "cpu", "openvino"), tiny))
        prompts = survey.prompts()
        replace(survey, store=Memory()).refine(prompts.take(np.arange(len(prompts)) < 3))  # converted before the clock
        begun = time.process_time()
        windows = replace(survey, store=Memory()).refine(prompts).sweep.windows
        ours_s = time.process_time() - begun
        side = round(tiny.size_px / theme.prompts.max_zoom)
        points = round(side * GSD_M / (OBJECT_M / 2))
        everything = SAM2AutomaticMaskGenerator(tiny.model, points_per_side=points)
        chip, tiles = scene.read_window(Window(0, 0, side, side), tiny.size_px), (-(-town_px // side)) ** 2
        begun = time.process_time()
        everything.generate(chip.pixels.transpose(1, 2, 0))
        theirs_s = tiles * (time.process_time() - begun)
    result = {
        "town_px": town_px, "objects": len(prompts), "windows": windows, "ours_s": ours_s,
        "tiles": tiles, "points_a_tile": points**2, "encoded_in_bf16": native_bf16(torch.device("cpu")),
        "generator_s": theirs_s, "times the generator": theirs_s / ours_s, "load_before": load,
    }  # fmt: skip
    (RESULTS / "generator.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

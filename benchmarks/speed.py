"""Torch against OpenVINO, whole images against parts, and Hiera-tiny by us against SAM2ImagePredictor, in one process.

python -m benchmarks.speed [--town-px 1024] [--rounds 3]      writes benchmarks/results/speed.json

Seconds are CPU seconds of the process, so that ratios hold on a machine with other work; on an idle one with one thread
they are wall seconds. Hiera-tiny has random weights: its masks mean nothing, its time does. The predictor gets tiles at
the zoom of our windows, side by side, and the boxes whose middles they hold; and once more with its encoder in bf16.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor

from benchmarks.accuracy import RESULTS
from hybridseg.demo import SEED
from hybridseg.nn.classify.classifier import load_classifier
from hybridseg.nn.models import Models
from hybridseg.nn.runtime import summarise
from hybridseg.nn.sam2 import promptable
from hybridseg.nn.sam2.official import load_refiner
from hybridseg.nn.sam2.promptable import Promptable
from hybridseg.read.opening import open_scene
from hybridseg.read.scene import Scene
from hybridseg.run.extents import boxes_on
from hybridseg.run.store import Memory
from hybridseg.run.survey import Survey
from hybridseg.theme import load_theme
from hybridseg.types import MAX_POINTS, Window
from tests.nn.chips import random_chip
from townscape import render_town

WINDOW_PX, CORE_PX = 1792, 1024
"""A window of the first sweep with its halo, and what is kept of it."""
PROMPTS = 16
RUNTIMES = ("torch", "openvino")


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Median CPU seconds of several runs after one to warm up."""
    work()
    taken = []
    for _ in range(rounds):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return statistics.median(taken)


def classifying(rounds: int) -> dict[str, dict[str, float]]:
    """Seconds for a window of the first sweep, and kept megapixels a second."""
    pixels = random_chip(side=WINDOW_PX).pixels
    found = {}
    for runtime in RUNTIMES:
        classifier = load_classifier("buildings-lite0", "cpu", runtime)
        taken = seconds(lambda network=classifier: network.predict(pixels), rounds)
        found[runtime] = {"window_s": taken, "kept_mpx_per_s": CORE_PX**2 / 1e6 / taken}
    return found


def refining(model: Promptable, rounds: int) -> dict[str, float]:
    """Seconds to encode one window and to decode one prompt of a batch."""
    chip, side = random_chip(side=model.size_px), model.size_px
    rng = np.random.default_rng(0)
    middle, half = rng.uniform(0.2 * side, 0.8 * side, (PROMPTS, 2)), 0.05 * side
    points = np.zeros((PROMPTS, MAX_POINTS, 2), np.float32)
    points[:, 0], points[:, 1], points[:, 2] = middle - half, middle + half, middle
    labels = np.tile(np.array([2, 3, 1, -1, -1, -1], np.int32), (PROMPTS, 1))
    hints = rng.normal(0, 4, (PROMPTS, model.mask_px, model.mask_px)).astype(np.float32)
    embedding = model.encode(chip)
    return {
        "encode_s": seconds(lambda: model.encode(chip), rounds),
        "decode_s_per_prompt": seconds(lambda: model.decode(embedding, points, labels, hints), rounds) / PROMPTS,
    }


def town(tiny: Promptable, size_px: int) -> dict[str, Any]:
    """The second sweep over a town, by runtime and way to decode, and the predictor with the same boxes."""
    scene = open_scene(render_town(size_px, 0.3, SEED).write(Path(tempfile.mkdtemp()))[0])
    theme = load_theme("buildings")
    survey = Survey(scene, theme, Models(load_classifier(theme.classifier, "cpu", "openvino"), tiny))
    prompts = survey.prompts()
    found: dict[str, Any] = {"size_px": size_px, "objects": len(prompts)}
    for name, large in (("fp32", False), ("ours", True)):
        model = replace(tiny, runtime="openvino", parts=True, large=large, agreements=[])
        refining_once = replace(survey, models=Models(survey.models.classifier, model), store=Memory())
        refining_once.refine(prompts.take(np.arange(len(prompts)) < 3))  # converted before the clock starts
        begun = time.process_time()
        found["windows"] = refining_once.refine(prompts).sweep.windows
        found[f"{name}_s"] = time.process_time() - begun
    boxes, _ = boxes_on(prompts, scene.geobox, in_pieces=False)
    for name, bf16 in (("predictor", False), ("predictor, bf16", True)):
        begun = time.process_time()
        found["tiles"] = _by_predictor(tiny, scene, boxes, theme.prompts.max_zoom, bf16)
        found[f"{name}_s"] = time.process_time() - begun
    found["times the predictor"] = found["predictor_s"] / found["ours_s"]
    found["times the predictor in bf16"] = found["predictor, bf16_s"] / found["ours_s"]
    return found


def _by_predictor(tiny: Promptable, scene: Scene, boxes: np.ndarray, zoom: float, bf16: bool) -> int:
    """SAM2's own way: each tile once, then its boxes (N, 4) px, as many at a time as above; return the tiles."""
    predictor, tiles = SAM2ImagePredictor(tiny.model), 0
    side, middles = round(tiny.size_px / zoom), (boxes[:, :2] + boxes[:, 2:]) / 2
    for corner in np.unique(middles // side, axis=0).astype(int) * side:
        chip = scene.read_window(Window(*corner.tolist(), side, side), tiny.size_px)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            predictor.set_image(chip.pixels.transpose(1, 2, 0))
            mine = (boxes[(middles // side * side == corner).all(1)] - np.tile(corner, 2)) * zoom
            for start in range(0, len(mine), PROMPTS):
                predictor.predict(box=mine[start : start + PROMPTS], multimask_output=False, return_logits=True)
        tiles += 1
    return tiles


def random_tiny() -> Promptable:
    """Hiera-tiny with random weights."""
    # they would not agree with themselves on parts; it is the time of parts that is asked for
    promptable.LEAST_AGREEMENT = -1.0
    official = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu").requires_grad_(False)
    return Promptable(official.to(memory_format=torch.channels_last), "hiera-tiny", "", large=True)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--town-px", type=int, default=1024, help="side of the town in px; 0: no town")
    parser.add_argument("--rounds", type=int, default=3, help="runs that each figure is the median of")
    chosen = parser.parse_args()
    tiny = random_tiny()
    result: dict[str, Any] = {
        "seconds": "of CPU, all threads together",
        "rounds": chosen.rounds,
        "threads": torch.get_num_threads(),
        "load_before": os.getloadavg()[0],
        "first sweep": classifying(chosen.rounds),
    }
    for runtime in RUNTIMES:
        lite = load_refiner("sam2-lite", "cpu", runtime=runtime)
        whole = replace(tiny, runtime=runtime, agreements=[])
        parts = replace(whole, parts=True, agreements=[])
        print(json.dumps(result), flush=True)  # what there is, should it be stopped
        result[f"sam2-lite, {runtime}"] = refining(lite, chosen.rounds)
        result[f"hiera-tiny, {runtime}"] = refining(whole, chosen.rounds)
        result[f"hiera-tiny, {runtime}, parts"] = refining(parts, chosen.rounds)
        result[f"computed by, {runtime}"] = [summarise(model.runners) for model in (lite, whole, parts)]
    if chosen.town_px:
        result["town"] = town(tiny, chosen.town_px)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "speed.json").write_text(json.dumps(result | {"load_after": os.getloadavg()[0]}, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

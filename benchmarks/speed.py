"""sam2-lite against the official Hiera-tiny architecture (random weights) on this machine, as ratios of one run.

python -m benchmarks.speed      writes benchmarks/results/speed.json
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from sam2.build_sam import build_sam2

from benchmarks.accuracy import RESULTS
from hybridseg.nn.sam2.official import load_refiner
from hybridseg.nn.sam2.promptable import Promptable
from hybridseg.types import MAX_POINTS, Chip

PROMPTS = 32
ROUNDS = 5


def seconds(work: Callable[[], object]) -> float:
    """Median of several runs after one to warm up."""
    work()
    taken = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def measure(model: Promptable) -> dict[str, float]:
    """Seconds to encode one window and to decode one prompt of a batch."""
    side = model.size_px
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (3, side, side), np.uint8)
    points = rng.uniform(0, side, (PROMPTS, MAX_POINTS, 2)).astype(np.float32)
    labels = np.tile(np.array([2, 3, 1, 0, -1, -1], np.int32), (PROMPTS, 1))
    hints = rng.normal(0, 4, (PROMPTS, model.mask_px, model.mask_px)).astype(np.float32)
    grid = GeoBox((side, side), Affine.scale(0.3, -0.3), "EPSG:32633")
    chip = Chip(pixels, np.ones((side, side), bool), grid)
    embedding = model.encode(chip)
    return {
        "encode_s": seconds(lambda: model.encode(chip)),
        "decode_s_per_prompt": seconds(lambda: model.decode(embedding, points, labels, hints)) / PROMPTS,
    }


def main() -> None:
    """Measure both and write the ratios."""
    official = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu").requires_grad_(False)
    official = official.to(memory_format=torch.channels_last)
    lite, tiny = measure(load_refiner("sam2-lite", "cpu")), measure(Promptable(official, "hiera-tiny", ""))
    result = {
        "threads": torch.get_num_threads(),
        "sam2-lite": lite,
        "sam2.1-hiera-tiny": tiny,
        "ratio": {key: tiny[key] / lite[key] for key in lite},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "speed.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

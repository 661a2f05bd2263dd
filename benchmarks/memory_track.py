"""How well the memory follows objects: over three made-up dates, against the first date's outline left where it was.

python -m benchmarks.memory_track [DATA [MODEL]]      writes benchmarks/results/memory_track.json

Places that nothing was trained on, with dates made as in training: moved by up to 6 % of the window, other light and
season, some objects gone. Objects are shown as masks on the first date; the third is measured. The mask is compared
where the object is still there, whatever its score says; "presence" is how often the score tells whether it is, and
"balanced" the mean of that over those that are and those that are not.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.accuracy import RESULTS
from benchmarks.refiner import SETS, _iou
from hybridseg.nn.cards import model_folder
from hybridseg.nn.sam2.lite import build_sam2_lite
from hybridseg.nn.sam2.memory import track
from hybridseg.nn.weights import load_weights
from hybridseg.training.datasets import load_images
from hybridseg.training.refiner import boxed
from hybridseg.training.sequences import SequenceSamples

SIZE_PX = 256
SEQUENCES = 40


def follow(samples: SequenceSamples, model: str | Path, count: int) -> dict[str, np.ndarray]:
    """Of each object: there on the last date, its presence logit, IoU by memory and of the outline left in place."""
    net = build_sam2_lite(samples.size_px, samples.size_px).eval()
    load_weights(net, model_folder(model))
    rng, rows = np.random.default_rng(0), []
    for _ in range(count):
        drawn = samples.draw(rng)
        # one that appears late cannot be shown on the first date
        masks = drawn["masks"][drawn["masks"][:, 0].any((1, 2))]
        if len(masks):
            logits, presence = track(net, drawn["images"], masks[:, 0])
            for dates, found, score in zip(masks, logits[:, -1], presence[:, -1], strict=True):
                fine = np.asarray(Image.fromarray(found).resize(dates[-1].shape, Image.Resampling.BILINEAR)) > 0
                rows.append((dates[-1].any(), score, _iou(fine, dates[-1]), _iou(dates[0], dates[-1])))
    there, scores, memory, still = np.array(rows, float).T
    return {"there": there > 0, "scores": scores, "memory": memory, "still": still}


def summary(found: dict[str, np.ndarray]) -> dict[str, float | int]:
    """Means over the objects of one place or of all."""
    there, told = found["there"], found["scores"] > 0
    right = told == there
    parts = [right[group].mean() for group in (there, ~there) if group.any()]
    return {
        "objects": len(there),
        "gone": int((~there).sum()),
        "iou_memory": float(found["memory"][there].mean()),
        "iou_left_in_place": float(found["still"][there].mean()),
        "presence": float(right.mean()),
        "presence_balanced": float(np.mean(parts)),
    }


def main(data: Path, model: str, count: int = SEQUENCES) -> None:
    """Measure and write."""
    rows, all_found = [], []
    for place, (dataset, entry) in SETS.items():
        images = [boxed(image) for image in load_images(data / "tiles.csv", dataset, entry)]
        usable = [one for one in images if len(one.boxes)]
        samples = SequenceSamples({dataset: usable}, {dataset: 1.0}, SIZE_PX, vanish=0.35)
        all_found.append(follow(samples, model, count))
        rows.append({"place": place, **summary(all_found[-1])})
        print(rows[-1], flush=True)
    merged = {key: np.concatenate([found[key] for found in all_found]) for key in all_found[0]}
    rows.append({"place": "all objects", **summary(merged)})
    print(rows[-1])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "memory_track.json").write_text(json.dumps({"model": model, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    arguments = sys.argv[1:] or ["../shared/data"]
    main(Path(arguments[0]), arguments[1] if len(arguments) > 1 else "sam2-lite")

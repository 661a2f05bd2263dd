"""How well the refiner does what it is told: IoU from boxes, from one point, from coarse supports; calibration.

python -m benchmarks.refiner [DATA [MODEL]]      writes benchmarks/results/refiner.md and .json

On objects of places that nothing was trained on, each in a window of the refiner's size that it spans to 30 % at most,
with the objects around it, as in extraction. "coarse support" is the outline blurred, shifted, grown or shrunken, as a
poor heatmap has it; "clean support" is the outline in blocks of 16 px, as a perfect heatmap has it; "filled box" is
what a refiner must beat.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image

from benchmarks.accuracy import RESULTS
from hybridseg.labels.images import LabelledImage, resize_labels
from hybridseg.nn.sam2.looks import Looks
from hybridseg.nn.sam2.official import load_refiner
from hybridseg.nn.sam2.promptable import Promptable
from hybridseg.reviewing.desk import LOOKS
from hybridseg.training.datasets import load_images
from hybridseg.training.recipe import DataSet
from hybridseg.training.refiner import box_of, covered, point_in, roughened
from hybridseg.types import MAX_POINTS, Chip
from hybridseg.where.refine import hint_logits

SETS = {
    "Banepa, val column": ("banepa", DataSet(share=1, split="val")),
    "Kampala": ("kampala", DataSet(share=1, split="val")),
    "California solar": ("california_pv", DataSet(share=1, split="val", label="solar")),
    "NAIP fields": ("naip_fields", DataSet(share=1, split="val", label="field")),
    "Dubai scene 2 water": ("dubai", DataSet(share=1, split="val", codes={"water": 3}, gsd_m=1.0)),
}
PER_SET = 120
SPAN = 0.3
LEAST_PX = 12
BLOCK_PX = 16


@dataclass(frozen=True)
class Case:
    """An object in its window: pixels (3, S, S) uint8 and mask (S, S) bool."""

    pixels: np.ndarray
    mask: np.ndarray


def cases(scenes: list[LabelledImage], size_px: int, rng: np.random.Generator) -> Iterator[Case]:
    """Up to PER_SET objects that lie whole in their scene, at random."""
    found = []
    for scene in scenes:
        labels = scene.instances
        for identity in np.unique(labels)[1:].tolist():
            rows, cols = np.nonzero(labels == identity)
            side = max(np.ptp(rows), np.ptp(cols)) + 1
            if side >= LEAST_PX and side / SPAN <= 2 * min(labels.shape):
                found.append(
                    (scene, identity, (rows.min() + rows.max() + 1) / 2, (cols.min() + cols.max() + 1) / 2, side)
                )
    for k in rng.permutation(len(found))[:PER_SET].tolist():
        scene, identity, y, x, side = found[k]
        width = int(min(max(side / SPAN, size_px / 8), *scene.valid.shape))
        top = int(np.clip(y - width / 2, 0, scene.valid.shape[0] - width))
        left = int(np.clip(x - width / 2, 0, scene.valid.shape[1] - width))
        box = (left, top, left + width, top + width)
        image = Image.fromarray(scene.image).resize((size_px, size_px), Image.Resampling.BILINEAR, box=box)
        mask = resize_labels(scene.instances, (size_px, size_px), box) == identity
        if mask.sum() >= 64:
            yield Case(np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)), mask)


Told = tuple[list[tuple[float, float]], list[int], np.ndarray | None]
"""Points (x, y) px, their labels, and a support (S/4, S/4) or none."""


def told(case: Case, rng: np.random.Generator) -> dict[str, Told]:
    """What is said of an object, by kind of prompt."""
    x0, y0, x1, y1 = box_of(case.mask, rng, 0)
    rough = roughened(covered(case.mask), rng)
    corners = ([(x0, y0), (x1, y1)], [2, 3])
    return {
        "box": (*corners, None),
        "one point": ([point_in(case.mask, rng)], [1], None),
        "coarse support": ([], [], rough),
        "clean support": ([], [], _in_blocks(case.mask)),
        "support and box": (*corners, rough),
    }


def ask(model: Promptable | Looks, case: Case, prompts: dict[str, Told]) -> dict[str, tuple[float, float]]:
    """IoU reached and predicted, for each kind of prompt."""
    grid = GeoBox(case.mask.shape, Affine.identity(), None)
    embedding: Any = model.encode(Chip(case.pixels, np.ones(case.mask.shape, bool), grid))
    answers = {}
    for kind, (points, labels, hint) in prompts.items():
        at, kinds = np.zeros((1, MAX_POINTS, 2), np.float32), np.full((1, MAX_POINTS), -1, np.int32)
        if points:
            at[0, : len(points)], kinds[0, : len(labels)] = points, labels
        logits, iou = model.decode(embedding, at, kinds, None if hint is None else hint_logits(hint)[None])
        fine = np.asarray(Image.fromarray(logits[0]).resize(case.mask.shape, Image.Resampling.BILINEAR)) > 0
        answers[kind] = (_iou(fine, case.mask), float(iou[0]))
    return answers


def without(case: Case, prompts: dict[str, Told]) -> dict[str, float]:
    """IoU of what is said itself: what a refiner must beat."""
    filled = np.zeros_like(case.mask)
    (x0, y0), (x1, y1) = prompts["box"][0]
    filled[int(y0) : int(y1), int(x0) : int(x1)] = True
    supports = {}
    for kind in ("coarse support", "clean support"):
        small = Image.fromarray(np.asarray(prompts[kind][2], np.uint8))
        supports[f"the {kind} itself"] = np.asarray(small.resize(case.mask.shape, Image.Resampling.NEAREST)) > 0
    return {name: _iou(mask, case.mask) for name, mask in {"filled box": filled, **supports}.items()}


def _in_blocks(mask: np.ndarray) -> np.ndarray:
    """The mask's share of each block, brought to the hint's grid between them and cut at a half: (S/4, S/4) bool."""
    side = mask.shape[0] // BLOCK_PX
    share = mask.reshape(side, BLOCK_PX, side, BLOCK_PX).mean((1, 3)).astype(np.float32)
    grid = (mask.shape[1] // 4, mask.shape[0] // 4)
    return np.asarray(Image.fromarray(share).resize(grid, Image.Resampling.BILINEAR)) > 0.5


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def calibration(real: np.ndarray, predicted: np.ndarray, bins: int = 10) -> dict[str, float]:
    """Correlation of predicted with real IoU, and expected calibration error over bins of predicted IoU."""
    which = np.minimum((predicted * bins).astype(int), bins - 1)
    gaps = [abs(real[which == b].mean() - predicted[which == b].mean()) * (which == b).mean() for b in np.unique(which)]
    return {"correlation": float(np.corrcoef(real, predicted)[0, 1]), "ece": float(sum(gaps))}


def main(data: Path, name: str) -> None:
    """Measure with one look and with those of a review, and write."""
    model = load_refiner(name, runtime="openvino")
    seen = {1: model, LOOKS: Looks(model, LOOKS)}
    rows: dict[int, list[dict[str, Any]]] = {looks: [] for looks in seen}
    pairs: dict[int, list[tuple[float, float]]] = {looks: [] for looks in seen}
    for place, (dataset, entry) in SETS.items():
        rng = np.random.default_rng(0)
        scenes = load_images(data / "tiles.csv", dataset, entry)
        asked = [(case, told(case, rng)) for case in cases(scenes, model.size_px, rng)]
        plain = [without(*one) for one in asked]
        for looks, refiner in seen.items():
            answers = [ask(refiner, *one) for one in asked]
            pairs[looks] += [pair for answer in answers for pair in answer.values()]
            real = [{kind: iou for kind, (iou, _) in answer.items()} for answer in answers]
            means = pd.DataFrame(real).join(pd.DataFrame(plain)).mean().to_dict()
            rows[looks].append({"place": place, "looks": looks, "objects": len(asked), **means})
            print(rows[looks][-1], flush=True)
    found = {looks: calibration(*np.array(made).T) for looks, made in pairs.items()}
    write(name, [row for made in rows.values() for row in (*made, _together(made))], found)


def _together(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A row over all objects."""
    places = pd.DataFrame(rows).set_index("place")
    means = places.drop(columns=["looks", "objects"]).mul(places["objects"], axis=0).sum() / places["objects"].sum()
    looks, objects = int(places["looks"].iloc[0]), int(places["objects"].sum())
    return {"place": "all objects", "looks": looks, "objects": objects, **means.to_dict()}


def write(name: str, rows: list[dict[str, Any]], found: dict[int, dict[str, float]]) -> None:
    """Write the rows and, by looks, how well the predicted IoU tells the real one."""
    RESULTS.mkdir(exist_ok=True)
    content = json.dumps({"model": name, "rows": rows, "iou_pred": found}, indent=1)
    (RESULTS / "refiner.json").write_text(content + "\n")
    lines = [f"| {' | '.join(rows[0])} |", "|" + "---|" * len(rows[0])]
    for row in rows:
        lines.append(f"| {' | '.join(f'{v:.3f}' if isinstance(v, float) else str(v) for v in row.values())} |")
    predicted = "; ".join(
        f"looks {k}: correlation {v['correlation']:.2f}, ECE {v['ece']:.3f}" for k, v in found.items()
    )
    head = (
        f"Made by `make scores`. Mean IoU of {name} with the reference outline, by what it is told. Buildings, roads "
        "and solar\narrays are extracted with one look at the image, water and fields with four; a review answers "
        f"clicks and boxes with {LOOKS}."
    )
    (RESULTS / "refiner.md").write_text(
        f"{head}\n\n" + "\n".join(lines) + f"\n\nPredicted against real IoU; {predicted}.\n"
    )


if __name__ == "__main__":
    arguments = sys.argv[1:] or ["../shared/data"]
    main(Path(arguments[0]), arguments[1] if len(arguments) > 1 else "sam2-lite")

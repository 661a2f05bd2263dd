"""Training samples for a refiner: crops around objects, and prompts of every kind it will meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from scipy import ndimage as ndi

from hybridseg.labels.images import LabelledImage, recolour, resize_labels, turn
from hybridseg.types import MAX_POINTS
from hybridseg.where.refine import hint_logits

LEAST_IOU = 0.2
"""Least IoU of an object with its support."""
KINDS = {"support": 0.44, "box": 0.24, "click": 0.18, "clicks": 0.06, "correction": 0.08}
"""How often each kind of prompt is drawn: a coarse support, alone or with its box and points, as extraction gives it;
a box; one click; several clicks of both kinds; a support with a click where it is wrong."""


CLEAN = 0.3
"""How often a support that no classifier gave is the object itself: what is right already must come out as it is."""


@dataclass(frozen=True)
class BoxedImage:
    """An image with its objects' boxes and, where a classifier was run on it, their coarse supports."""

    image: LabelledImage
    boxes: np.ndarray
    """(N, 5) int: id, row, column, height, width (px)."""
    supports: np.ndarray | None = None
    """(h, w) int32 ids on a coarser grid over the same ground."""
    support_of: Mapping[int, int] = field(default_factory=dict)
    """Object id to support id, for objects that a support was found for."""


def boxed(image: LabelledImage, supports: np.ndarray | None = None) -> BoxedImage:
    """Return an image with the boxes of its objects (those of 8 px and more), each with its best support."""
    boxes = []
    for identity, at in enumerate(ndi.find_objects(image.instances), 1):
        if at is not None:
            height, width = at[0].stop - at[0].start, at[1].stop - at[1].start
            if min(height, width) >= 8:
                boxes.append((identity, at[0].start, at[1].start, height, width))
    found = {} if supports is None else _best_supports(image.instances, supports)
    return BoxedImage(image, np.array(boxes, int).reshape(-1, 5), supports, found)


def _best_supports(instances: np.ndarray, supports: np.ndarray) -> dict[int, int]:
    small = resize_labels(instances, (supports.shape[1], supports.shape[0]))
    pairs = np.stack([small.ravel(), supports.ravel()]).astype(np.int64)
    sizes, support_sizes = np.bincount(pairs[0]), np.bincount(pairs[1])
    shared, counts = np.unique(pairs[:, (pairs[0] > 0) & (pairs[1] > 0)], axis=1, return_counts=True)
    best: dict[int, tuple[float, int]] = {}
    for (a, b), both in zip(shared.T.tolist(), counts.tolist(), strict=True):
        iou = both / (sizes[a] + support_sizes[b] - both)
        if iou >= LEAST_IOU and iou > best.get(a, (0.0, 0))[0]:
            best[a] = (iou, b)
    return {a: b for a, (_, b) in best.items()}


def pick(
    pools: Mapping[str, Sequence[BoxedImage]], shares: Mapping[str, float], rng: np.random.Generator
) -> BoxedImage:
    """Draw a pool by its share, then one of its images by how many objects it has."""
    names = sorted(pools)
    weights = np.array([shares[name] for name in names])
    pool = pools[names[rng.choice(len(names), p=weights / weights.sum())]]
    counts = np.array([len(one.boxes) for one in pool], float)
    return pool[rng.choice(len(pool), p=counts / counts.sum())]


@dataclass(frozen=True)
class RefinerSamples:
    """Endless crops with up to `objects` prompts each.

    span: how much of the crop's side the target object spans; shares: how often each pool is drawn.
    """

    pools: Mapping[str, Sequence[BoxedImage]]
    shares: Mapping[str, float]
    size_px: int = 256
    objects: int = 8
    span: tuple[float, float] = (0.10, 0.75)

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return a crop: image (3, S, S) uint8, masks (N, S, S) bool, points, labels, hints, lone (one click alone)."""
        while True:
            sample = self._crop(pick(self.pools, self.shares, rng), rng)
            if sample is not None:
                return sample

    def _crop(self, place: BoxedImage, rng: np.random.Generator) -> dict[str, np.ndarray] | None:
        labelled, side = place.image, self.size_px
        target, y, x, h, w = place.boxes[rng.integers(len(place.boxes))].tolist()
        instances = labelled.instances
        height, width = instances.shape
        crop = int(np.clip(max(h, w) / rng.uniform(*self.span), 48, min(height, width)))
        if crop < max(h, w):
            return None
        top = int(np.clip(y + h / 2 - crop / 2 + rng.uniform(-0.5, 0.5) * (crop - h), 0, height - crop))
        left = int(np.clip(x + w / 2 - crop / 2 + rng.uniform(-0.5, 0.5) * (crop - w), 0, width - crop))
        cut = np.s_[top : top + crop, left : left + crop]  # Pillow would copy the whole image
        image = np.asarray(Image.fromarray(labelled.image[cut]).resize((side, side), Image.Resampling.BILINEAR))
        labels = resize_labels(instances[cut], (side, side))
        coarse = np.zeros((side, side), np.int32)
        if place.supports is not None:
            ky, kx = place.supports.shape[0] / height, place.supports.shape[1] / width
            part = (left * kx, top * ky, (left + crop) * kx, (top + crop) * ky)
            coarse = resize_labels(place.supports, (side // 4, side // 4), part)
        quarters, mirror = int(rng.integers(4)), bool(rng.integers(2))
        image, labels, coarse = (turn(a, quarters, mirror) for a in (image, labels, coarse))
        sizes = np.bincount(labels.ravel())
        ids = [i for i in np.flatnonzero(sizes >= max(60, side * side // 800)).tolist() if i not in (0, target)]
        rng.shuffle(ids)
        ids = [i for i in [target, *ids][: self.objects] if i < len(sizes) and sizes[i] >= 40]
        if not ids:
            return None
        prompts = [self._prompt(labels == i, labels, coarse == place.support_of.get(i, -1), rng) for i in ids]
        return {
            "image": recolour(image, rng).transpose(2, 0, 1),
            "masks": np.stack([labels == i for i in ids]),
            **{key: np.stack([p[key] for p in prompts]) for key in prompts[0]},
        }

    def _prompt(
        self, mask: np.ndarray, labels: np.ndarray, support: np.ndarray, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Return points, labels and hint of one object, of a kind drawn at random."""
        kind = rng.choice(list(KINDS), p=list(KINDS.values()))
        # hints, and so supports, live on the decoder's grid, a quarter of the image's
        rough = support if support.any() and rng.random() < 0.75 else _made_up(covered(mask), rng)
        points: list[tuple[float, float]] = []
        told: list[int] = []
        if kind == "box" or (kind == "support" and rng.random() < 0.7):
            # as in extraction: the box of the support, wrong where the support is
            box = box_of(mask, rng, 0.03) if kind == "box" else tuple(4 * v for v in box_of(rough, rng, 0.02))
            points, told = [(box[0], box[1]), (box[2], box[3])], [2, 3]
        if kind in ("click", "clicks") or (kind != "correction" and rng.random() < 0.5):
            for _ in range(1 if kind == "click" or rng.random() < 0.7 else 2):
                points.append(point_in(mask, rng))
                told.append(1)
        if kind == "clicks" or (kind in ("box", "support") and rng.random() < 0.4):
            others = (labels > 0) & ~mask
            points.append(point_in(others if others.any() and rng.random() < 0.6 else labels == 0, rng, ~mask))
            told.append(0)
        if kind == "correction":
            wrong = mask ^ (np.kron(rough, np.ones((4, 4))) > 0.5)
            at = point_in(wrong if wrong.any() else mask, rng)
            points.append(at)
            told.append(int(mask[int(at[1]), int(at[0])]))
        hinted = kind in ("support", "correction")
        return {
            "points": np.array(points + [(0.0, 0.0)] * (MAX_POINTS - len(points)), np.float32),
            "labels": np.array(told + [-1] * (MAX_POINTS - len(told)), np.int32),
            "hints": hint_logits(rough) if hinted else np.zeros_like(rough, np.float32),
            "lone": np.array(kind == "click"),
        }

    def batches(self, size: int, seed: int | Sequence[int]) -> Iterator[dict[str, np.ndarray]]:
        """Yield batches without end; prompts of all crops in a row, `image_of` (N,) holds the crop of each."""
        rng = np.random.default_rng(seed)
        while True:
            drawn = [self.draw(rng) for _ in range(size)]
            batch = {
                key: np.concatenate([d[key] for d in drawn]) for key in ("masks", "points", "labels", "hints", "lone")
            }
            batch["hints"] = batch["hints"][:, None]
            batch["images"] = np.stack([d["image"] for d in drawn])
            batch["image_of"] = np.repeat(np.arange(size), [len(d["masks"]) for d in drawn])
            yield batch


def box_of(mask: np.ndarray, rng: np.random.Generator, jitter: float) -> tuple[float, ...]:
    """x0, y0, x1, y1 of a mask, each side moved by a share of the box's size."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x0, x1, y0, y1 = cols[0], cols[-1] + 1, rows[0], rows[-1] + 1
    move = rng.normal(0, jitter, 4) * (x1 - x0, y1 - y0, x1 - x0, y1 - y0)
    side = mask.shape[0]
    a, b, c, d = np.clip(np.array([x0, y0, x1, y1]) + move, 0, side)
    return float(min(a, c)), float(min(b, d)), float(max(a, c)), float(max(b, d))


def point_in(mask: np.ndarray, rng: np.random.Generator, within: np.ndarray | None = None) -> tuple[float, float]:
    """A pixel's centre inside the mask, half of the time a deep one, as a heatmap's peak is."""
    mask = mask if within is None else mask & within
    if not mask.any():
        return 0.5, 0.5
    if within is None and rng.random() < 0.6:
        deep = ndi.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        mask = deep >= 0.7 * deep.max()
    spots = np.flatnonzero(mask)
    y, x = divmod(int(spots[rng.integers(len(spots))]), mask.shape[1])
    return x + 0.5, y + 0.5


def covered(mask: np.ndarray) -> np.ndarray:
    """Share of each 4 x 4 px block that the mask covers, (S/4, S/4)."""
    side = mask.shape[0] // 4
    return mask.reshape(side, 4, side, 4).mean((1, 3))


def _made_up(cover: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return cover if rng.random() < CLEAN else roughened(cover, rng)


def roughened(cover: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A coarse, shifted, swollen or shrunken version of a mask, as a heatmap would give."""
    side, size = cover.shape[0], np.sqrt(cover.sum())
    soft = ndi.gaussian_filter(cover.astype(np.float32), max(0.5, size * rng.uniform(0.03, 0.2)), truncate=3)
    soft = ndi.shift(soft, rng.normal(0, 0.06 * size, 2), order=1)
    grain = np.asarray(Image.fromarray(rng.normal(0, 1, (12, 12)).astype(np.float32)).resize((side, side), 2))
    rough = soft + 0.18 * grain * (soft > 0.02) > rng.uniform(0.3, 0.65)
    if rng.random() < 0.15:  # half of the object, as when a watershed splits it
        y, x = np.mgrid[:side, :side]
        cy, cx = ndi.center_of_mass(cover)
        angle = rng.uniform(0, 2 * np.pi)
        rough &= (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle) > -0.15 * size
    return rough if rough.any() else cover > 0

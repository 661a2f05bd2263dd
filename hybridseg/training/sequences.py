"""Training samples for a refiner's memory: one place at several dates, made from a single labelled image.

Each date is moved a little, as images are that do not lie exactly on each other, is seen in another light and another
season, and lacks some of the objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage as ndi

from hybridseg.labels.images import recolour, resize_labels, turn
from hybridseg.training.refiner import BoxedImage, box_of, pick, point_in
from hybridseg.types import MAX_POINTS

STARTS = {"mask": 0.6, "box": 0.25, "click": 0.15}
"""How often an object is first shown as a mask, a box or a click."""
SHIFT, TURN, ZOOM = 0.06, np.radians(3.0), 0.06
"""A date's largest shift (share of the side), turn (radians) and zoom (natural logarithm)."""
MARGIN = 0.12
"""Ground drawn beyond each side, as a share of it: no move leaves it."""
LATE = 1 / 3
"""Of the objects that are missing at some date, so many appear late; the others go."""


@dataclass(frozen=True)
class SequenceSamples:
    """Endless sequences of `frames` dates with up to `objects` objects each.

    span: how much of the image's side the target object spans; vanish: how often an object is missing at some dates;
    shares: how often each pool is drawn.
    """

    pools: Mapping[str, Sequence[BoxedImage]]
    shares: Mapping[str, float]
    size_px: int = 256
    frames: int = 3
    objects: int = 4
    span: tuple[float, float] = (0.10, 0.60)
    vanish: float = 0.2

    def draw(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One sequence: images (T, 3, S, S) uint8, masks (N, T, S, S) bool, points (N, P, 2), labels (N, P)."""
        while True:
            sample = self._sequence(pick(self.pools, self.shares, rng), rng)
            if sample is not None:
                return sample

    def batches(self, size: int, seed: int | Sequence[int]) -> Iterator[dict[str, np.ndarray]]:
        """Batches without end.

        images (B, T, 3, S, S) uint8; masks (N, T, S, S) bool of all sequences' objects in a row, empty where the object
        is missing; image_of (N,): whose they are; points (N, P, 2) and labels (N, P): the prompt on the first date
        that has the object, be it the first or, for one that appears late, the last; none for a start from its mask.
        """
        rng = np.random.default_rng(seed)
        while True:
            drawn = [self.draw(rng) for _ in range(size)]
            batch = {key: np.concatenate([d[key] for d in drawn]) for key in ("masks", "points", "labels")}
            batch["images"] = np.stack([d["images"] for d in drawn])
            batch["image_of"] = np.repeat(np.arange(size), [len(d["masks"]) for d in drawn])
            yield batch

    def _sequence(self, place: BoxedImage, rng: np.random.Generator) -> dict[str, np.ndarray] | None:
        cut = self._cut(place, rng)
        if cut is None:
            return None
        image, labels, free, target = cut
        moves = [_move(self.size_px, len(labels), rng) for _ in range(self.frames)]
        shown = np.stack([_warp(labels, move, self.size_px, Image.Resampling.NEAREST) for move in moves])
        ids = self._ids(shown, target, rng)
        if not ids:
            return None
        masks = np.stack([shown == i for i in ids])
        dates = np.repeat(image[None], self.frames, 0)
        for mask, identity in zip(masks, ids, strict=True):
            if rng.random() < self.vanish:
                covered = _cover_up(image, labels == identity, free, rng)
                missing = _missing(self.frames, rng)
                if covered is not None:
                    bare, share = covered
                    dates[missing] += share * (bare - dates[missing])
                    mask[missing] = False
        told = [_prompt(mask[0] if mask[0].any() else mask[-1], rng) for mask in masks]
        seen = [self._see(date, move, rng) for date, move in zip(dates, moves, strict=True)]
        return {
            "images": np.stack(seen),
            "masks": masks,
            "points": np.stack([points for points, _ in told]),
            "labels": np.stack([kinds for _, kinds in told]),
        }

    def _cut(
        self, place: BoxedImage, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, int] | None:
        """Ground around an object with its margin: image (M, M, 3) float32, labels, where there is none; the object."""
        labelled, room = place.image, 1 + 2 * MARGIN
        target, y, x, h, w = place.boxes[rng.integers(len(place.boxes))].tolist()
        height, width = labelled.valid.shape
        window = min(max(max(h, w) / rng.uniform(*self.span), 48), min(height, width) / room)
        if window < max(h, w):
            return None
        crop = int(window * room)
        top = int(np.clip(y + h / 2 - crop / 2 + rng.uniform(-0.5, 0.5) * (window - h), 0, height - crop))
        left = int(np.clip(x + w / 2 - crop / 2 + rng.uniform(-0.5, 0.5) * (window - w), 0, width - crop))
        at = np.s_[top : top + crop, left : left + crop]
        side = (round(self.size_px * room),) * 2
        image = np.asarray(Image.fromarray(labelled.image[at]).resize(side, Image.Resampling.BILINEAR))
        labels = resize_labels(labelled.instances[at], side)
        free = (labels == 0) & (resize_labels(labelled.valid[at], side) > 0)
        quarters, mirror = int(rng.integers(4)), bool(rng.integers(2))
        image, labels, free = (turn(a, quarters, mirror) for a in (image, labels, free))
        return image.astype(np.float32), labels, free, target

    def _ids(self, shown: np.ndarray, target: int, rng: np.random.Generator) -> list[int]:
        """Objects large enough at every date, the target first."""
        least = max(60, self.size_px**2 // 800)
        top = int(shown.max()) + 1
        sizes = np.min([np.bincount(labels.ravel(), minlength=top) for labels in shown], axis=0)
        ids = [i for i in np.flatnonzero(sizes >= least).tolist() if i]
        rng.shuffle(ids)
        return sorted(ids, key=lambda i: i != target)[: self.objects]

    def _see(self, date: np.ndarray, move: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
        image = np.clip(date, 0, 255).astype(np.uint8)
        moved = _warp(image, move, self.size_px, Image.Resampling.BILINEAR)
        return recolour(change_season(moved, rng), rng).transpose(2, 0, 1)


def change_season(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 in another season: what is green ripens, dries or greens; colours drift from place to place."""
    x = image.astype(np.float32)
    green = np.clip((x[..., 1] - (x[..., 0] + x[..., 2]) / 2) / 30, 0, 1)[..., None]
    x += green * rng.uniform(0, 1) * rng.uniform((-25, -30, -25), (70, 30, 30))
    height, width = image.shape[:2]
    grain = rng.normal(0, rng.uniform(0, 0.15), (3, 4, 4)).astype(np.float32)
    drift = [np.asarray(Image.fromarray(g).resize((width, height), Image.Resampling.BICUBIC)) for g in grain]
    return np.clip(x * np.exp(np.stack(drift, axis=2)), 0, 255).astype(np.uint8)


def _move(side: int, wide: int, rng: np.random.Generator) -> tuple[float, ...]:
    """Affine from a date's pixels to those of the ground, `wide` px across, that it looks at."""
    angle, step = rng.uniform(-TURN, TURN), np.exp(rng.uniform(-ZOOM, ZOOM))
    cx, cy = wide / 2 + side * rng.uniform(-SHIFT, SHIFT, 2)
    a, b, half = step * np.cos(angle), step * np.sin(angle), side / 2
    return a, -b, cx - a * half + b * half, b, a, cy - b * half - a * half


def _warp(array: np.ndarray, move: tuple[float, ...], side: int, how: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(array).transform((side, side), Image.Transform.AFFINE, move, resample=how))


def _missing(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Dates (T,) bool that an object is missing at: from some date on, or until some date."""
    gone = np.arange(frames) >= rng.integers(1, frames)
    return gone[::-1] if rng.random() < LATE else gone


def _cover_up(
    image: np.ndarray, mask: np.ndarray, free: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """The image with bare ground from nearby where the object was, and how much of it to take (H, W, 1), soft-edged.

    None where there is no such ground.
    """
    size = np.sqrt(mask.sum())
    # its bright edge and most of its shadow go with it
    hole = ndi.binary_dilation(mask, iterations=max(3, round(0.08 * size))) & (free | mask)
    rows, cols = np.nonzero(hole)
    for _ in range(60):
        angle, far = rng.uniform(0, 2 * np.pi), size * rng.uniform(1, 3)
        y, x = rows + round(far * np.sin(angle)), cols + round(far * np.cos(angle))
        if min(y.min(), x.min()) < 0 or max(y.max(), x.max()) >= len(mask) or free[y, x].mean() < 0.98:
            continue
        bare = image.copy()
        bare[rows, cols] = image[y, x]
        around = ndi.binary_dilation(hole, iterations=5) & ~hole & free
        if around.any():
            bare[hole] += image[around].mean(0) - bare[hole].mean(0)
        return bare, ndi.gaussian_filter(hole.astype(np.float32), 1.2)[..., None]
    return None


def _prompt(mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points (P, 2) and labels (P,) that show the object: a box, a click, or none for its mask."""
    points, labels = np.zeros((MAX_POINTS, 2), np.float32), np.full(MAX_POINTS, -1, np.int32)
    kind = rng.choice(list(STARTS), p=list(STARTS.values()))
    if kind == "box":
        points[:2], labels[:2] = np.reshape(box_of(mask, rng, 0.03), (2, 2)), (2, 3)
    elif kind == "click":
        points[0], labels[0] = point_in(mask, rng), 1
    return points, labels

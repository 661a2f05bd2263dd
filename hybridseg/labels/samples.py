"""Samples for a classifier's training: random crops, crops around objects, and fixed crops of validation ground."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from hybridseg.labels.images import LabelledImage, by_band, degrade, depth, dye_water, park, recolour, shade_sides, turn
from hybridseg.labels.split import Split
from hybridseg.read.tiles import tile

TRIES = 20
"""Crops tried for one with enough known ground."""


@dataclass(frozen=True)
class Prepared:
    """An image at the scale of the training, with what crops need of it, computed once."""

    image: LabelledImage
    interiors: Mapping[str, np.ndarray]
    """Class to (H, W) float32 depth of each pixel in its object."""

    @cached_property
    def object_pixels(self) -> list[np.ndarray]:
        """Flat indices of known object pixels, an array for each class that has any."""
        found = [np.flatnonzero((layer > 0) & self.image.valid) for layer in self.image.objects.values()]
        return [pixels for pixels in found if len(pixels)]

    @cached_property
    def known_box(self) -> tuple[int, int, int, int]:
        """Column, row, width and height of the ground that is known; the whole image if none is."""
        valid = self.image.valid
        rows, cols = np.flatnonzero(valid.any(1)), np.flatnonzero(valid.any(0))
        if not len(rows):
            return 0, 0, valid.shape[1], valid.shape[0]
        return int(cols[0]), int(rows[0]), int(cols[-1] - cols[0]) + 1, int(rows[-1] - rows[0]) + 1


@dataclass(frozen=True)
class Pool:
    """The images of one data set."""

    images: Sequence[Prepared]
    share: float
    """How often it is drawn, relative to the other pools."""
    zoom: tuple[float, float] = (0.65, 1.5)
    """Range of the random scale."""


def pool(
    images: Sequence[LabelledImage], gsd_m: float, share: float = 1.0, zoom: tuple[float, float] = (0.65, 1.5)
) -> Pool:
    """Return images at `gsd_m`, ready to be drawn from."""
    scaled = [image.at_gsd(gsd_m) for image in images]
    return Pool([Prepared(one, {k: depth(v) for k, v in one.objects.items()}) for one in scaled], share, zoom)


@dataclass(frozen=True)
class Changes:
    """What crops of 8-bit RGB go through besides turns, zoom and colour."""

    shade: Sequence[str] = ()
    """Classes whose objects get one side in shade."""
    dye: Sequence[str] = ()
    """Classes of water, whose colour changes."""
    park: Sequence[str] = ()
    """Classes that cars on the ground are not."""
    paste: Sequence[str] = ()
    """Classes whose objects are copied onto ground that holds none of them."""
    mix: bool = False
    """Whether ground beside an image is filled with another crop."""
    degrade: bool = False
    """Whether some crops get coarser pixels, haze or JPEG."""


@dataclass(frozen=True)
class ClassifierSamples:
    """Endless random crops with a target for each of `classes`."""

    pools: Sequence[Pool]
    classes: Sequence[str]
    size_px: int = 256
    least_known: float = 0.8
    """Share of a crop that should be known ground; after `TRIES` crops any will do."""
    changes: Changes = Changes()

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return an image (bands, S, S) and its target (C, 3, S, S) float32: extent, interior, known (0 or 1)."""
        image, target, inside = self._draw(rng)
        if self.changes.mix and inside.mean() < 0.98:
            more, known, _ = self._draw(rng)
            image, target = np.where(inside, image, more), np.where(inside, target, known)
        for name in self.changes.paste:
            if not target[self.classes.index(name), 0].any() and rng.random() < 0.4:
                self._paste(image, target, self.classes.index(name), rng)
        return image, target

    def _paste(self, image: np.ndarray, target: np.ndarray, number: int, rng: np.random.Generator) -> None:
        """Copy the objects of class `number` of another crop, if it has any, onto this one; in place."""
        for _ in range(4):
            other, known, _ = self._draw(rng)
            extent = known[number, 0] * known[number, 2]
            if extent.any():
                break
        extent = extent * target[number, 2]
        image[:] = image * (1 - extent) + other * extent
        target[number, :2] = np.where(extent > 0, known[number, :2], target[number, :2])

    def _draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return image, target, and (S, S) bool, where the crop lies on an image."""
        shares = np.array([p.share for p in self.pools])
        chosen = self.pools[rng.choice(len(shares), p=shares / shares.sum())]
        areas = np.array([one.image.valid.size for one in chosen.images], float)
        which = rng.choice(len(areas), p=areas / areas.sum())
        for _ in range(TRIES):
            sample = self._crop(chosen.images[which], chosen.zoom, rng)
            if self.changes.mix or sample[1][:, 2].max(0).mean() > self.least_known:
                break
        return sample

    def _crop(
        self, prepared: Prepared, zoom: tuple[float, float], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return a crop at a random place, angle and zoom, resampled once, and where it lies on the image."""
        side, labelled = self.size_px, prepared.image
        angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else 0.0
        step = np.exp(rng.uniform(*np.log(zoom)))
        cx, cy = self.centre(prepared, rng)
        half = side / 2
        # a turned crop reaches half its diagonal; Pillow would copy the whole image for each layer
        reach = int(np.ceil(1.5 * half * step)) + 2
        col, row = max(0, int(cx) - reach), max(0, int(cy) - reach)
        near = np.s_[row : int(cy) + reach, col : int(cx) + reach]
        cx, cy = cx - col, cy - row
        a, b = step * np.cos(angle), step * np.sin(angle)
        affine = (a, -b, cx - a * half + b * half, b, a, cy - b * half - a * half)
        quarters, mirror = int(rng.integers(4)), bool(rng.integers(2))

        def warp(array: np.ndarray, smooth: bool) -> np.ndarray:
            how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
            moved = by_band(
                array[near], lambda b: b.transform((side, side), Image.Transform.AFFINE, affine, resample=how)
            )
            return turn(moved, quarters, mirror)

        inside = warp(np.ones(labelled.valid.shape, bool), smooth=False)
        known = warp(labelled.valid, smooth=False).astype(np.float32)
        target = np.zeros((len(self.classes), 3, side, side), np.float32)
        for layers, name in zip(target, self.classes, strict=True):
            if name in labelled.objects:
                layers[0] = warp((labelled.objects[name] > 0).astype(np.float32), smooth=True)
                layers[1] = warp(prepared.interiors[name], smooth=True)
                layers[2] = known
        image = warp(labelled.image, smooth=True)
        if image.dtype == np.uint8:
            shaded = [name for name in self.changes.shade if name in labelled.objects]
            ids = {name: warp(labelled.objects[name], smooth=False) for name in shaded}
            image = self._change(image, target, ids, labelled.gsd_m * step, rng)
        image = recolour(image, rng)
        if self.changes.degrade:
            image = degrade(image, rng)
        return (image * inside[..., None].astype(np.uint8)).transpose(2, 0, 1), target, inside

    def _change(
        self,
        image: np.ndarray,
        target: np.ndarray,
        ids: Mapping[str, np.ndarray],
        pixel_m: float,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Return (S, S, 3) uint8 with the ground changed; `target` as `draw` gives it, `ids` of the shaded classes."""
        for instances in ids.values():
            if rng.random() < 0.6:
                image = shade_sides(image, instances, rng)
        for name in self.changes.dye:
            water = target[self.classes.index(name), 0]
            if rng.random() < 0.7 and water.any():
                image = dye_water(image, water, rng)
        if self.changes.park and rng.random() < 0.3:
            layers = target[[self.classes.index(name) for name in self.changes.park]]
            image = park(image, (layers[:, 0].max(0) == 0) & (layers[:, 2].min(0) > 0), pixel_m, rng)
        return image

    def centre(self, prepared: Prepared, rng: np.random.Generator) -> tuple[float, float]:
        """Return column and row of a crop's centre."""
        height, width = prepared.image.valid.shape
        return rng.uniform(0, width), rng.uniform(0, height)

    def batches(self, size: int, seed: int | Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield batches without end: images (B, bands, S, S) and targets (B, C, 3, S, S) float32."""
        rng = np.random.default_rng(seed)
        while True:
            drawn = [self.draw(rng) for _ in range(size)]
            yield np.stack([d[0] for d in drawn]), np.stack([d[1] for d in drawn])


@dataclass(frozen=True)
class FocusedSamples(ClassifierSamples):
    """Random crops of labelled ground, a share of them around an object: classes are rare, and a user's labels few.

    The labelled ground may be much smaller than a crop, so nearly any share of known pixels is enough.
    """

    least_known: float = 0.02
    focus: float = 0.5
    """Share of the crops that lie around an object of a random class."""

    def centre(self, prepared: Prepared, rng: np.random.Generator) -> tuple[float, float]:
        """Return column and row of a crop's centre: on an object, or anywhere on known ground."""
        if rng.random() < self.focus and prepared.object_pixels:
            pixels = prepared.object_pixels[rng.integers(len(prepared.object_pixels))]
            row, col = np.unravel_index(pixels[rng.integers(len(pixels))], prepared.image.valid.shape)
            return float(col), float(row)
        col, row, width, height = prepared.known_box
        return rng.uniform(col, col + width), rng.uniform(row, row + height)


def stream_seed(seed: int, step: int, worker: int = 0) -> int | list[int]:
    """Return the seed of a training's samples: a run resumed at a step draws others than before, always the same.

    So does each process that draws beside others.
    """
    return seed if step == worker == 0 else [seed, step, worker]


def targets_of(image: LabelledImage, classes: Sequence[str], known: np.ndarray) -> np.ndarray:
    """Return (C, 3, H, W) float32 targets: extent, interior and `known`, (H, W) bool, of each class."""
    out = np.zeros((len(classes), 3, *known.shape), np.float32)
    for layers, name in zip(out, classes, strict=True):
        layers[0] = image.objects[name] > 0
        layers[1] = depth(image.objects[name])
        layers[2] = known
    return out


def validation_batches(
    images: Sequence[LabelledImage], splits: Sequence[Split], classes: Sequence[str], size_px: int, batch: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return every validation pixel once: images (B, bands, S, S) and targets (B, C, 3, S, S) float32."""
    crops = []
    for image, split in zip(images, splits, strict=True):
        targets = targets_of(image, classes, split.validation)
        pixels = image.image.transpose(2, 0, 1)
        for window in tile(split.validation.shape, size_px):
            at = np.s_[..., window.row : window.stop[1], window.col : window.stop[0]]
            if split.validation[at].any():
                crops.append((_padded(pixels[at], size_px), _padded(targets[at], size_px)))
    groups = [crops[k : k + batch] for k in range(0, len(crops), batch)]
    return [(np.stack([i for i, _ in g]), np.stack([t for _, t in g])) for g in groups]


def _padded(array: np.ndarray, side: int) -> np.ndarray:
    """Add zeros on the right and below, up to (..., side, side)."""
    pad = [(0, 0)] * (array.ndim - 2) + [(0, side - array.shape[-2]), (0, side - array.shape[-1])]
    return np.pad(array, pad)

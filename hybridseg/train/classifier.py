"""Training samples for a theme's classifier: image crops with their extent and interior."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hybridseg.train.augment import degrade, recolour, turn
from hybridseg.train.scenes import Scene, by_band, depth, rescale
from hybridseg.train.surfaces import dye_water, park, shade_sides


@dataclass(frozen=True)
class Pool:
    """One data set's scenes, each with the depth of every pixel inside its object, class by class.

    share: how often it is drawn; zoom: range of the random scale.
    """

    scenes: Sequence[Scene]
    interiors: Sequence[Mapping[str, np.ndarray]]
    share: float
    zoom: tuple[float, float] = (0.65, 1.5)


def pool(scenes: Sequence[Scene], gsd_m: float, share: float = 1.0, zoom: tuple[float, float] = (0.65, 1.5)) -> Pool:
    """Scenes at `gsd_m`, ready to be drawn from."""
    scaled = [rescale(scene, gsd_m) for scene in scenes]
    return Pool(scaled, [{k: depth(v) for k, v in scene.objects.items()} for scene in scaled], share, zoom)


@dataclass(frozen=True)
class Changes:
    """What crops of 8-bit RGB go through besides turns, zoom and colour.

    shade: classes whose objects get one side in shade; dye: classes of water, whose colour changes; park: classes that
    cars on the ground are not; paste: classes whose objects are copied onto ground that holds none of them; mix: fill
    what lies beside a scene with another crop; degrade: coarser pixels, haze, JPEG.
    """

    shade: Sequence[str] = ()
    dye: Sequence[str] = ()
    park: Sequence[str] = ()
    paste: Sequence[str] = ()
    mix: bool = False
    degrade: bool = False


@dataclass(frozen=True)
class ClassifierSamples:
    """Endless random crops with a target for each of `classes`.

    least_known: share of a crop that labels should speak of; after 20 tries any will do.
    """

    pools: Sequence[Pool]
    classes: Sequence[str]
    size_px: int = 256
    least_known: float = 0.8
    changes: Changes = Changes()

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Image (bands, S, S) and target (C, 3, S, S) float32: extent, interior, known (1 where labels hold)."""
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
        shares = np.array([p.share for p in self.pools])
        chosen = self.pools[rng.choice(len(shares), p=shares / shares.sum())]
        areas = np.array([scene.valid.size for scene in chosen.scenes], float)
        which = rng.choice(len(areas), p=areas / areas.sum())
        for _ in range(20):
            sample = self._crop(chosen.scenes[which], chosen.interiors[which], chosen.zoom, rng)
            if self.changes.mix or sample[1][:, 2].max(0).mean() > self.least_known:
                break
        return sample

    def _crop(
        self, scene: Scene, interiors: Mapping[str, np.ndarray], zoom: tuple[float, float], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A crop at a random place, angle and zoom, in one resampling, and where it lies on the scene."""
        side = self.size_px
        angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else 0.0
        step = np.exp(rng.uniform(*np.log(zoom)))
        cx, cy = self.middle(scene, rng)
        half = side / 2
        # a turned crop reaches half its diagonal; Pillow would copy the whole scene for each layer
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

        inside = warp(np.ones(scene.valid.shape, bool), smooth=False)
        known = warp(scene.valid, smooth=False).astype(np.float32)
        target = np.zeros((len(self.classes), 3, side, side), np.float32)
        for layers, name in zip(target, self.classes, strict=True):
            if name in scene.objects:
                layers[0] = warp((scene.objects[name] > 0).astype(np.float32), smooth=True)
                layers[1] = warp(interiors[name], smooth=True)
                layers[2] = known
        image = warp(scene.image, smooth=True)
        if image.dtype == np.uint8:
            shaded = [name for name in self.changes.shade if name in scene.objects]
            ids = {name: warp(scene.objects[name], smooth=False) for name in shaded}
            image = self._change(image, target, ids, scene.gsd_m * step, rng)
        image = recolour(image, rng)
        if self.changes.degrade:
            image = degrade(image, rng)
        image = image * inside[..., None].astype(np.uint8)
        return image.transpose(2, 0, 1), target, inside

    def _change(
        self,
        image: np.ndarray,
        target: np.ndarray,
        ids: Mapping[str, np.ndarray],
        pixel_m: float,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """What lies on the ground, changed; `target` as `draw` gives it."""
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

    def middle(self, scene: Scene, rng: np.random.Generator) -> tuple[float, float]:
        """Column and row of a crop's middle."""
        height, width = scene.valid.shape
        return rng.uniform(0, width), rng.uniform(0, height)

    def batches(self, size: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches without end: images (B, bands, S, S) and targets (B, C, 3, S, S) float32."""
        rng = np.random.default_rng(seed)
        while True:
            drawn = [self.draw(rng) for _ in range(size)]
            yield np.stack([d[0] for d in drawn]), np.stack([d[1] for d in drawn])

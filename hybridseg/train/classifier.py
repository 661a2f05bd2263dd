"""Training samples for a theme's classifier: image crops with their extent and interior."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hybridseg.train.augment import recolour, turn
from hybridseg.train.scenes import Scene, depth, rescale


@dataclass(frozen=True)
class Target:
    """A scene at the theme's GSD with its (H, W) float32 extent and interior."""

    scene: Scene
    interior: np.ndarray


def targets(scenes: Sequence[Scene], gsd_m: float) -> list[Target]:
    """Scenes at `gsd_m`, with the depth of each pixel inside its object."""
    scaled = [rescale(scene, gsd_m) for scene in scenes]
    return [Target(scene, depth(scene.instances)) for scene in scaled]


@dataclass(frozen=True)
class ClassifierSamples:
    """Endless random crops. `shares` says how often each data set is drawn."""

    pools: Mapping[str, Sequence[Target]]
    shares: Mapping[str, float]
    size_px: int = 256
    zoom: tuple[float, float] = (0.65, 1.5)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Image (3, S, S) uint8 and target (3, S, S) float32: extent, interior, known (1 where labels hold)."""
        names = sorted(self.pools)
        weights = np.array([self.shares[name] for name in names])
        name = names[rng.choice(len(names), p=weights / weights.sum())]
        pool = self.pools[name]
        areas = np.array([t.interior.size for t in pool], float)
        target = pool[rng.choice(len(pool), p=areas / areas.sum())]
        for _ in range(20):
            sample = self._crop(target, rng)
            if sample[1][2].mean() > 0.8:
                break
        return sample

    def _crop(self, target: Target, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A crop at a random place, angle and zoom, in one resampling."""
        scene, side = target.scene, self.size_px
        height, width = scene.valid.shape
        angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else 0.0
        step = np.exp(rng.uniform(*np.log(self.zoom)))
        cx, cy = rng.uniform(0, width), rng.uniform(0, height)
        a, b = step * np.cos(angle), step * np.sin(angle)
        half = side / 2
        affine = (a, -b, cx - a * half + b * half, b, a, cy - b * half - a * half)

        def warp(array: np.ndarray, smooth: bool) -> np.ndarray:
            how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
            return np.asarray(
                Image.fromarray(array).transform((side, side), Image.Transform.AFFINE, affine, resample=how)
            )

        image = warp(scene.image, smooth=True)
        extent = warp((scene.instances > 0).astype(np.float32), smooth=True)
        interior = warp(target.interior, smooth=True)
        known = warp(scene.valid, smooth=False).astype(np.float32)
        quarters, mirror = int(rng.integers(4)), bool(rng.integers(2))
        image, extent, interior, known = (turn(a, quarters, mirror) for a in (image, extent, interior, known))
        image = recolour(image, rng) * (known > 0)[..., None].astype(np.uint8)
        return image.transpose(2, 0, 1), np.stack([extent, interior, known])

    def batches(self, size: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches without end: images (B, 3, S, S) uint8 and targets (B, 3, S, S) float32."""
        rng = np.random.default_rng(seed)
        while True:
            drawn = [self.draw(rng) for _ in range(size)]
            yield np.stack([d[0] for d in drawn]), np.stack([d[1] for d in drawn])

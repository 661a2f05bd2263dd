"""What is fed to the learner: crops that look for objects, and fixed ones of the validation blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hybridseg.finetune.split import Split
from hybridseg.read.tiles import tile
from hybridseg.train.classifier import ClassifierSamples
from hybridseg.train.scenes import Scene, depth


def targets_of(scene: Scene, classes: Sequence[str], known: np.ndarray) -> np.ndarray:
    """(C, 3, H, W) float32: extent, interior and known of each class."""
    out = np.zeros((len(classes), 3, *known.shape), np.float32)
    for layers, name in zip(out, classes, strict=True):
        layers[0] = scene.objects[name] > 0
        layers[1] = depth(scene.objects[name])
        layers[2] = known
    return out


def validation_batches(
    scenes: Sequence[Scene], splits: Sequence[Split], classes: Sequence[str], size_px: int, batch: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every validation pixel once: images (B, bands, S, S) and targets (B, C, 3, S, S) float32."""
    crops = []
    for scene, split in zip(scenes, splits, strict=True):
        targets = targets_of(scene, classes, split.validation)
        image = scene.image.transpose(2, 0, 1)
        for window in tile(split.validation.shape, size_px):
            at = np.s_[..., window.row : window.stop[1], window.col : window.stop[0]]
            if split.validation[at].any():
                crops.append((_full(image[at], size_px), _full(targets[at], size_px)))
    groups = [crops[k : k + batch] for k in range(0, len(crops), batch)]
    return [(np.stack([i for i, _ in g]), np.stack([t for _, t in g])) for g in groups]


def _full(array: np.ndarray, side: int) -> np.ndarray:
    """Zeros added on the right and below, up to (..., side, side)."""
    pad = [(0, 0)] * (array.ndim - 2) + [(0, side - array.shape[-2]), (0, side - array.shape[-1])]
    return np.pad(array, pad)


@dataclass(frozen=True)
class FocusedSamples(ClassifierSamples):
    """Random crops of labelled ground, so many of them around an object: classes are rare, and a user's labels few.

    The ground may be much smaller than a crop, so nearly any share of known pixels is enough.

    focus: share of the crops that lie around an object of a random class.
    """

    least_known: float = 0.02
    focus: float = 0.5

    def middle(self, scene: Scene, rng: np.random.Generator) -> tuple[float, float]:
        """Column and row of a crop's middle."""
        if rng.random() < self.focus and self._places[id(scene)]:
            places = self._places[id(scene)]
            at = places[rng.integers(len(places))]
            row, col = np.unravel_index(at[rng.integers(len(at))], scene.valid.shape)
            return float(col), float(row)
        col, row, width, height = self._known[id(scene)]
        return rng.uniform(col, col + width), rng.uniform(row, row + height)

    @cached_property
    def _places(self) -> dict[int, list[np.ndarray]]:
        """Of each scene, by its id: flat indices of known object pixels of each class that it has."""
        return {id(scene): _known_objects(scene) for pool in self.pools for scene in pool.scenes}

    @cached_property
    def _known(self) -> dict[int, tuple[int, int, int, int]]:
        """Of each scene, by its id: column, row, width and height of the ground that labels speak of."""
        return {id(scene): _bounds(scene.valid) for pool in self.pools for scene in pool.scenes}


def _bounds(known: np.ndarray) -> tuple[int, int, int, int]:
    rows, cols = np.flatnonzero(known.any(1)), np.flatnonzero(known.any(0))
    if not len(rows):
        return 0, 0, known.shape[1], known.shape[0]
    return int(cols[0]), int(rows[0]), int(cols[-1] - cols[0]) + 1, int(rows[-1] - rows[0]) + 1


def _known_objects(scene: Scene) -> list[np.ndarray]:
    found = [np.flatnonzero((layer > 0) & scene.valid) for layer in scene.objects.values()]
    return [places for places in found if len(places)]

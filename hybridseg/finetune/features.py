"""Training pixels of a linear head: which ones, and the backbone's features there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage as ndi

from hybridseg.nn.backbones.base import Backbone
from hybridseg.nn.classify.heads import FeatureMaps, features_of
from hybridseg.nn.classify.segmenter import STRIDE
from hybridseg.nn.training.linear import Samples

CORE_PX, HALO_PX = 512, 256
"""Windows in which features are computed; multiples of every backbone's cells."""
NEAR_PX = 13
"""Side of the square around a heatmap pixel in which an object makes it one near objects."""


def sample_features(
    trunk: Backbone, image: np.ndarray, targets: np.ndarray, most: int, rng: np.random.Generator
) -> list[Samples]:
    """Features at random labelled pixels, of each class as many inside its objects as outside, half of these near.

    Args:
        trunk: backbone in eval mode.
        image: (H, W, 3) uint8, or (H, W, bands) float32.
        targets: (C, 3, H, W) float32: extent, interior, known of each class.
        most: pixels a class and side.
        rng: draws them.
    """
    pooled = [_pooled(layers) for layers in targets]
    chosen = [_choose(layers, most, rng) for layers in pooled]
    found = [np.zeros((len(at), sum(trunk.channels)), np.float32) for at, _ in chosen]
    for maps, corner, core in _windows(trunk, image, [at for at, _ in chosen]):
        for features, (at, _) in zip(found, chosen, strict=True):
            inside = np.all((at >= core[0]) & (at < core[1]), axis=1)
            if inside.any():
                features[inside] = maps.at(at[inside] - corner)
    samples = []
    for layers, features, (at, weight) in zip(pooled, found, chosen, strict=True):
        extent, interior, _ = layers[:, at[:, 0], at[:, 1]]
        samples.append(Samples(features, extent > 0.5, interior, weight))
    return samples


def _pooled(layers: np.ndarray) -> np.ndarray:
    """(3, H, W) to means on the heatmap's grid; what lies beyond odd sides is not known."""
    _, height, width = layers.shape
    even = np.pad(layers, [(0, 0), (0, height % STRIDE), (0, width % STRIDE)])
    cells = even.reshape(3, even.shape[1] // STRIDE, STRIDE, even.shape[2] // STRIDE, STRIDE)
    return cells.mean((2, 4), dtype=np.float32)


def _choose(layers: np.ndarray, most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of one class's (3, h, w) extent, interior, known: (N, 2) row and column, (N,) pixels each stands for."""
    extent, _, known = layers
    inside = (extent > 0.5) & (known == 1)
    outside = (extent < 0.5) & (known == 1)
    near = outside & (ndi.maximum_filter(extent, NEAR_PX, mode="constant") > 0.5)
    first, second = _some(inside, most, rng), _some(near, most // 2, rng)
    third = _some(outside & ~near, most - len(second), rng)
    parts = ((inside, first), (near, second), (outside & ~near, third))
    weight = np.concatenate([np.full(len(at), mask.sum() / max(len(at), 1)) for mask, at in parts])
    return np.concatenate([first, second, third]), weight.astype(np.float32)


def _some(mask: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    at = np.argwhere(mask)
    return at[rng.choice(len(at), min(most, len(at)), replace=False)] if len(at) else at


def _windows(
    trunk: Backbone, image: np.ndarray, chosen: Sequence[np.ndarray]
) -> Iterator[tuple[FeatureMaps, np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    """Features of each window that holds a chosen pixel; its corner and its core, in heatmap pixels (row, column)."""
    every = np.concatenate(list(chosen)) * STRIDE
    fixed, snap = trunk.image_px, trunk.snap_px
    side = CORE_PX if fixed is None else snap
    halo = HALO_PX if fixed is None else (fixed - side) // 2
    whole, end = side + 2 * halo, np.array(image.shape[:2])
    for first in np.unique(every // side, axis=0) * side if len(every) else []:
        low, before = np.maximum(first - halo, 0), np.maximum(halo - first, 0)
        part = image[low[0] : first[0] - halo + whole, low[1] : first[1] - halo + whole]
        size = np.minimum(whole, end + 2 * halo - first)
        size = size + (-size % snap if fixed is None else whole - size)
        pad = [(int(b), int(s - b - n)) for b, s, n in zip(before, size, part.shape[:2], strict=True)]
        pixels = np.ascontiguousarray(np.pad(part, [*pad, (0, 0)]).transpose(2, 0, 1))
        last = -(-np.minimum(first + side, end) // STRIDE)
        yield features_of(trunk, pixels), (first - halo) // STRIDE, (first // STRIDE, last)

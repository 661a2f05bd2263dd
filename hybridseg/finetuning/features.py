"""Training pixels of a linear head: which ones, and the backbone's features there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage as ndi

from hybridseg import nn
from hybridseg.labels.labelled import LabelledGrid
from hybridseg.read.ground import work_grid
from hybridseg.run.extents import place_on
from hybridseg.types import NetworkSpec
from hybridseg.what.classify import SweepWindows

NEAR_PX = 13
"""Side of the square around a heatmap pixel in which an object makes it one near objects."""


def sample_features(
    trunk: nn.backbones.base.Backbone, grid: LabelledGrid, targets: np.ndarray, most: int, rng: np.random.Generator
) -> list[nn.training.linear.Samples]:
    """Return features at random labelled pixels: of each class as many inside as outside, half of these near objects.

    Args:
        trunk: backbone in eval mode.
        grid: the labelled scene, (H, W).
        targets: (C, 3, H, W) float32: extent, interior, known of each class.
        most: pixels a class and side.
        rng: draws them.
    """
    pooled = [_pooled(layers, trunk.heatmap_stride) for layers in targets]
    chosen = [_choose(layers, most, rng) for layers in pooled]
    found = [np.zeros((len(at), sum(trunk.channels)), np.float32) for at, _ in chosen]
    for maps, corner, core in _windows(trunk, grid, [at for at, _ in chosen]):
        for features, (at, _) in zip(found, chosen, strict=True):
            inside = np.all((at >= core[0]) & (at < core[1]), axis=1)
            if inside.any():
                features[inside] = maps.at(at[inside] - corner)
    samples = []
    for layers, features, (at, weight) in zip(pooled, found, chosen, strict=True):
        extent, interior, _ = layers[:, at[:, 0], at[:, 1]]
        samples.append(nn.training.linear.Samples(features, extent > 0.5, interior, weight))
    return samples


def _pooled(layers: np.ndarray, stride: int) -> np.ndarray:
    """(3, H, W) to means on the heatmap's grid; what lies beyond odd sides is not known."""
    _, height, width = layers.shape
    even = np.pad(layers, [(0, 0), (0, height % stride), (0, width % stride)])
    cells = even.reshape(3, even.shape[1] // stride, stride, even.shape[2] // stride, stride)
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
    trunk: nn.backbones.base.Backbone, grid: LabelledGrid, chosen: Sequence[np.ndarray]
) -> Iterator[tuple[nn.classify.heads.FeatureMaps, np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    """Features of each window of the sweep that holds a chosen pixel; its corner and its core, in heatmap pixels."""
    scene, stride = grid.labelled.scene, trunk.heatmap_stride
    windows = SweepWindows(NetworkSpec((), stride, trunk.snap_px, None, np.inf, trunk.image_px))
    raster = place_on(grid.grid, work_grid(scene, grid.image.gsd_m, trunk.snap_px))
    at = np.concatenate(list(chosen)) if chosen else np.zeros((0, 2), int)
    for core in windows.cores((grid.grid.height, grid.grid.width)):
        first = np.array([core.row, core.col]) // stride
        last = first + np.array([core.height, core.width]) // stride
        if np.all((at >= first) & (at < last), axis=1).any():
            chip, _ = windows.read(grid.view, grid.grid, core, raster)
            window = windows.around(core, raster)
            corner = np.array([window.row, window.col]) // stride
            yield nn.classify.heads.features_of(trunk, chip.pixels), corner, (first, last)

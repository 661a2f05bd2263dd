"""The linear head: scikit-learn on frozen features, kept as a 1x1 convolution, so that it runs as the others do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridseg.errors import WeightsError
from hybridseg.nn.backbones import build_backbone
from hybridseg.nn.bodies import Lite0Pyramid, image_px, prepare, snap_px, wants_of
from hybridseg.nn.segmenter import FINE_WIDTH, STRIDE, Segmenter
from hybridseg.nn.weights import load_weights, read_card

CORE_PX, HALO_PX = 512, 256
"""Windows in which features are looked at; multiples of every backbone's cells."""


class LinearSegmenter(nn.Module):
    """One 1x1 convolution on all levels of a backbone, each brought to stride 2.

    Convolved level by level and then brought to stride 2, which is the same (both are linear) and takes a fraction of
    the memory. Takes and gives what `Segmenter` does.
    """

    def __init__(self, classes: int, trunk: nn.Module) -> None:
        super().__init__()
        body: Any = trunk
        self.trunk = body
        self.head = nn.Conv2d(sum(body.channels), 2 * classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, bands, H, W), as `prepare` gives it, to (B, 2 x classes, H/2, W/2) logits."""
        return self.read(x, self.trunk(x))

    def read(self, x: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """Logits of an image whose feature maps are known."""
        weights = torch.split(self.head.weight, list(self.trunk.channels), dim=1)
        total: Any = self.head.bias.view(1, -1, 1, 1) if self.head.bias is not None else 0
        for level, weight, stride in zip(levels, weights, self.trunk.strides, strict=True):
            part = F.conv2d(level, weight)
            if stride != STRIDE:
                part = F.interpolate(part, scale_factor=stride / STRIDE, mode="bilinear")
            total = total + part
        return total


def network_for(card: Mapping[str, Any]) -> Segmenter | LinearSegmenter:
    """The untrained network that a card describes: `head` (pyramid or linear) and `backbone`, lite0 if not said.

    Raises:
        WeightsError: an unknown head or backbone.
    """
    classes, head = len(card["classes"]), card.get("head", "pyramid")
    name = str(card.get("backbone", "lite0"))
    if head == "linear":
        return LinearSegmenter(classes, build_backbone(name))
    if head != "pyramid":
        raise WeightsError(f"the card says head: {head}; this version of hybridseg knows linear and pyramid")
    return _segmenter(classes, None if name == "lite0" else build_backbone(name))


def _segmenter(classes: int, trunk: nn.Module | None) -> Segmenter:
    """A segmenter whose stem, where it has one, takes as many bands as its backbone."""
    net = Segmenter(classes, trunk)
    bands = 3 if trunk is None else len(wants_of(trunk).bands)
    if net.stem is not None and bands != 3:
        net.stem[0] = nn.Conv2d(bands, FINE_WIDTH, 3, 2, 1, bias=False)
    return net


def load_pyramid(folder: Path) -> Lite0Pyramid:
    """A trained classifier's trunk and pyramid, as features."""
    net = Lite0Pyramid()
    whole = Segmenter(len(read_card(folder, needs=("classes",))["classes"]))
    load_weights(whole, folder)
    net.load_segmenter(whole.state_dict())
    return net


def start_segmenter(trunk: nn.Module, classes: Sequence[str], folder: Path | None, seed: int = 0) -> Segmenter:
    """A segmenter on a backbone, with the weights of a model folder where there is one, else drawn from a seed."""
    torch.manual_seed(seed)
    net = _segmenter(len(classes), trunk)
    if folder is not None:
        load_weights(net, folder, classes)
    return net


@dataclass(frozen=True)
class Samples:
    """Pixels of the heatmap's grid: features (N, C) float32, extent (N,) bool, interior (N,) float32 in [0, 1].

    weight: (N,) float32, how many pixels of the ground each stands for: some kinds of ground are drawn more densely.
    """

    features: np.ndarray
    extent: np.ndarray
    interior: np.ndarray
    weight: np.ndarray


@torch.inference_mode()
def sample_features(
    trunk: nn.Module, image: np.ndarray, targets: np.ndarray, most: int, rng: np.random.Generator
) -> list[Samples]:
    """Features at random labelled pixels, of each class as many inside its objects as outside, half of these near.

    Args:
        trunk: backbone in eval mode.
        image: (H, W, 3) uint8, or (H, W, bands) float32.
        targets: (C, 3, H, W) float32: extent, interior, known of each class.
        most: pixels a class and side.
        rng: draws them.
    """
    pooled = F.avg_pool2d(_padded(torch.from_numpy(targets).flatten(0, 1)), STRIDE).numpy()
    small = pooled.reshape(-1, 3, *pooled.shape[1:])
    chosen = [_choose(layers, most, rng) for layers in small]
    found = [np.zeros((len(at), sum(_channels(trunk))), np.float32) for at, _ in chosen]
    for levels, corner, core in _windows(trunk, image, [at for at, _ in chosen]):
        for features, (at, _) in zip(found, chosen, strict=True):
            inside = np.all((at >= core[0]) & (at < core[1]), axis=1)
            if inside.any():
                features[inside] = _at(levels, at[inside] - corner, trunk)
    samples = []
    for layers, features, (at, weight) in zip(small, found, chosen, strict=True):
        extent, interior, _ = layers[:, at[:, 0], at[:, 1]]
        samples.append(Samples(features, extent > 0.5, interior, weight))
    return samples


def _choose(layers: np.ndarray, most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of one class's (3, h, w) extent, interior, known: (N, 2) row and column, (N,) ground each stands for."""
    extent, _, known = layers
    inside = (extent > 0.5) & (known == 1)
    outside = (extent < 0.5) & (known == 1)
    near = outside & (F.max_pool2d(torch.from_numpy(extent)[None], 13, 1, 6)[0].numpy() > 0.5)
    first, second = _some(inside, most, rng), _some(near, most // 2, rng)
    third = _some(outside & ~near, most - len(second), rng)
    parts = ((inside, first), (near, second), (outside & ~near, third))
    weight = np.concatenate([np.full(len(at), mask.sum() / max(len(at), 1)) for mask, at in parts])
    return np.concatenate([first, second, third]), weight.astype(np.float32)


def _some(mask: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    at = np.argwhere(mask)
    return at[rng.choice(len(at), min(most, len(at)), replace=False)] if len(at) else at


def _windows(
    trunk: nn.Module, image: np.ndarray, chosen: Sequence[np.ndarray]
) -> Iterator[tuple[list[Tensor], np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    """Features of each window that holds a chosen pixel; its corner and its core, in heatmap pixels (row, column)."""
    every = np.concatenate(list(chosen)) * STRIDE
    device = next(trunk.parameters()).device
    fixed = image_px(trunk)
    side = CORE_PX if fixed is None else snap_px(trunk)
    halo = HALO_PX if fixed is None else (fixed - side) // 2
    whole, end = side + 2 * halo, np.array(image.shape[:2])
    for first in np.unique(every // side, axis=0) * side if len(every) else []:
        low, before = np.maximum(first - halo, 0), np.maximum(halo - first, 0)
        part = image[low[0] : first[0] - halo + whole, low[1] : first[1] - halo + whole]
        size = np.minimum(whole, end + 2 * halo - first)
        size = size + (-size % snap_px(trunk) if fixed is None else whole - size)
        pad = [(int(b), int(s - b - n)) for b, s, n in zip(before, size, part.shape[:2], strict=True)]
        pixels = np.pad(part, [*pad, (0, 0)]).transpose(2, 0, 1)
        levels = trunk(prepare(trunk, torch.from_numpy(np.ascontiguousarray(pixels))[None].to(device)))
        yield levels, (first - halo) // STRIDE, (first // STRIDE, -(-np.minimum(first + side, end) // STRIDE))


def _at(levels: Sequence[Tensor], at: np.ndarray, trunk: nn.Module) -> np.ndarray:
    """(N, C) features at heatmap pixels (row, column) of a window, as bilinear interpolation to stride 2 gives them."""
    strides: Any = trunk.strides
    columns = []
    for level, stride in zip(levels, strides, strict=True):
        h, w = level.shape[-2:]
        place = (torch.from_numpy(at).float() + 0.5) * STRIDE / stride
        grid = torch.stack([2 * place[:, 1] / w - 1, 2 * place[:, 0] / h - 1], dim=-1)[None, None].to(level.device)
        found = F.grid_sample(level.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
        columns.append(found[0, :, 0].T.cpu().numpy())
    return np.concatenate(columns, axis=1)


def _padded(layers: Tensor) -> Tensor:
    """Even sides; what is added is not known."""
    return F.pad(layers, [0, layers.shape[-1] % 2, 0, layers.shape[-2] % 2])


def _channels(trunk: nn.Module) -> list[int]:
    channels: Any = trunk.channels
    return list(channels)

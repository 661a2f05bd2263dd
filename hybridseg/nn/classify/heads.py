"""The networks of a classifier: a pyramid or one linear layer on a backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridseg.errors import WeightsError
from hybridseg.nn.backbones import build_backbone
from hybridseg.nn.backbones.base import STRIDE, Backbone, prepare
from hybridseg.nn.backbones.lite0 import Lite0
from hybridseg.nn.device import full_precision
from hybridseg.nn.weights import load_weights

WIDTH = 96
FINE_WIDTH = 32


class Segmenter(nn.Module):
    """Feature-pyramid head on a backbone; (B, 3, H, W) normalised image to (B, 2 x classes, H/2, W/2) logits.

    Bands come in pairs, class by class: extent (is it the class) and interior (how deep inside its object, 0 at the
    border, 1 at the middle). H and W must be multiples of 32, or of the backbone's own cells. The head normalises with
    batch statistics frozen after training, never with statistics of the window (as group norm would): a pixel's value
    must not depend on the tile.

    Beside a backbone without a level at stride 2 stands a small stem that keeps the detail which patches lose.
    """

    def __init__(self, classes: int, trunk: Backbone | None = None) -> None:
        """`classes`: how many; `trunk`: default: Lite0."""
        super().__init__()
        self.trunk: Any = Lite0() if trunk is None else trunk
        channels, strides = list(self.trunk.channels), list(self.trunk.strides)
        if strides[0] == STRIDE:
            self.stem = None
        else:
            bands = len(self.trunk.inputs.bands)
            self.stem = nn.Sequential(nn.Conv2d(bands, FINE_WIDTH, 3, 2, 1, bias=False), nn.BatchNorm2d(FINE_WIDTH))
            channels, strides = [FINE_WIDTH, *channels], [STRIDE, *strides]
        fine, *coarse = channels
        self._steps = [b / a for a, b in pairwise(strides)]
        self.lateral = nn.ModuleList(nn.Conv2d(c, WIDTH, 1) for c in coarse)
        self.smooth = nn.ModuleList(_separable(WIDTH, WIDTH) for _ in coarse)
        self.fine = nn.Sequential(nn.Conv2d(fine, FINE_WIDTH, 1, bias=False), nn.BatchNorm2d(FINE_WIDTH), nn.ReLU())
        self.reduce = nn.Conv2d(WIDTH, FINE_WIDTH, 1)
        self.head = nn.Sequential(_separable(2 * FINE_WIDTH, 64), nn.Conv2d(64, 2 * classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, bands, H, W), as `prepare` gives it, to logits at stride 2."""
        return self.from_features(x, self.trunk(x))

    def from_features(self, x: Tensor, levels: list[Tensor]) -> Tensor:
        """Logits of an image whose feature maps are given."""
        return self.decode(levels if self.stem is None else [self.stem(x), *levels])

    def decode(self, levels: list[Tensor]) -> Tensor:
        """Logits from feature maps, fine to coarse, the first at stride 2."""
        fine, *rest = levels
        first, *steps = self._steps
        maps = [lateral(level) for lateral, level in zip(self.lateral, rest, strict=True)]
        for i in range(len(maps) - 2, -1, -1):
            maps[i] = maps[i] + F.interpolate(maps[i + 1], scale_factor=steps[i], mode="nearest")
        merged = self.smooth[0](maps[0])
        for i in range(1, len(maps)):
            merged = merged + F.interpolate(self.smooth[i](maps[i]), scale_factor=prod(steps[:i]), mode="bilinear")
        up = F.interpolate(self.reduce(merged), scale_factor=first, mode="bilinear")
        return self.head(torch.cat([self.fine(fine), up], dim=1))


def _separable(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, inside, 3, padding=1, groups=inside, bias=False),
        nn.Conv2d(inside, outside, 1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
    )


class LinearSegmenter(nn.Module):
    """One 1x1 convolution on all levels of a backbone, each brought to the heatmap's stride.

    Convolved level by level and then brought to that stride, which is the same (both are linear) and takes a fraction
    of the memory. Takes and gives what `Segmenter` does.
    """

    def __init__(self, classes: int, trunk: Backbone) -> None:
        """`classes`: how many; `trunk`: gives the features."""
        super().__init__()
        self.trunk: Any = trunk
        self.head = nn.Conv2d(sum(trunk.channels), 2 * classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, bands, H, W), as `prepare` gives it, to (B, 2 x classes, H/stride, W/stride) logits."""
        return self.from_features(x, self.trunk(x))

    def from_features(self, x: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """Logits of an image whose feature maps are given; `x` itself adds nothing."""
        weights = torch.split(self.head.weight, list(self.trunk.channels), dim=1)
        total: Any = self.head.bias.view(1, -1, 1, 1) if self.head.bias is not None else 0
        for level, weight, stride in zip(levels, weights, self.trunk.strides, strict=True):
            part = F.conv2d(level, weight)
            if stride != self.trunk.heatmap_stride:
                part = F.interpolate(part, scale_factor=stride / self.trunk.heatmap_stride, mode="bilinear")
            total = total + part
        return total


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """Features of one window, as a linear head sees them.

    levels: (1, C, H/stride, W/stride) maps, fine to coarse.
    strides: of each.
    heatmap_stride: of the heatmap whose pixels are asked for.
    """

    levels: Sequence[Tensor]
    strides: Sequence[int]
    heatmap_stride: int

    def at(self, pixels: np.ndarray) -> np.ndarray:
        """Features at some pixels of the heatmap, by bilinear interpolation of each level.

        Args:
            pixels: (N, 2) int, row and column of the window's heatmap.

        Returns:
            (N, C) float32, the levels' channels side by side; 0 where they are not defined.
        """
        columns = []
        for level, stride in zip(self.levels, self.strides, strict=True):
            h, w = level.shape[-2:]
            place = (torch.from_numpy(pixels).float() + 0.5) * self.heatmap_stride / stride
            grid = torch.stack([2 * place[:, 1] / w - 1, 2 * place[:, 0] / h - 1], dim=-1)[None, None].to(level.device)
            values = F.grid_sample(level.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
            columns.append(values[0, :, 0].T.cpu().numpy())
        return np.nan_to_num(np.concatenate(columns, axis=1))


@torch.inference_mode()
def features_of(trunk: Backbone, pixels: np.ndarray) -> FeatureMaps:
    """Features of one window.

    Args:
        trunk: in eval mode.
        pixels: (3, H, W) uint8 RGB, or (bands, H, W) float32 as stored; sides as the backbone takes them.
    """
    device = next((weight.device for weight in trunk.parameters()), torch.device("cpu"))  # an index has none
    images = prepare(trunk, torch.from_numpy(pixels)[None].to(device))
    with full_precision(device):
        return FeatureMaps(trunk(images), trunk.strides, trunk.heatmap_stride)


def network_for(card: Mapping[str, Any]) -> Segmenter | LinearSegmenter:
    """The untrained network that a card describes: `head` (pyramid or linear) and `backbone` (default: lite0).

    Raises:
        WeightsError: an unknown head or backbone.
    """
    classes, head = len(card["classes"]), card.get("head", "pyramid")
    trunk = build_backbone(str(card.get("backbone", "lite0")))
    if head == "linear":
        return LinearSegmenter(classes, trunk)
    if head != "pyramid":
        raise WeightsError(f"the card says head: {head}; this version of hybridseg knows linear and pyramid")
    return Segmenter(classes, trunk)


def start_segmenter(trunk: Backbone, classes: Sequence[str], folder: Path | None, seed: int = 0) -> Segmenter:
    """A segmenter to train.

    Args:
        trunk: its backbone.
        classes: names of what it tells apart.
        folder: of the model whose weights it starts from; None: the head is drawn from `seed`.
        seed: of random weights.

    Raises:
        WeightsError: the weights do not fit.
    """
    torch.manual_seed(seed)
    net = Segmenter(len(classes), trunk)
    if folder is not None:
        load_weights(net, folder, classes)
    return net


class Lite0Pyramid(Backbone):
    """A segmenter's last but one layer, and its trunk's levels: 576 features, those of stride 2 first."""

    def __init__(self) -> None:
        super().__init__()
        self.segmenter = Segmenter(1)
        self.segmenter.head[1] = nn.Identity()
        trunk = self.segmenter.trunk
        self.channels = [64, *trunk.channels]
        self.strides = [2, *trunk.strides]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised image to feature maps, fine to coarse."""
        levels = self.segmenter.trunk(x)
        return [self.segmenter.decode(levels), *levels]


def pyramid_of(segmenter: Segmenter) -> Lite0Pyramid:
    """Return the features of a trained segmenter: a copy of its weights, except those of its last layer."""
    net = Lite0Pyramid()
    state = segmenter.state_dict()
    net.segmenter.load_state_dict({key: value for key, value in state.items() if not key.startswith("head.1.")})
    return net


def build(_: str, pretrained: bool) -> Backbone:
    """`lite0-pyramid`; its weights come from a model folder."""
    return Lite0Pyramid()

"""The classifier's network: a backbone's multi-scale features and a light head, two bands a class."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridseg.nn.backbones.base import STRIDE, Backbone
from hybridseg.nn.backbones.lite0 import Lite0

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

"""The linear head on frozen features, the network that a card describes, and the one that training starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridseg.errors import WeightsError
from hybridseg.nn.backbones import build_backbone
from hybridseg.nn.backbones.base import Backbone, prepare
from hybridseg.nn.classify.segmenter import Segmenter
from hybridseg.nn.device import full_precision
from hybridseg.nn.weights import load_weights


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

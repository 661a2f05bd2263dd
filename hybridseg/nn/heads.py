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

from hybridseg.errors import ThemeError, WeightsError
from hybridseg.nn.backbones import build_backbone
from hybridseg.nn.bodies import Lite0Pyramid, snap_px
from hybridseg.nn.sam2 import normalise
from hybridseg.nn.segmenter import STRIDE, Segmenter
from hybridseg.nn.weights import load_weights, read_card

CORE_PX, HALO_PX = 512, 256
"""Windows in which features are looked at; multiples of every backbone's cells."""
SURE = 0.05
"""Interior is learnt as a logit, between this and one less it."""


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
        """(B, 3, H, W) normalised image to (B, 2 x classes, H/2, W/2) logits."""
        weights = torch.split(self.head.weight, list(self.trunk.channels), dim=1)
        total: Any = self.head.bias.view(1, -1, 1, 1) if self.head.bias is not None else 0
        for level, weight, stride in zip(self.trunk(x), weights, self.trunk.strides, strict=True):
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
    return Segmenter(classes, None if name == "lite0" else build_backbone(name))


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
    net = Segmenter(len(classes), trunk)
    if folder is not None:
        load_weights(net, folder, classes)
    return net


@dataclass(frozen=True)
class Samples:
    """Pixels of the heatmap's grid: features (N, C) float32, extent (N,) bool, interior (N,) float32 in [0, 1]."""

    features: np.ndarray
    extent: np.ndarray
    interior: np.ndarray


@torch.inference_mode()
def sample_features(
    trunk: nn.Module, image: np.ndarray, targets: np.ndarray, most: int, rng: np.random.Generator
) -> list[Samples]:
    """Features at random labelled pixels, of each class as many inside its objects as outside, half of these near.

    Args:
        trunk: backbone in eval mode.
        image: (H, W, 3) uint8.
        targets: (C, 3, H, W) float32: extent, interior, known of each class.
        most: pixels a class and side.
        rng: draws them.
    """
    pooled = F.avg_pool2d(_padded(torch.from_numpy(targets).flatten(0, 1)), STRIDE).numpy()
    small = pooled.reshape(-1, 3, *pooled.shape[1:])
    chosen = [_choose(layers, most, rng) for layers in small]
    found: list[list[np.ndarray]] = [[] for _ in chosen]
    kept: list[list[np.ndarray]] = [[] for _ in chosen]
    for levels, corner, core in _windows(trunk, image, chosen):
        for k, at in enumerate(chosen):
            inside = np.all((at >= core[0]) & (at < core[1]), axis=1)
            if inside.any():
                found[k].append(_at(levels, at[inside] - corner, trunk))
                kept[k].append(at[inside])
    samples = []
    for layers, parts, places in zip(small, found, kept, strict=True):
        at = np.concatenate(places) if places else np.zeros((0, 2), int)
        features = np.concatenate(parts) if parts else np.zeros((0, sum(_channels(trunk))), np.float32)
        extent, interior, _ = layers[:, at[:, 0], at[:, 1]]
        samples.append(Samples(features, extent > 0.5, interior))
    return samples


def fit_linear(net: LinearSegmenter, samples: Sequence[Sequence[Samples]], strength: float = 0.01) -> None:
    """Fill the head: logistic regression for extent, ridge for interior (as a logit), on standardised features.

    Args:
        net: what to fill.
        samples: of each class, of each scene.
        strength: of the logistic regression's fit against its L2 penalty (scikit-learn's C).

    Raises:
        ThemeError: a class has no labelled pixel inside or outside its objects.
    """
    from sklearn.linear_model import LogisticRegression, Ridge

    rows, biases = [], []
    for number, parts in enumerate(samples):
        x = np.concatenate([p.features for p in parts]).astype(np.float64)
        extent = np.concatenate([p.extent for p in parts])
        interior = np.concatenate([p.interior for p in parts])
        if extent.all() or not extent.any():
            raise ThemeError(
                f"class {number + 1} has labelled pixels {'inside' if extent.any() else 'outside'} its objects only; "
                "label some of both, or check --complete-within"
            )
        mean, std = x.mean(0), x.std(0) + 1e-3
        x = (x - mean) / std
        logistic = LogisticRegression(C=strength, class_weight="balanced", max_iter=200, tol=1e-3)
        logistic.fit(x, extent)
        wanted = np.clip(interior, SURE, 1 - SURE)
        ridge = Ridge(alpha=0.02 * len(x)).fit(x, np.log(wanted / (1 - wanted)))
        for weight, bias in ((logistic.coef_[0], logistic.intercept_[0]), (ridge.coef_, ridge.intercept_)):
            rows.append(weight / std)
            biases.append(bias - float((weight / std) @ mean))
    with torch.no_grad():
        net.head.weight.copy_(torch.from_numpy(np.stack(rows))[:, :, None, None])
        assert net.head.bias is not None
        net.head.bias.copy_(torch.tensor(biases))


def _choose(layers: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """(N, 2) row and column of pixels of one class's (3, h, w) extent, interior, known."""
    extent, _, known = layers
    inside = (extent > 0.5) & (known == 1)
    outside = (extent < 0.5) & (known == 1)
    near = outside & (F.max_pool2d(torch.from_numpy(extent)[None], 13, 1, 6)[0].numpy() > 0.5)
    parts = [_some(inside, most, rng), _some(near, most // 2, rng)]
    parts.append(_some(outside & ~near, most - len(parts[1]), rng))
    return np.concatenate(parts)


def _some(mask: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    at = np.argwhere(mask)
    return at[rng.choice(len(at), min(most, len(at)), replace=False)] if len(at) else at


def _windows(
    trunk: nn.Module, image: np.ndarray, chosen: Sequence[np.ndarray]
) -> Iterator[tuple[list[Tensor], np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    """Features of each window that holds a chosen pixel; its corner and its core, in heatmap pixels (row, column)."""
    every = np.concatenate(list(chosen)) * STRIDE
    device = next(trunk.parameters()).device
    height, width = image.shape[:2]
    snap = snap_px(trunk)
    for row, col in np.unique(every // CORE_PX, axis=0) * CORE_PX if len(every) else []:
        r0, c0 = max(0, row - HALO_PX), max(0, col - HALO_PX)
        part = image[r0 : row + CORE_PX + HALO_PX, c0 : col + CORE_PX + HALO_PX]
        pad = [(0, -side % snap) for side in part.shape[:2]]
        pixels = np.pad(part, [*pad, (0, 0)]).transpose(2, 0, 1)
        levels = trunk(normalise(torch.from_numpy(np.ascontiguousarray(pixels))[None].to(device)))
        core = np.array([row, col]) // STRIDE, np.array([min(row + CORE_PX, height), min(col + CORE_PX, width)])
        yield levels, np.array([r0, c0]) // STRIDE, (core[0], -(-core[1] // STRIDE))


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

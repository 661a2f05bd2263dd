"""A trained classifier: pixels of a window in, heatmap out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hybridseg.errors import WeightsError
from hybridseg.nn.backbones.base import prepare
from hybridseg.nn.cards import Stamp, model_folder, read_card, sha256, stamp
from hybridseg.nn.classify.heads import FeatureMaps, LinearSegmenter, features_of, network_for
from hybridseg.nn.classify.segmenter import STRIDE, Segmenter
from hybridseg.nn.device import full_precision, pick_device
from hybridseg.nn.runtime import Runner, pick_runtime
from hybridseg.nn.weights import load_weights
from hybridseg.types import NetworkSpec

OPENED = 8
"""Classifiers that a process keeps open."""


class Heat(nn.Module):
    """A segmenter from pixels as they are read, (N, B, H, W), to the heatmap, (N, 2 x classes, H/2, W/2) in [0, 1]."""

    def __init__(self, net: Segmenter | LinearSegmenter) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> Tensor:
        """Prepare the pixels, and give probabilities for logits."""
        return self.net(prepare(self.net.trunk, pixels)).sigmoid()


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network and its card; made by `load_classifier`.

    net: in eval mode, on its device.
    card: of the model folder.
    folder: the model folder.
    sha256: of its weights when they were loaded.
    device, runtime: as they were asked for.
    """

    net: Segmenter | LinearSegmenter
    card: dict[str, Any]
    folder: Path
    sha256: str
    device: str = "auto"
    runtime: str = "torch"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by its folder: the other process opens it there, once."""
        return load_classifier, (str(self.folder.absolute()), self.device, self.runtime)

    @property
    def name(self) -> str:
        """For messages and provenance."""
        return self.folder.name

    @cached_property
    def spec(self) -> NetworkSpec:
        """What it takes and gives."""
        trunk = self.net.trunk
        return NetworkSpec(
            classes=tuple(self.card["classes"]),
            stride=STRIDE,
            snap_px=trunk.snap_px,
            image_px=trunk.image_px,
            gsd_m=float(self.card["gsd_m"]),
            coarsest_gsd_m=float(self.card["gsd_range_m"][1]),
            source_bands=None if trunk.inputs.rgb else tuple(self.card["source_bands"]),
            scaling=trunk.inputs.scaling,
        )

    @cached_property
    def runners(self) -> tuple[Runner, ...]:
        """What computes the heatmap."""
        runtime = pick_runtime(self.runtime, next(self.net.parameters()).device)
        return (Runner("classifier", Heat(self.net).eval(), runtime, self._examples),)

    @torch.inference_mode()
    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Heatmap of one window: extent and interior, class by class.

        Args:
            pixels: (3, H, W) uint8 RGB, or (B, H, W) float32 of `spec.source_bands`.

        Returns:
            (2 x classes, H/2, W/2) float32 in [0, 1].
        """
        device = next(self.net.parameters()).device
        (heat,) = self.runners
        with full_precision(device):
            return heat(torch.from_numpy(pixels)[None].to(device))[0][0].cpu().numpy()

    def _examples(self) -> list[tuple[Tensor, ...]]:
        """Noise on windows of two shapes, or on one of the only shape that there is."""
        trunk, random = self.net.trunk, torch.Generator().manual_seed(0)
        snap = trunk.snap_px
        sides = [(trunk.image_px,) * 2] if trunk.image_px else [(2 * snap, 3 * snap), (4 * snap, 2 * snap)]
        if trunk.inputs.rgb:
            return [(torch.randint(0, 256, (1, 3, *s), generator=random, dtype=torch.uint8),) for s in sides]
        mean, deviation = (v.view(1, -1, 1, 1) for v in trunk.inputs.statistics())
        return [(mean + deviation * torch.randn((1, mean.shape[1], *s), generator=random),) for s in sides]

    def features(self, pixels: np.ndarray) -> FeatureMaps:
        """Features of one window that a linear head can be learnt on; pixels as for `predict`."""
        return features_of(self.net.trunk, pixels)


def load_classifier(name: str | Path, device: str = "auto", runtime: str = "torch") -> Classifier:
    """A classifier; one object for all who ask in a process, until the folder changes: copy it before changing it.

    Args:
        name: of an embedded model, `hf:OWNER/NAME` on the hub, or the path of a model folder.
        device: see nn.device.pick_device.
        runtime: see nn.runtime.pick_runtime.

    Raises:
        WeightsError: no such model, the weights do not fit, or the card does not say which bands it takes.
    """
    folder = model_folder(name)
    return _open(folder, stamp(folder / "weights.safetensors", folder / "card.yaml"), device, runtime)


@lru_cache(maxsize=OPENED)
def _open(folder: Path, _: Stamp, device: str, runtime: str) -> Classifier:
    target = pick_device(device)
    pick_runtime(runtime, target)  # refuses before anything is read
    card = read_card(folder, needs=("classes", "gsd_m", "gsd_range_m"))
    net = network_for(card)
    inputs = net.trunk.inputs
    if not inputs.rgb and len(card.get("source_bands") or ()) != len(inputs.bands):
        raise WeightsError(f"the card in {folder} must give source_bands, the numbers in the raster of {inputs}")
    load_weights(net, folder)
    net = net.eval().to(target).to(memory_format=torch.channels_last)
    return Classifier(net, card, folder, sha256(folder / "weights.safetensors"), device, runtime)

"""A trained classifier: pixels of a window in, heatmap out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hybridseg.errors import WeightsError
from hybridseg.heatmap import DEPTH_PX, depth_of
from hybridseg.nn.backbones.base import prepare
from hybridseg.nn.backbones.index import IndexBackbone
from hybridseg.nn.cards import Stamp, model_folder, read_card, sha256, stamp
from hybridseg.nn.classify.heads import FeatureMaps, LinearSegmenter, Segmenter, features_of, network_for
from hybridseg.nn.device import full_precision, pick_device
from hybridseg.nn.indices import PREFIX, parse_index
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
    name: for messages and provenance.
    sha256: of its weights when they were loaded.
    reopen: opens it in another process.
    runtime: as it was asked for.
    """

    net: Segmenter | LinearSegmenter
    card: dict[str, Any]
    name: str
    sha256: str
    reopen: Callable[[], Classifier]
    runtime: str = "torch"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by what opened it: the other process opens it there, once."""
        return self.reopen, ()

    @cached_property
    def spec(self) -> NetworkSpec:
        """What it takes and gives."""
        trunk, inputs = self.net.trunk, self.net.trunk.inputs
        spec = NetworkSpec(
            classes=tuple(self.card["classes"]),
            stride=trunk.heatmap_stride,
            snap_px=trunk.snap_px,
            image_px=trunk.image_px,
            gsd_m=float(self.card["gsd_m"]),
            coarsest_gsd_m=float(self.card["gsd_range_m"][1]),
            source_bands=None if inputs.rgb else inputs.bands if inputs.by_name else tuple(self.card["source_bands"]),
            scaling=inputs.scaling,
        )
        if not trunk.pointwise:
            return spec
        halo_px = -(-DEPTH_PX // trunk.snap_px) * trunk.snap_px
        return replace(spec, gsd_m=None, coarsest_gsd_m=np.inf, halo_px=halo_px)

    @cached_property
    def runners(self) -> tuple[Runner, ...]:
        """What computes the heatmap."""
        # an index is a few sums, which no conversion makes faster
        runtime = (
            "torch" if self.net.trunk.pointwise else pick_runtime(self.runtime, next(self.net.parameters()).device)
        )
        return (Runner("classifier", Heat(self.net).eval(), runtime, self._examples, large=True),)

    @torch.inference_mode()
    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Heatmap of one window: extent and interior, class by class.

        Args:
            pixels: (3, H, W) uint8 RGB, or (B, H, W) float32 of `spec.source_bands`.

        Returns:
            (2 x classes, H/stride, W/stride) float32 in [0, 1]; 0 where the features are not defined.

        Raises:
            WeightsError: the network gives values that are not finite.
        """
        device = next(self.net.parameters()).device
        (heat,) = self.runners
        with full_precision(device):
            heats = heat(torch.from_numpy(pixels)[None].to(device))[0][0]
        # of an index or bands a value may be undefined; of RGB in bytes it never is
        if self.net.trunk.inputs.rgb and not heats.isfinite().all():
            raise WeightsError(f"{self.name} gives values that are not finite: its weights are damaged; fetch it anew")
        values = heats.nan_to_num(0).cpu().numpy()
        if self.net.trunk.pointwise:
            values[1::2] = [depth_of(extent) for extent in values[::2]]
        return values

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


def load_classifier(name: str | Path, device: str = "auto", runtime: str = "torch", label: str = "") -> Classifier:
    """A classifier; one object for all who ask in a process, until the folder changes: copy it before changing it.

    Args:
        name: of an embedded model, `hf:OWNER/NAME` on the hub, the path of a model folder, or `index:EXPRESSION`.
        device: see nn.device.pick_device.
        runtime: see nn.runtime.pick_runtime.
        label: the class that an index tells from all else.

    Raises:
        WeightsError: no such model, the weights do not fit, or the card does not say which bands it takes.
    """
    if str(name).startswith(PREFIX):
        return _open_index(str(name), device, label)
    folder = model_folder(name)
    return _open(folder, stamp(folder / "weights.safetensors", folder / "card.yaml"), device, runtime)


@lru_cache(maxsize=OPENED)
def _open(folder: Path, _: Stamp, device: str, runtime: str) -> Classifier:
    target = pick_device(device)
    pick_runtime(runtime, target)  # refuses before anything is read
    card = read_card(folder, needs=("classes", "gsd_m", "gsd_range_m"))
    net = network_for(card)
    inputs = net.trunk.inputs
    if not (inputs.rgb or inputs.by_name) and len(card.get("source_bands") or ()) != len(inputs.bands):
        raise WeightsError(f"the card in {folder} must give source_bands, the numbers in the raster of {inputs}")
    load_weights(net, folder)
    net = net.eval().to(target).to(memory_format=torch.channels_last)
    again = partial(load_classifier, str(folder.absolute()), device, runtime)
    return Classifier(net, card, folder.name, sha256(folder / "weights.safetensors"), again, runtime)


@lru_cache(maxsize=OPENED)
def _open_index(name: str, device: str, label: str) -> Classifier:
    """An index on its own scale, as a classifier of one class."""
    index = parse_index(name)
    net = LinearSegmenter(1, IndexBackbone(index))
    net.load_state_dict({
        "head.weight": torch.full((2, 1, 1, 1), index.steepness),
        "head.bias": torch.full((2,), -index.steepness * index.centre),
    })  # fmt: skip
    card = {"kind": "classifier", "classes": [label], "gsd_m": 1.0, "gsd_range_m": [0.0, np.inf]}
    again = partial(load_classifier, name, device, "torch", label)
    made_of = hashlib.sha256(repr(index).encode()).hexdigest()
    return Classifier(net.eval().to(pick_device(device)), card, name, made_of, again)

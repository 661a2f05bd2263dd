"""A trained classifier: pixels of a window in, heatmap out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hybridseg.errors import WeightsError
from hybridseg.nn.bodies import image_px, prepare, snap_px, wants_of
from hybridseg.nn.device import pick_device
from hybridseg.nn.heads import LinearSegmenter, network_for
from hybridseg.nn.segmenter import STRIDE, Segmenter
from hybridseg.nn.weights import load_weights, model_folder, read_card, sha256


@dataclass(frozen=True)
class Classifier:
    """Heatmap of one theme. Made by `load_classifier`."""

    net: Segmenter | LinearSegmenter
    card: dict[str, Any]
    folder: Path

    @property
    def name(self) -> str:
        """For messages and provenance."""
        return self.folder.name

    @property
    def stride(self) -> int:
        """Image pixels along a heatmap pixel's side."""
        return STRIDE

    @property
    def snap_px(self) -> int:
        """Windows start and end on multiples of this."""
        return snap_px(self.net.trunk)

    @property
    def image_px(self) -> int | None:
        """Side of the only image that it takes; None: any whose sides are multiples of `snap_px`."""
        return image_px(self.net.trunk)

    @property
    def classes(self) -> list[str]:
        """What it tells apart; its heatmap has two bands for each."""
        return list(self.card["classes"])

    @property
    def gsd_m(self) -> float:
        """Ground sampling distance that it works at."""
        return float(self.card["gsd_m"])

    @property
    def coarsest_gsd_m(self) -> float:
        """Sources coarser than this are beyond it."""
        return float(self.card["gsd_range_m"][1])

    @property
    def source_bands(self) -> tuple[int, ...] | None:
        """1-based bands of the raster that it looks at, as they are stored; None: 8-bit red, green and blue."""
        return None if wants_of(self.net.trunk).rgb else tuple(self.card["source_bands"])

    @property
    def scaling(self) -> str:
        """Of the values that it takes, in words."""
        return wants_of(self.net.trunk).scaling

    @cached_property
    def sha256(self) -> str:
        """Hash of the weights."""
        return sha256(self.folder / "weights.safetensors")

    @torch.inference_mode()
    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels to (2 x classes, H/2, W/2) float32 in [0, 1]: extent and interior, class by class.

        pixels: (3, H, W) uint8 RGB, or (B, H, W) float32 of `source_bands`.
        """
        device = next(self.net.parameters()).device
        # in fp32: bf16 is faster, but rounds so that the heatmap would depend on the tiling
        logits = self.net(prepare(self.net.trunk, torch.from_numpy(pixels)[None].to(device)))
        return logits[0].sigmoid().cpu().numpy()


def load_classifier(name: str | Path, device: str = "auto") -> Classifier:
    """A classifier by name (embedded) or by the path of its folder.

    Raises:
        WeightsError: no such model, the weights do not fit, or the card does not say which bands they look at.
    """
    folder = model_folder(name)
    card = read_card(folder, needs=("classes", "gsd_m", "gsd_range_m"))
    net = network_for(card)
    wants = wants_of(net.trunk)
    if not wants.rgb and len(card.get("source_bands") or ()) != len(wants.bands):
        raise WeightsError(f"the card in {folder} must give source_bands, the numbers in the raster of {wants}")
    load_weights(net, folder)
    net = net.eval().to(pick_device(device)).to(memory_format=torch.channels_last)
    return Classifier(net, card, folder)

"""Real, small siblings of the networks: no weights, no torch, same contracts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage as ndi

from hybridseg.nn.models import Models
from hybridseg.read.opening import open_scene
from hybridseg.run.survey import Survey
from hybridseg.shape import AsTraced
from hybridseg.theme import Theme, load_theme
from hybridseg.types import Chip, NetworkSpec
from hybridseg.what.instances import Instances


@dataclass(frozen=True)
class Bright:
    """A classifier for which bright ground is a building: extent is brightness, interior its blur."""

    name: str = "bright"
    sha256: str = "b" * 64
    spec: NetworkSpec = NetworkSpec(("building",), stride=2, snap_px=32, gsd_m=0.25, coarsest_gsd_m=0.6)
    card: Mapping[str, Any] = field(default_factory=dict, compare=False)
    runners = ()

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        grey = pixels.mean(axis=0, dtype=np.float32) / 255
        small = grey.reshape(grey.shape[0] // 2, 2, grey.shape[1] // 2, 2).mean((1, 3))
        extent = 1 / (1 + np.exp(-20 * (small - 0.5)))
        return np.stack([extent, ndi.uniform_filter(extent, 7)]).astype(np.float32)


@dataclass(frozen=True)
class Threshold:
    """A refiner for which an object is what is bright around its prompt."""

    size_px: int = 128
    iou: float = 0.9
    name: str = "threshold"
    sha256: str = "0" * 64
    large: bool = False
    runners = ()

    def take_notes(self) -> list[str]:
        return []

    @property
    def mask_px(self) -> int:
        return self.size_px // 4

    def encode(self, chip: Chip) -> np.ndarray:
        side = self.mask_px
        return chip.pixels.mean(axis=0).reshape(side, 4, side, 4).mean((1, 3)) / 255

    def decode(
        self,
        embedding: np.ndarray,
        points: np.ndarray,
        labels: np.ndarray,
        hints: np.ndarray | None,
        agreed: Any = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        logits = np.repeat((embedding[None] - 0.5) * 40, len(points), axis=0)
        for mask, at, kinds in zip(logits, points, labels, strict=True):
            if (kinds == 2).any():
                (x0, y0), (x1, y1) = at[kinds == 2][0] / 4, at[kinds == 3][0] / 4
                y, x = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
                mask[(x < x0 - 1) | (x > x1 + 1) | (y < y0 - 1) | (y > y1 + 1)] = -10
        return logits.astype(np.float32), np.full(len(points), self.iou, np.float32)

    def readings(
        self, embedding: np.ndarray, points: np.ndarray, labels: np.ndarray, hints: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        masks, iou = self.decode(embedding, points, labels, hints)
        return np.repeat(masks[:, None], 4, 1), np.repeat(iou[:, None], 4, 1)


class CountedEncoder:
    """How often a refiner's encoder runs."""

    def __init__(self, refiner: Any) -> None:
        self.runs = 0
        refiner.model.image_encoder.register_forward_hook(self)

    def __call__(self, *_: object) -> None:
        self.runs += 1


def survey(
    scene: Any, theme: Theme | None = None, refiner: Any = Threshold(), network: Any = Bright(), **how: Any
) -> Survey:
    """A survey of buildings as traced, with the doubles as models; `scene` as `open_scene` takes it.

    The doubles are shown each window once, at their own GSD; what they see is cut by one threshold: weights that were
    learnt on heatmaps of networks say nothing of theirs.
    """
    objects = Instances(rise=0.15, join=0.4, min_score=0.65)
    plain = {"shape": AsTraced(), "looks": 1, "work_gsd_m": None, "objects": objects}
    theme = theme or load_theme("buildings").model_copy(update=plain)
    return Survey(open_scene(scene), theme, Models(network, refiner), **how)

"""Refine the prompts of one window: encode once, decode in batches, gate, trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import shapely
from rasterio.features import rasterize

from hybridseg.read.source import Source
from hybridseg.read.view import OnGrid
from hybridseg.theme import Gate, PromptPolicy
from hybridseg.types import Chip, Window
from hybridseg.where.gate import Verdict, judge
from hybridseg.where.hints import POINTS, hint_logits
from hybridseg.where.trace import trace

BATCH = 32
"""Prompts decoded at once."""


class Promptable(Protocol):
    """What refining needs of a SAM2 model (nn.sam2.promptable.Promptable)."""

    @property
    def name(self) -> str:
        """For messages and provenance."""

    @property
    def sha256(self) -> str:
        """Hash of its weights."""

    @property
    def size_px(self) -> int:
        """Side of its image."""

    @property
    def mask_px(self) -> int:
        """Side of its hints and logits."""

    def encode(self, chip: Chip) -> Any:
        """A chip of 8-bit RGB, S x S pixels, to an embedding."""

    def decode(
        self, embedding: Any, points: np.ndarray, labels: np.ndarray, hints: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(N, P, 2), (N, P), (N, M, M) or None to logits (N, M, M) and predicted IoU (N,)."""


@dataclass(frozen=True)
class Prompt:
    """One object to refine. Everything in pixels of the source or its view on a grid, x to the right and y down.

    support: its coarse outline; positive (P, 2) and negative (Q, 2): points.
    """

    support: shapely.Geometry
    positive: np.ndarray
    negative: np.ndarray


@dataclass(frozen=True)
class Refined:
    """What became of a prompt. outline: in the source's CRS, None when the gate refused the mask."""

    outline: shapely.Polygon | None
    verdict: Verdict


@dataclass(frozen=True)
class Refine:
    """The second sweep's work: a pure function of source, window, prompts and settings."""

    model: Promptable
    policy: PromptPolicy
    gate: Gate

    def __call__(self, source: Source | OnGrid, window: Window, prompts: list[Prompt]) -> list[Refined]:
        """Refine all prompts of one window."""
        chip = source.read_window(window, self.model.size_px)
        embedding = self.model.encode(chip)
        return [
            result
            for start in range(0, len(prompts), BATCH)
            for result in self._batch(source, window, chip, embedding, prompts[start : start + BATCH])
        ]

    def _batch(
        self, source: Source | OnGrid, window: Window, chip: Chip, embedding: Any, prompts: list[Prompt]
    ) -> Iterator[Refined]:
        supports = np.stack([self._cover(p.support, window) for p in prompts])
        points, labels = self._points(prompts, window)
        hints = hint_logits(supports) if "hint" in self.policy.parts else None
        logits, iou = self.model.decode(embedding, points, labels, hints)
        for prompt, support, mask, predicted in zip(prompts, supports, logits, iou.tolist(), strict=True):
            verdict = judge(mask, support, predicted, self.gate)
            outline = trace(mask, window, source, chip.valid, prompt.support) if verdict.kept else None
            yield Refined(outline, verdict)

    def _cover(self, support: shapely.Geometry, window: Window) -> np.ndarray:
        """Share of each decoder pixel that the support covers, (M, M) float32."""
        side, fine = self.model.mask_px, 4
        zoom = side * fine / window.width
        moved = shapely.transform(support, lambda xy: (xy - (window.col, window.row)) * zoom)
        filled = rasterize([moved], out_shape=(side * fine, side * fine), dtype=np.uint8)
        return filled.reshape(side, fine, side, fine).mean((1, 3), dtype=np.float32)

    def _points(self, prompts: list[Prompt], window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Points (N, P, 2) in pixels of the model's image and labels (N, P); see hints.POINTS."""
        points = np.zeros((len(prompts), POINTS, 2), np.float32)
        labels = np.full((len(prompts), POINTS), -1, np.int32)
        zoom = self.model.size_px / window.width
        for i, prompt in enumerate(prompts):
            at: list[np.ndarray] = []
            kinds: list[int] = []
            if "box" in self.policy.parts:
                at += list(np.reshape(prompt.support.bounds, (2, 2)))
                kinds += [2, 3]
            if "points" in self.policy.parts:
                negative = prompt.negative[: self.policy.negatives]
                at += [*prompt.positive, *negative]
                kinds += [1] * len(prompt.positive) + [0] * len(negative)
            count = min(len(at), POINTS)
            if count:
                points[i, :count] = (np.array(at[:count]) - (window.col, window.row)) * zoom
                labels[i, :count] = kinds[:count]
        # a neighbour's peak may lie outside the window: it says nothing there
        outside = ((points < 0) | (points > self.model.size_px)).any(2) & (labels == 0)
        labels[outside], points[outside] = -1, 0
        return points, labels

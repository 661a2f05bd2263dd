"""Refine the prompts of one window: what the model is told, one encoding, decoding in batches, tracing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import shapely
from pydantic import Field, field_serializer
from rasterio.features import rasterize

from hybridseg.read.scene import Scene
from hybridseg.types import HINT_SLOPE, MAX_POINTS, Chip, Settings, Window
from hybridseg.where.gate import agreement, stability
from hybridseg.where.trace import trace

PromptPart = Literal["box", "points", "hint"]


class PromptSettings(Settings):
    """What the refiner is told about each object, and at what zoom it sees it."""

    parts: frozenset[PromptPart] = frozenset({"box", "points", "hint"})
    negatives: int = Field(3, ge=0, le=8, description="most points on touching neighbours")
    span: float = Field(0.3, gt=0.05, le=0.7, description="most of the window's side that an object's box may take")
    max_zoom: float = Field(4.0, ge=1, le=64, description="most that source pixels are enlarged for the refiner")
    looks: Literal[1, 2, 4, 8] = Field(
        1,
        description="how often the refiner is shown each window, turned and mirrored; the mean of its masks counts. "
        "Official ones, whose encoder takes seconds, and one that shares the classifier's encoder look once",
    )
    windows: Literal["own", "shared"] = Field(
        "own",
        description="own: each object at the zoom that suits it; shared: through the first sweep's windows, encoded "
        "once for both, where classifier and refiner have one encoder; span and max_zoom do not count then",
    )

    @field_serializer("parts")
    def _in_order(self, parts: frozenset[str]) -> list[str]:
        return sorted(parts)  # a set's own order changes from process to process, and with it the fingerprint


def hint_logits(cover: np.ndarray) -> np.ndarray:
    """Return mask logits (..., h, w) float32, 0 on the outline, where the support is least sure.

    Args:
        cover: (..., h, w) share of each pixel that the support covers, in [0, 1].
    """
    return np.asarray((cover.astype(np.float32) - 0.5) * HINT_SLOPE)


class Promptable(Protocol):
    """A SAM2 model, as refining needs it (see nn.sam2)."""

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

    @property
    def runners(self) -> tuple[Any, ...]:
        """What computes it, part by part, as `nn.runtime.Runner`; may be empty."""

    def take_notes(self) -> list[str]:
        """Return what a user should know of its masks since this was asked last, a line each."""

    def encode(self, chip: Chip) -> Any:
        """Return the embedding of a chip of (3, S, S) uint8, with its place."""

    def decode(
        self,
        embedding: Any,
        points: np.ndarray,
        labels: np.ndarray,
        hints: np.ndarray | None,
        agreed: dict[int, bool] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (N, M, M) and predicted IoU (N,) for points (N, P, 2), labels (N, P), hints (N, M, M).

        agreed: what the model found out on earlier prompts of the image, and what it finds out now.
        """


@dataclass(frozen=True)
class Prompt:
    """One object to refine, in pixels of the scene, x to the right and y down.

    support: its coarse outline; None: there is none, as for a click.
    positive, negative: (P, 2) and (Q, 2) points.
    """

    support: shapely.Geometry | None
    positive: np.ndarray
    negative: np.ndarray

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of the support, or of the positive points."""
        if self.support is not None:
            return tuple(self.support.bounds)
        (x0, y0), (x1, y1) = self.positive.min(0).tolist(), self.positive.max(0).tolist()
        return x0, y0, x1, y1


@dataclass(frozen=True)
class Decoded:
    """Masks of some prompts of one window, as the model gives them.

    logits: (N, M, M) float32 over the window, inside > 0.
    iou_pred: (N,) predicted IoU.
    supports: (N, M, M) share of each pixel that the support covers; 0 all over where there is none.
    """

    logits: np.ndarray
    iou_pred: np.ndarray
    supports: np.ndarray


@dataclass(frozen=True)
class Mask:
    """One mask before the gate.

    outline: in the scene's CRS, None where no valid pixel is inside.
    iou_pred, stability, agreement: see `FIGURES`.
    """

    outline: shapely.Polygon | None
    iou_pred: float
    stability: float
    agreement: float


@dataclass(frozen=True)
class Refine:
    """The second sweep's work: a pure function of scene, window, prompts and settings.

    batch: prompts decoded at once.
    """

    model: Promptable
    settings: PromptSettings
    batch: int = 32

    def __call__(self, scene: Scene, window: Window, prompts: Sequence[Prompt]) -> list[Mask]:
        """Refine all prompts of one window, in order."""
        chip = scene.read_window(window, self.model.size_px)
        embedding = self.model.encode(chip)
        masks: dict[int, Mask] = {}
        # a batch has hints for all or for none: to the model an empty hint is a hint
        for hinted in (True, False):
            agreed: dict[int, bool] = {}  # of the window, so that the size of batches does not matter
            rows = [i for i, p in enumerate(prompts) if (p.support is not None) == hinted]
            for start in range(0, len(rows), self.batch):
                batch = rows[start : start + self.batch]
                asked = [prompts[i] for i in batch]
                decoded = self.decode(embedding, window, asked, agreed)
                masks |= dict(zip(batch, self._trace(scene, window, chip, asked, decoded), strict=True))
        return [masks[i] for i in range(len(prompts))]

    def decode(
        self, embedding: Any, window: Window, prompts: Sequence[Prompt], agreed: dict[int, bool] | None = None
    ) -> Decoded:
        """Decode prompts, all with a support or all without, on the embedding of their window; see `Promptable`."""
        supports = np.stack([self._cover(p.support, window) for p in prompts])
        points, labels = self._points(prompts, window)
        hinted = "hint" in self.settings.parts and prompts[0].support is not None
        logits, iou = self.model.decode(embedding, points, labels, hint_logits(supports) if hinted else None, agreed)
        return Decoded(logits, iou, supports)

    def _trace(
        self, scene: Scene, window: Window, chip: Chip, prompts: Sequence[Prompt], decoded: Decoded
    ) -> Iterator[Mask]:
        for i, prompt in enumerate(prompts):
            logits = decoded.logits[i]
            agreed = np.nan if prompt.support is None else agreement(logits, decoded.supports[i])
            outline = trace(logits, window, scene, chip.valid, prompt.support, prompt.positive)
            yield Mask(outline, float(decoded.iou_pred[i]), stability(logits), agreed)

    def _cover(self, support: shapely.Geometry | None, window: Window) -> np.ndarray:
        """Share of each decoder pixel that the support covers, (M, M) float32."""
        side, fine = self.model.mask_px, 4
        cover = np.zeros((side, side), np.float32)
        if support is None:
            return cover
        zoom = side * fine / window.width
        moved = shapely.transform(support, lambda xy: (xy - (window.col, window.row)) * zoom)
        x0, y0, x1, y1 = moved.bounds
        (x0, y0), (x1, y1) = np.floor((x0 / fine, y0 / fine)).astype(int), np.ceil((x1 / fine, y1 / fine)).astype(int)
        whole = Window(0, 0, side, side)
        part = Window(int(x0), int(y0), int(x1 - x0), int(y1 - y0)).clip(whole)
        if part.width and part.height:
            there = shapely.transform(moved, lambda xy: xy - (part.col * fine, part.row * fine))
            filled = rasterize([there], out_shape=(part.height * fine, part.width * fine), dtype=np.uint8)
            filled = filled.reshape(part.height, fine, part.width, fine)
            cover[part.slices(whole)] = filled.mean((1, 3), dtype=np.float32)
        return cover

    def _points(self, prompts: Sequence[Prompt], window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Points (N, P, 2) in pixels of the model's image and labels (N, P); see `MAX_POINTS`."""
        points = np.zeros((len(prompts), MAX_POINTS, 2), np.float32)
        labels = np.full((len(prompts), MAX_POINTS), -1, np.int32)
        zoom = self.model.size_px / window.width
        for i, prompt in enumerate(prompts):
            at: list[np.ndarray] = []
            kinds: list[int] = []
            if "box" in self.settings.parts and prompt.support is not None:
                at += list(np.reshape(prompt.box, (2, 2)))
                kinds += [2, 3]
            if "points" in self.settings.parts or prompt.support is None:
                negative = prompt.negative[: self.settings.negatives]
                at += [*prompt.positive, *negative]
                kinds += [1] * len(prompt.positive) + [0] * len(negative)
            count = min(len(at), MAX_POINTS)
            if count:
                points[i, :count] = (np.array(at[:count]) - (window.col, window.row)) * zoom
                labels[i, :count] = kinds[:count]
        # a neighbour's peak may lie outside the window: it says nothing there
        outside = ((points < 0) | (points > self.model.size_px)).any(2) & (labels == 0)
        labels[outside], points[outside] = -1, 0
        return points, labels

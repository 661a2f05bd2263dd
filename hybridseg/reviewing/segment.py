"""Clicks to outlines: a place is encoded once, every click on it is decoded."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import shapely
from rasterio.features import rasterize
from scipy import ndimage as ndi

from hybridseg.read.ground import pixel_anchor
from hybridseg.read.scene import Scene
from hybridseg.read.tiles import transformed
from hybridseg.reviewing.recent import Recent
from hybridseg.shape.geometry import iou
from hybridseg.types import MAX_POINTS, Window
from hybridseg.where.gate import stability
from hybridseg.where.refine import Promptable, hint_logits
from hybridseg.where.trace import trace
from hybridseg.where.windows import MARGIN, ObjectWindows

ENCODED = 24
"""Places kept encoded: 50 MB of sam2-lite for each look, 400 MB of an official model."""
ASKED = 256
"""Answers whose masks are kept, for the click that follows."""
DECODED = 8
"""Lone clicks whose answers are kept: a click where the pointer hovered is not decoded again."""
ENLARGED, TIMES = 2, 2
"""A mask which reaches the edge of its window is looked at in one so many times as wide, so often."""
SURE = 0.5
"""Stability of a mask from which on it is worth a larger window."""
SPECK = 8
"""Holes of a mask up to so many of its cells are filled, as in SAM2's own predictors (fill_hole_area)."""
MOST = 3
"""Candidates of one answer."""
_SAME_IOU = 0.95
_STEPS = 8
"""Windows lie on every eighth of their side, so that a small move of the map needs no new one."""


class Reader(Promptable, Protocol):
    """A promptable model that gives all its readings of a prompt."""

    def readings(
        self, embedding: Any, points: np.ndarray, labels: np.ndarray, hints: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (N, 4, M, M) and predicted IoU (N, 4): the first for a plain prompt, three for a lone click."""


@dataclass(frozen=True)
class Encoded:
    """A place that clicks can be decoded on. valid: (S, S) bool of the image."""

    window: Window
    valid: np.ndarray
    embedding: Any


@dataclass(frozen=True)
class Clicks:
    """What a person points at, in pixels of the scene.

    points: (P, 2) float; labels: (P,) int, 1 on the object, 0 beside it.
    box: x0, y0, x1, y1 around it; None: there is none.
    side_px: of the view, in source pixels: what is looked at is about so large.
    """

    points: np.ndarray
    labels: np.ndarray
    box: tuple[float, float, float, float] | None
    side_px: float

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of all points and the box."""
        corners = np.empty((0, 2)) if self.box is None else np.reshape(self.box, (2, 2))
        at = np.concatenate([self.points, corners])
        (x0, y0), (x1, y1) = at.min(0).tolist(), at.max(0).tolist()
        return x0, y0, x1, y1


@dataclass(frozen=True)
class Candidate:
    """A reading of the clicks.

    outline: in the scene's CRS.
    token: names its mask, for the next click.
    cut: whether it reaches beyond the largest window it was looked at in.
    """

    outline: shapely.Polygon
    token: str
    iou_pred: float
    stability: float
    cut: bool


@dataclass(frozen=True)
class _Mask:
    """A mask (M, M) of logits over a window, with its outline in pixels of the scene."""

    window: Window
    logits: np.ndarray
    outline: shapely.Geometry


class Segmenter:
    """Answers clicks on one scene with one model. Memory is bounded by `ENCODED` and `ASKED`.

    scene: what is looked at.
    model: answers.
    span, max_zoom: of the windows, as a theme's prompts have them.
    """

    def __init__(self, scene: Scene, model: Reader, span: float, max_zoom: float) -> None:
        self.scene, self.model = scene, model
        self._sizes = ObjectWindows(model.size_px, span, max_zoom, pixel_anchor(scene.geobox)).sizes_px
        self._encoded = Recent[Window, Encoded](ENCODED)
        self._masks = Recent[str, _Mask](ASKED)
        self._decoded = Recent[tuple[Window, float, float], tuple[np.ndarray, np.ndarray]](DECODED)
        self._encoding = threading.Lock()

    def window(self, x: float, y: float, side_px: float) -> Window:
        """Return the window around a place that is about so large, in pixels of the scene."""
        size = next((size for size in self._sizes if size >= side_px), self._sizes[-1])
        step = size // _STEPS
        return Window(round(x / step) * step - size // 2, round(y / step) * step - size // 2, size, size)

    def encode(self, window: Window) -> Encoded:
        """Return a window encoded; one at a time is, and none twice while it is kept."""
        if (known := self._encoded.get(window)) is not None:
            return known
        with self._encoding:
            if (known := self._encoded.get(window)) is not None:
                return known
            chip = self.scene.read_window(window, self.model.size_px)
            made = Encoded(window, chip.valid, self.model.encode(chip))
            self._encoded.put(window, made)
            return made

    def ready(self, window: Window) -> None:
        """Encode a window ahead of the clicks on it, and see to it that the decoder is there: it is converted once."""
        encoded, lone = self.encode(window), np.full((1, 2), (window.col, window.row)) + window.width / 2
        if not self._decoded.values():
            self._decode(encoded, Clicks(lone, np.array([1]), None, 0.0), None, None)

    def in_pixels(self, geometry: shapely.Geometry) -> shapely.Geometry:
        """Return a geometry of the scene's CRS in its pixels."""
        return transformed(geometry, ~self.scene.geobox.affine)

    def segment(
        self,
        clicks: Clicks,
        previous: str | None = None,
        outline: shapely.Geometry | None = None,
        preview: bool = False,
    ) -> list[Candidate]:
        """Return what the clicks may mean, the likeliest first; none where no valid pixel is meant.

        Args:
            clicks: all so far; beyond `MAX_POINTS` the last ones count.
            previous: token of the candidate that they go on from; an unknown one counts as none.
            outline: the object that they correct, in pixels of the scene; `previous` counts before it.
            preview: one candidate is enough, cut at its window's edge or not.
        """
        before = None if previous is None else self._masks.get(previous)
        drawn = before.outline if before is not None else outline
        encoded = self.encode(self._place(clicks, before, drawn))
        for enlarged in range(ENLARGED + 1):
            masks, predicted = self._decode(encoded, clicks, before, drawn)
            edge = [_touches(mask, encoded.valid) for mask in masks]
            if preview or not edge[0] or enlarged == ENLARGED or stability(masks[0]) < SURE:
                break
            if (larger := self._larger(encoded.window, masks[0])) is None:
                break
            encoded = self.encode(larger)
        found = list[Candidate]()
        shapes = list[shapely.Geometry]()
        for mask, confidence, cut in zip(masks, predicted, edge, strict=True):
            shape = self._outline(encoded, mask, clicks, drawn)
            if shape is None or (len(shapes) and bool((iou(shape, np.array(shapes)) > _SAME_IOU).any())):
                continue
            token = secrets.token_hex(8)
            self._masks.put(token, _Mask(encoded.window, mask, self.in_pixels(shape)))
            found.append(Candidate(shape, token, float(confidence), stability(mask), cut))
            shapes.append(shape)
            if len(found) == (1 if preview else MOST):
                break
        return found

    def _place(self, clicks: Clicks, before: _Mask | None, drawn: shapely.Geometry | None) -> Window:
        """The window to decode in: that of the mask before, one that is encoded, or one around the clicks."""
        x0, y0, x1, y1 = clicks.bounds
        if drawn is not None:
            a, b, c, d = drawn.bounds
            x0, y0, x1, y1 = min(x0, a), min(y0, b), max(x1, c), max(y1, d)
        if before is not None and _holds(before.window, clicks.bounds):
            return before.window
        longest = max(x1 - x0, y1 - y0)
        middle = self.window((x0 + x1) / 2, (y0 + y1) / 2, max(clicks.side_px, longest / (1 - 4 * MARGIN)))
        fitting = [one.window for one in self._encoded.values() if one.window.width == middle.width]
        held = [window for window in fitting if _holds(window, (x0, y0, x1, y1))]
        return min(held, key=lambda w: abs(w.col - middle.col) + abs(w.row - middle.row), default=middle)

    def _larger(self, window: Window, mask: np.ndarray) -> Window | None:
        """A larger window around a mask; None: there is none, or this one shows the whole scene."""
        if self.scene.window.clip(window) == self.scene.window or window.width >= self._sizes[-1]:
            return None
        rows, cols = np.nonzero(mask > 0)
        scale = window.width / mask.shape[0]
        x, y = (cols.min() + cols.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2
        return self.window(window.col + x * scale, window.row + y * scale, window.width * TIMES)

    def _decode(
        self, encoded: Encoded, clicks: Clicks, before: _Mask | None, drawn: shapely.Geometry | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits (K, M, M) and predicted IoU (K,), likeliest first."""
        window, side = encoded.window, self.model.mask_px
        points, labels = np.zeros((1, MAX_POINTS, 2), np.float32), np.full((1, MAX_POINTS), -1, np.int32)
        at, kinds = clicks.points, clicks.labels
        if clicks.box is not None:
            at = np.concatenate([np.reshape(clicks.box, (2, 2)), at[-(MAX_POINTS - 2) :]])
            kinds = np.concatenate([[2, 3], kinds[-(MAX_POINTS - 2) :]])
        at, kinds = at[-MAX_POINTS:], kinds[-MAX_POINTS:]
        points[0, : len(at)] = (at - (window.col, window.row)) * (self.model.size_px / window.width)
        labels[0, : len(at)] = kinds
        hints = None
        if before is not None and before.window == window:
            hints = before.logits[None]
        elif drawn is not None:
            fine = shapely.transform(drawn, lambda xy: (xy - (window.col, window.row)) * (4 * side / window.width))
            filled = rasterize([fine], out_shape=(4 * side, 4 * side), dtype=np.uint8)
            hints = hint_logits(filled.reshape(side, 4, side, 4).mean((1, 3), dtype=np.float32))[None]
        lone = len(at) == 1 and hints is None and bool(kinds[0] == 1)
        key = (window, *at[0].tolist())
        if lone and (known := self._decoded.get(key)) is not None:
            return known
        masks, predicted = (found[0] for found in self.model.readings(encoded.embedding, points, labels, hints))
        readings = 1 + np.argsort(-predicted[1:], kind="stable")
        # a lone click may mean a part, the object or a group; whatever says more means the first mask
        order = readings if lone else np.array([0, *readings])
        found = np.stack([_filled(mask) for mask in masks[order]]), predicted[order]
        if lone:
            self._decoded.put(key, found)
        return found

    def _outline(
        self, encoded: Encoded, mask: np.ndarray, clicks: Clicks, drawn: shapely.Geometry | None
    ) -> shapely.Polygon | None:
        on = clicks.points[clicks.labels == 1]
        support = drawn if not len(on) else None
        if support is None and not len(on):
            if clicks.box is None:
                return None  # points beside an object alone name none
            support = shapely.box(*clicks.box)
        return trace(mask, encoded.window, self.scene, encoded.valid, support, on)


def _filled(mask: np.ndarray) -> np.ndarray:
    """The logits (M, M) of a mask without holes of `SPECK` cells or fewer."""
    pieces, count = ndi.label(mask <= 0)
    small = np.bincount(pieces.ravel(), minlength=count + 1) <= SPECK
    small[0] = False
    return np.where(small[pieces], 0.1, mask).astype(np.float32)


def _touches(mask: np.ndarray, valid: np.ndarray) -> bool:
    """Whether a mask (M, M) reaches its window's edge where there is imagery (S, S)."""
    step = len(valid) // len(mask)
    inside = (mask > 0) & valid[step // 2 :: step, step // 2 :: step]
    return bool(inside[[0, -1]].any() or inside[:, [0, -1]].any())


def _holds(window: Window, bounds: tuple[float, float, float, float]) -> bool:
    """Whether bounds lie inside a window, with a margin for what is around them."""
    margin = 2 * MARGIN * window.width
    x0, y0, x1, y1 = bounds
    return (
        x0 >= window.col + margin and y0 >= window.row + margin
        and x1 <= window.stop[0] - margin and y1 <= window.stop[1] - margin
    )  # fmt: skip

"""Parts of an image around prompts, so that the decoder attends to what is near and not to all.

sam2-lite was trained on parts of one size, whose positions count from the part's corner. To official models, trained on
the whole image, a part is shown with the positions that it has in the whole: of the same keys, those far away are left
out. How much that changes is for `Promptable` to check.
"""

from __future__ import annotations

import torch
from torch import Tensor

SIDES = (16, 24, 32, 40)
"""Sides of parts, in cells of 16 px."""
ROOM, MARGIN = 1.5, 4
"""A part is at least so many times as wide as its object, and so many cells more."""


def middles(points: Tensor, labels: Tensor, hints: Tensor | None) -> tuple[Tensor, Tensor]:
    """Middle (N, 2) and greater side (N,) in px of what each prompt asks for: the box, or else the hint, or the points.

    Args:
        points: (N, P, 2) px.
        labels: (N, P).
        hints: (N, 1, M, M) or None; M a quarter of the image's side.
    """
    boxed = (labels == 2) | (labels == 3)
    chosen = torch.where(boxed.any(1, keepdim=True), boxed, labels == 1)
    middle = (points * chosen[..., None]).sum(1) / chosen.sum(1, keepdim=True).clamp(min=1)
    spread = torch.where(chosen[..., None], points - middle[:, None], 0).abs().amax((1, 2)) * 2
    if hints is None:
        return middle, spread
    inside = hints[:, 0] > 0
    cells = torch.arange(hints.shape[-1], device=points.device)
    spans = [torch.where(inside.any(dim), cells, torch.nan) for dim in (1, 2)]
    low, high = (torch.stack([_least(sign * s) for s in spans], 1) for sign in (1, -1))
    hinted = inside.any((1, 2)) & ~boxed.any(1)
    middle = torch.where(hinted[:, None], (low - high) / 2 * 4 + 2, middle)
    return middle, torch.where(hinted, (-high - low + 1).amax(1) * 4, spread)


def corners(middle: Tensor, side: int, whole: int) -> Tensor:
    """First cell (N, 2), column and row, of a part of `side` cells around each middle (N, 2, px)."""
    return ((middle / 16 - side / 2).round().long()).clamp(0, whole - side)


def sides_for(extent: Tensor, whole: int) -> Tensor:
    """Side (N,) in cells of the part for objects of an extent (N,) in px: the least of `SIDES`, or the whole."""
    wanted = extent / 16 * ROOM + MARGIN
    sides = torch.tensor([side for side in SIDES if side < whole] + [whole], device=extent.device)
    return sides[torch.searchsorted(sides[:-1].float(), wanted)]


def cut(maps: Tensor, corner: Tensor, side: int) -> Tensor:
    """The part (side x side) of each map from `corner` (N, 2) on; one map for all prompts, or one for each."""
    if side == maps.shape[-1]:
        return maps
    each = maps.expand(len(corner), -1, -1, -1)
    return torch.stack([m[:, y : y + side, x : x + side] for m, (x, y) in zip(each, corner.tolist(), strict=True)])


def _least(values: Tensor) -> Tensor:
    """Least of each row (N, K), NaN left out."""
    return values.nan_to_num(nan=torch.inf).min(1).values

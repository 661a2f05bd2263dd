"""SAM2's parts as functions and modules of tensors: its encoder, and its decoder of prompts on one image."""

from __future__ import annotations

from typing import Any

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn

from hybridseg.nn.backbones.base import normalise


def split_features(model: SAM2Base, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The embedding (B, C, S/16, S/16) and the finer maps for the decoder: (B, C/8, S/4, S/4), (B, C/4, S/8, S/8)."""
    _, features, _, sizes = model._prepare_backbone_features(model.forward_image(images))
    maps = [f.permute(1, 2, 0).unflatten(2, size) for f, size in zip(features, sizes, strict=True)]
    return maps[-1], maps[:-1]


def mark_no_memory(model: SAM2Base, coarse: Tensor) -> Tensor:
    """The embedding of a single image as the decoder takes it: SAM2 marks that there is no memory of other images."""
    return coarse + model.no_mem_embed.view(1, -1, 1, 1) if model.directly_add_no_mem_embed else coarse


def decode_masks(
    model: SAM2Base,
    embedding: Tensor,
    fine: list[Tensor],
    points: Tensor,
    labels: Tensor,
    hints: Tensor | None,
    position: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """All four masks of N prompts.

    The first mask is for prompts that leave no doubt; the other three are readings of one that does, as a lone click.

    Args:
        model: decodes.
        embedding: as from `mark_no_memory`, of one image for all prompts, or of one image a prompt.
        fine: as from `split_features`, in the same number.
        points: (N, P, 2) pixels of the model's image, x then y.
        labels: (N, P), 1 inside, 0 outside, 2 and 3 the box's corners, -1 padding.
        hints: (N, 1, S/4, S/4) mask logits or None.
        position: encoding of the place of each cell, as many as embeddings or one; default: of an image that is whole.

    Returns:
        (N, 4, S/4, S/4) logits and (N, 4) predicted IoU.
    """
    sparse, dense = model.sam_prompt_encoder(points=(points, labels), boxes=None, masks=hints)
    if position is None:
        position = model.sam_prompt_encoder.get_dense_pe()
    rows, cols = embedding.shape[-2:]  # without hints, `dense` is one value all over, for the whole
    masks, iou = _predict(model.sam_mask_decoder, embedding + dense[..., :rows, :cols], position, sparse, fine)
    return masks.float(), iou.float()


def _predict(
    decoder: Any, cells: Tensor, position: Tensor, sparse: Tensor, fine: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """As `MaskDecoder.predict_masks`, which takes one encoding of places for all prompts: they may lie on other parts.

    Args:
        decoder: of the model.
        cells: (N, C, h, w) embedding with what the prompts say of it.
        position: (N or 1, C, h, w).
        sparse: (N, P, C) tokens of the prompts.
        fine: see `decode_masks`.
    """
    own = [decoder.iou_token.weight, decoder.mask_tokens.weight]
    own = [decoder.obj_score_token.weight, *own] if decoder.pred_obj_scores else own
    tokens = torch.cat([torch.cat(own)[None].expand(sparse.shape[0], -1, -1), sparse], 1)
    found, flat = decoder.transformer(cells, position.expand_as(cells), tokens)
    first, count = len(own) - 2, decoder.num_mask_tokens
    upscale, norm, activate, upscale_again, activate_again = decoder.output_upscaling
    levels = flat.transpose(1, 2).unflatten(2, cells.shape[-2:])
    levels = activate_again(upscale_again(activate(norm(upscale(levels) + fine[1]))) + fine[0])
    weights = [mlp(found[:, first + 1 + k]) for k, mlp in enumerate(decoder.output_hypernetworks_mlps[:count])]
    masks = (torch.stack(weights, 1) @ levels.flatten(2)).unflatten(2, levels.shape[-2:])
    return masks, decoder.iou_prediction_head(found[:, first])


def choose(masks: Tensor, iou: Tensor, labels: Tensor, hinted: bool) -> tuple[Tensor, Tensor]:
    """One mask for each prompt: the likeliest reading of a lone click, the first mask of all others."""
    ambiguous = ((labels >= 0).sum(1) == 1) & (not hinted)
    which = torch.where(ambiguous, 1 + iou[:, 1:].argmax(1), 0)
    rows = torch.arange(len(masks), device=masks.device)
    return masks[rows, which], iou[rows, which]


class Encoder(nn.Module):
    """A model's encoder, from pixels (B, 3, S, S) uint8 to the maps of an embedding."""

    def __init__(self, model: SAM2Base) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Give the coarse map and the two finer ones, as `Embedding` holds them."""
        coarse, fine = split_features(self.model, normalise(pixels))
        return coarse, *fine


class Decoder(nn.Module):
    """A model's decoder, from the maps of an embedding and prompts to all four masks and their predicted IoU."""

    def __init__(self, model: SAM2Base) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        maps: Tensor,
        quarter: Tensor,
        eighth: Tensor,
        position: Tensor,
        points: Tensor,
        labels: Tensor,
        *hint: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Decode as `decode_masks`, with hints or none."""
        marked = mark_no_memory(self.model, maps)
        hints = hint[0] if hint else None
        return decode_masks(self.model, marked, [quarter, eighth], points, labels, hints, position)


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

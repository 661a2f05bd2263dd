"""Encode once, decode many: SAM2 without hidden state, for official checkpoints and sam2-lite alike.

`SAM2ImagePredictor` keeps the image inside itself and assumes 1024 px (`_bb_feat_sizes`). Here an embedding is a
value, its sizes come from the model, and prompts of one image may differ in kind: points, box, both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pickle import PicklingError
from typing import Any

import numpy as np
import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from hybridseg.nn.backbones.base import normalise
from hybridseg.nn.device import encoder_precision, full_precision
from hybridseg.nn.sam2.embedding import Embedding
from hybridseg.types import Chip

OUTSIDE = -20.0
"""Logit of a mask beyond the part of the image that its prompt was decoded on."""


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

    Returns:
        (N, 4, S/4, S/4) logits and (N, 4) predicted IoU.
    """
    sparse, dense = model.sam_prompt_encoder(points=(points, labels), boxes=None, masks=hints)
    masks, iou, _, _ = model.sam_mask_decoder.predict_masks(
        image_embeddings=embedding,
        image_pe=model.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        repeat_image=len(embedding) != len(points),
        high_res_features=fine,
    )
    return masks.float(), iou.float()


def choose(masks: Tensor, iou: Tensor, labels: Tensor, hinted: bool) -> tuple[Tensor, Tensor]:
    """One mask for each prompt: the likeliest reading of a lone click, the first mask of all others."""
    ambiguous = ((labels >= 0).sum(1) == 1) & (not hinted)
    which = torch.where(ambiguous, 1 + iou[:, 1:].argmax(1), 0)
    rows = torch.arange(len(masks), device=masks.device)
    return masks[rows, which], iou[rows, which]


@dataclass(frozen=True, eq=False)
class Promptable:
    """A SAM2 model as two pure functions. It is pickled by what opened it, not by its weights.

    model: any SAM2Base in eval mode.
    name, sha256: of its weights, for messages and provenance.
    reopen: opens it again in another process; None for one that was made in memory.
    """

    model: SAM2Base
    name: str
    sha256: str
    reopen: Callable[[], Promptable] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self.reopen is None:
            raise PicklingError(f"refiner {self.name} was made in memory; save its folder and open it by load_refiner")
        return self.reopen, ()

    @property
    def size_px(self) -> int:
        """Side of the square image that the model takes."""
        return int(self.model.image_size)

    @property
    def mask_px(self) -> int:
        """Side of the masks that it takes as hints and gives as logits."""
        return self.size_px // 4

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return next(self.model.parameters()).device

    @torch.inference_mode()
    def encode(self, chip: Chip) -> Embedding:
        """Encode a chip of 8-bit RGB, `size_px` wide and high."""
        images = normalise(torch.from_numpy(chip.pixels)[None].to(self.device))
        with encoder_precision(self.device):
            coarse, fine = split_features(self.model, images)
        return Embedding(coarse.float(), tuple(level.float() for level in fine), chip.geobox)

    @torch.inference_mode()
    def decode(
        self, embedding: Embedding, points: np.ndarray, labels: np.ndarray, hints: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks for N prompts on one image.

        Args:
            embedding: of the image.
            points: (N, P, 2) float32 pixels, x then y.
            labels: (N, P) int, 1 inside, 0 outside, 2 and 3 the box's corners, -1 padding.
            hints: (N, S/4, S/4) float32 mask logits, or None.

        Returns:
            (N, S/4, S/4) float32 mask logits (inside > 0) and (N,) float32 predicted IoU.
        """
        device = embedding.coarse.device
        at, kinds = torch.from_numpy(points).to(device), torch.from_numpy(labels).to(device)
        canvas = None if hints is None else torch.from_numpy(hints)[:, None].to(device)
        side = self.model.sam_prompt_encoder.image_embedding_size[0]
        corner = _corners(at, kinds, canvas, side, embedding.coarse.shape[-1])
        with full_precision(device):
            masks, iou = decode_masks(
                self.model,
                _cut(mark_no_memory(self.model, embedding.coarse), corner, side),
                [_cut(level, corner * k, side * k) for level, k in zip(embedding.fine, (4, 2), strict=True)],
                torch.where(kinds[..., None] >= 0, at - 16 * corner[:, None], at),
                kinds,
                None if canvas is None else _cut(canvas, corner * 4, side * 4),
            )
        chosen, confidence = choose(masks, iou, kinds, hints is not None)
        logits = torch.full((len(at), self.mask_px, self.mask_px), OUTSIDE, device=device)
        for whole, part, (x, y) in zip(logits, chosen, (corner * 4).tolist(), strict=True):
            whole[y : y + part.shape[0], x : x + part.shape[1]] = part
        return logits.cpu().numpy(), confidence.cpu().numpy()


def _corners(points: Tensor, labels: Tensor, hints: Tensor | None, side: int, whole: int) -> Tensor:
    """First cell (N, 2), column and row, of the part of the embedding that each prompt is decoded on.

    The part lies around the box, or else the hint, or else the positive points.

    Args:
        points: (N, P, 2) px.
        labels: (N, P).
        hints: (N, 1, 4 * whole, 4 * whole) or None.
        side: of the part, in cells of 16 px.
        whole: side of the embedding, in cells.
    """
    if side == whole:
        return torch.zeros((len(points), 2), dtype=torch.long, device=points.device)
    boxed = (labels == 2) | (labels == 3)
    chosen = torch.where(boxed.any(1, keepdim=True), boxed, labels == 1)
    middle = (points * chosen[..., None]).sum(1) / chosen.sum(1, keepdim=True).clamp(min=1)
    if hints is not None:
        inside = hints[:, 0] > 0
        cells = torch.arange(hints.shape[-1], device=points.device)
        spans = [torch.where(inside.any(dim), cells, torch.nan) for dim in (1, 2)]
        hinted = torch.stack([(_least(s) - _least(-s)) / 2 for s in spans], 1) * 4 + 2
        middle = torch.where((inside.any((1, 2)) & ~boxed.any(1))[:, None], hinted, middle)
    return ((middle / 16 - side / 2).round().long()).clamp(0, whole - side)


def _least(values: Tensor) -> Tensor:
    """Least of each row (N, K), NaN left out."""
    return values.nan_to_num(nan=torch.inf).min(1).values


def _cut(maps: Tensor, corner: Tensor, side: int) -> Tensor:
    """The part (side x side) of each map from `corner` (N, 2) on; one map for all prompts, or one for each."""
    if side == maps.shape[-1]:
        return maps
    each = maps.expand(len(corner), -1, -1, -1)
    return torch.stack([m[:, y : y + side, x : x + side] for m, (x, y) in zip(each, corner.tolist(), strict=True)])

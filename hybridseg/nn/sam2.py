"""Encode once, decode many: SAM2 without hidden state, for official checkpoints and sam2-lite alike.

`SAM2ImagePredictor` keeps the image inside itself and assumes 1024 px (`_bb_feat_sizes`). Here an embedding is a
value, its sizes come from the model, and prompts of one image may differ in kind: points, box, both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from hybridseg.nn.trunk import IMAGENET_MEAN, IMAGENET_STD

ELSEWHERE = -20.0
"""Logit of a mask beyond what its prompt was decoded on."""


def normalise(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 to floats with ImageNet mean and deviation."""
    mean = torch.tensor(IMAGENET_MEAN, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=pixels.device).view(1, 3, 1, 1)
    return ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def split_features(model: SAM2Base, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The embedding (B, C, S/16, S/16) and the finer maps for the decoder: (B, C/8, S/4, S/4), (B, C/4, S/8, S/8)."""
    _, features, _, sizes = model._prepare_backbone_features(model.forward_image(images))
    if model.directly_add_no_mem_embed:
        features[-1] = features[-1] + model.no_mem_embed
    maps = [f.permute(1, 2, 0).unflatten(2, size) for f, size in zip(features, sizes, strict=True)]
    return maps[-1], maps[:-1]


def decode_masks(
    model: SAM2Base,
    embedding: Tensor,
    fine: list[Tensor],
    points: Tensor,
    labels: Tensor,
    hints: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """All four masks of N prompts: (N, 4, S/4, S/4) logits and (N, 4) predicted IoU.

    The first mask is for prompts that leave no doubt; the other three are readings of one that does, as a lone click.

    embedding, fine: as from `split_features`, of one image for all prompts, or of one image a prompt; points: (N, P, 2)
    pixels of the model's image, x then y; labels: (N, P) 1 inside, 0 outside, 2 and 3 the box's corners, -1 padding;
    hints: (N, 1, S/4, S/4) mask logits or None.
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


@dataclass(frozen=True)
class Embedding:
    """What the decoder needs of one image; everything else is forgotten."""

    coarse: Tensor
    fine: tuple[Tensor, ...]


@dataclass(frozen=True)
class Promptable:
    """A SAM2 model as two pure functions.

    model: any SAM2Base in eval mode; name and sha256 of its weights: for messages and provenance.
    """

    model: SAM2Base
    name: str
    sha256: str

    @property
    def size_px(self) -> int:
        """Side of the square image that the model takes."""
        return int(self.model.image_size)

    @property
    def mask_px(self) -> int:
        """Side of the masks that it takes as hints and gives as logits."""
        return self.size_px // 4

    @torch.inference_mode()
    def encode(self, pixels: np.ndarray) -> Embedding:
        """Encode (3, S, S) uint8 RGB."""
        device = next(self.model.parameters()).device
        images = normalise(torch.from_numpy(pixels)[None].to(device))
        with fast(device):
            coarse, fine = split_features(self.model, images)
        return Embedding(coarse.float(), tuple(level.float() for level in fine))

    @torch.inference_mode()
    def decode(
        self, embedding: Embedding, points: np.ndarray, labels: np.ndarray, hints: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks for N prompts on one image.

        points: (N, P, 2) float32 pixels; labels: (N, P) int; hints: (N, S/4, S/4) float32 logits, or None.

        Returns: (N, S/4, S/4) float32 mask logits (inside > 0) and (N,) float32 predicted IoU.
        """
        device = embedding.coarse.device
        at, asked = torch.from_numpy(points).to(device), torch.from_numpy(labels).to(device)
        canvas = None if hints is None else torch.from_numpy(hints)[:, None].to(device)
        side = self.model.sam_prompt_encoder.image_embedding_size[0]
        corner = _corners(at, asked, canvas, side, embedding.coarse.shape[-1])
        masks, iou = decode_masks(
            self.model,
            _cut(embedding.coarse, corner, side),
            [_cut(level, corner * k, side * k) for level, k in zip(embedding.fine, (4, 2), strict=True)],
            torch.where(asked[..., None] >= 0, at - 16 * corner[:, None], at),
            asked,
            None if canvas is None else _cut(canvas, corner * 4, side * 4),
        )
        chosen, confidence = choose(masks, iou, asked, hints is not None)
        logits = torch.full((len(at), self.mask_px, self.mask_px), ELSEWHERE, device=device)
        for whole, part, (x, y) in zip(logits, chosen, (corner * 4).tolist(), strict=True):
            whole[y : y + part.shape[0], x : x + part.shape[1]] = part
        return logits.cpu().numpy(), confidence.cpu().numpy()


def _corners(points: Tensor, labels: Tensor, hints: Tensor | None, side: int, whole: int) -> Tensor:
    """First cell (N, 2), column and row, of the part of the embedding that each prompt is decoded on.

    side: of the part, whole: of the embedding, both in cells of 16 px. The part lies around the box, or else the hint,
    or else the positive points.
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
    return values.nan_to_num(nan=torch.inf).min(1).values


def _cut(maps: Tensor, corner: Tensor, side: int) -> Tensor:
    """The part (side x side) of each map from `corner` (N, 2) on; one map for all prompts, or one for each."""
    if side == maps.shape[-1]:
        return maps
    each = maps.expand(len(corner), -1, -1, -1)
    return torch.stack([m[:, y : y + side, x : x + side] for m, (x, y) in zip(each, corner.tolist(), strict=True)])


def fast(device: torch.device) -> torch.autocast:
    """bf16 where the hardware multiplies it natively: Hiera-tiny encodes twice as fast, with 1 % relative error."""
    native = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
    return torch.autocast(device.type, torch.bfloat16, enabled=native)

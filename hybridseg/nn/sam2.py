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
        with _fast(device):
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
        asked = torch.from_numpy(labels).to(device)
        masks, iou = decode_masks(
            self.model,
            embedding.coarse,
            list(embedding.fine),
            torch.from_numpy(points).to(device),
            asked,
            None if hints is None else torch.from_numpy(hints)[:, None].to(device),
        )
        chosen, confidence = choose(masks, iou, asked, hints is not None)
        return chosen.cpu().numpy(), confidence.cpu().numpy()


def _fast(device: torch.device) -> torch.autocast:
    """bf16 where the hardware multiplies it natively: Hiera-tiny encodes twice as fast, with 1 % relative error."""
    native = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
    return torch.autocast(device.type, torch.bfloat16, enabled=native)

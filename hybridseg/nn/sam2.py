"""Encode once, decode many: SAM2 without hidden state, for official checkpoints and sam2-lite alike.

`SAM2ImagePredictor` keeps the image inside itself and assumes 1024 px (`_bb_feat_sizes`). Here an embedding is a
value, its sizes come from the model, and prompts of one image may differ in kind: with or without points, box, hint.
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


def prompt_embeddings(
    model: SAM2Base, points: Tensor, labels: Tensor, hints: Tensor, has_hint: Tensor
) -> tuple[Tensor, Tensor]:
    """Sparse (N, P + 1, C) and dense (N, C, S/16, S/16) embeddings of N prompts.

    points: (N, P, 2) pixels of the model's image, x then y; labels: (N, P) 1 inside, 0 outside, 2 and 3 the box's
    corners, -1 padding; hints: (N, 1, S/4, S/4) mask logits; has_hint: (N,) bool. sam2's own encoder wants a hint for
    every prompt of a call or for none.
    """
    encoder = model.sam_prompt_encoder
    sparse, without = encoder(points=(points, labels), boxes=None, masks=None)
    hinted = encoder.mask_downscaling(hints)
    return sparse, torch.where(has_hint[:, None, None, None], hinted, without)


@dataclass(frozen=True)
class Embedding:
    """What the decoder needs of one image; everything else is forgotten."""

    coarse: Tensor
    fine: tuple[Tensor, ...]


@dataclass(frozen=True)
class Promptable:
    """A SAM2 model as two pure functions.

    model: any SAM2Base in eval mode; name and sha256 of its weights: for messages and provenance; needs_hint: it does
    not heed points and boxes alone, so that every prompt must come with a hint.
    """

    model: SAM2Base
    name: str
    sha256: str
    needs_hint: bool = False

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
        count = len(points)
        if hints is None:
            hints, hinted = np.zeros((count, self.mask_px, self.mask_px), np.float32), False
        else:
            hinted = True
        sparse, dense = prompt_embeddings(
            self.model,
            torch.from_numpy(points).to(device),
            torch.from_numpy(labels).to(device),
            torch.from_numpy(hints)[:, None].to(device),
            torch.full((count,), hinted, device=device),
        )
        logits, iou, _, _ = self.model.sam_mask_decoder(
            image_embeddings=embedding.coarse,
            image_pe=self.model.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
            repeat_image=True,
            high_res_features=list(embedding.fine),
        )
        return logits[:, 0].float().cpu().numpy(), iou[:, 0].float().cpu().numpy()


def _fast(device: torch.device) -> torch.autocast:
    """bf16 where the hardware multiplies it natively: Hiera-tiny encodes twice as fast, with 1 % relative error."""
    native = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
    return torch.autocast(device.type, torch.bfloat16, enabled=native)

"""SAM2's memory over several images of one place: where an object lies at other dates, and whether it is still there.

The steps are those of `SAM2Base.track_step`, with two differences that training needs: the masks of missing objects are
given, too, before they are blanked, and presence is also given where an object is shown as a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from sam2.modeling.sam2_base import NO_OBJ_SCORE, SAM2Base
from torch import Tensor, nn
from torch.nn import functional as F

from hybridseg.errors import HybridsegError
from hybridseg.nn.backbones.base import normalise
from hybridseg.nn.device import full_precision
from hybridseg.nn.sam2.embedding import Embedding
from hybridseg.nn.sam2.networks import mark_no_memory
from hybridseg.types import MAX_POINTS

MEMORY = (
    "mask_downsample", "maskmem_tpos_enc", "memory_attention", "memory_encoder", "no_obj_embed_spatial", "no_obj_ptr",
    "obj_ptr_proj", "obj_ptr_tpos_proj", "sam_mask_decoder.pred_obj_score_head",
)  # fmt: skip
"""Prefixes of the parameters that masks of single images do not depend on. The object score's token is not among them:
the decoder's other tokens attend to it. Nor is `no_mem_embed`, which is added to the embedding of a single image."""
GIVEN_LOGIT = 10.0
"""Logit of a mask that is given, as in SAM2Base._use_mask_as_output."""


def memory_parameters(net: SAM2Base) -> list[nn.Parameter]:
    """The parameters of the memory: all that tracking learns and single images do not use."""
    return [p for name, p in net.named_parameters() if name.startswith(MEMORY)]


class EncodedFrames(NamedTuple):
    """F encoded images.

    coarse: (F, C, S/16, S/16), without the mark that there is no memory.
    position: its position encoding, of the same shape.
    quarter, eighth: finer maps for the decoder, (F, C/8, S/4, S/4) and (F, C/4, S/8, S/8).
    """

    coarse: Tensor
    position: Tensor
    quarter: Tensor
    eighth: Tensor

    def of(self, which: Tensor) -> EncodedFrames:
        """One frame for each of N objects, by the number (N,) of its image."""
        return EncodedFrames(*(level[which] for level in self))


class TrackedObjects(NamedTuple):
    """N objects, each on one image.

    logits: (N, 1, S/4, S/4) of masks, of missing objects too.
    iou: (N, 1) predicted.
    presence: (N, 1) logits, above 0 where the object is there.
    memory: (N, M, S/16, S/16), recalled on later images.
    position: position encoding of `memory`.
    pointer: (N, C) token of the object, recalled on later images.
    """

    logits: Tensor
    iou: Tensor
    presence: Tensor
    memory: Tensor
    position: Tensor
    pointer: Tensor


@dataclass(frozen=True)
class Memory:
    """How objects are first shown and then followed (Ravi et al. 2024, SAM 2, section 4).

    net: its prompt encoder must cover the whole image, see `load_refiner`'s `decode_px`.
    """

    net: SAM2Base

    def __post_init__(self) -> None:
        if not getattr(self.net, "remembers", True):
            raise HybridsegError(
                "EdgeTAM works on single images here, without its memory; track with sam2-lite or SAM2"
            )

    def frames(self, embeddings: Sequence[Embedding]) -> EncodedFrames:
        """Images of one size that are encoded already, as from `Promptable.encode`."""
        coarse = torch.cat([embedding.coarse for embedding in embeddings])
        quarter, eighth = (torch.cat(levels) for levels in zip(*(e.fine for e in embeddings), strict=True))
        return EncodedFrames(coarse, self.net.image_encoder.neck.position_encoding(coarse), quarter, eighth)

    def encode(self, images: Tensor) -> EncodedFrames:
        """Encode images (F, 3, S, S) uint8, with gradients where they are wanted."""
        _, features, positions, sizes = self.net._prepare_backbone_features(self.net.forward_image(normalise(images)))
        quarter, eighth, coarse = (f.permute(1, 2, 0).unflatten(2, s) for f, s in zip(features, sizes, strict=True))
        return EncodedFrames(coarse, positions[-1].permute(1, 2, 0).unflatten(2, sizes[-1]), quarter, eighth)

    def from_masks(self, frames: EncodedFrames, masks: Tensor) -> TrackedObjects:
        """Objects shown as masks (N, S, S) bool, which are taken as they are."""
        given = masks[:, None].float()
        points, labels = _padding(len(masks), 1, given.device)
        _, iou, tokens, presence = self._decode(frames, frames.coarse, points, labels, self.net.mask_downsample(given))
        logits = (2 * given - 1) * GIVEN_LOGIT
        there = (2 * given.flatten(1).amax(1, keepdim=True) - 1) * GIVEN_LOGIT
        pointer = self._pointer(tokens[:, 0], torch.minimum(presence, there))
        low = F.interpolate(logits, size=(given.shape[-1] // 4,) * 2, mode="bilinear", antialias=True)
        return TrackedObjects(low, iou[:, :1], presence, *self._remember(frames, logits, there), pointer)

    def from_points(self, frames: EncodedFrames, points: Tensor, labels: Tensor) -> TrackedObjects:
        """Objects shown by points and boxes as for `decode_masks`; of a lone click, the likeliest reading."""
        marked = mark_no_memory(self.net, frames.coarse)
        masks, iou, tokens, presence = self._decode(frames, marked, points, labels)
        which = torch.where((labels >= 0).sum(1) == 1, 1 + iou[:, 1:].argmax(1), 0)
        rows = torch.arange(len(masks), device=masks.device)
        return self._tracked(frames, masks[rows, which], iou[rows, which], tokens[rows, which], presence)

    def recall(
        self, frames: EncodedFrames, past: Sequence[tuple[int, TrackedObjects]], now: int, length: int
    ) -> TrackedObjects:
        """Objects found by memory alone on one image.

        Args:
            frames: the image, for each object.
            past: numbers of earlier images and the objects there; they were shown on the first of them.
            now: number of the image.
            length: how many images the series has.
        """
        kept = {
            number: {"maskmem_features": then.memory, "maskmem_pos_enc": [then.position], "obj_ptr": then.pointer}
            for number, then in past
        }
        shown = past[0][0]
        embedding = self.net._prepare_memory_conditioned_features(
            frame_idx=now,
            is_init_cond_frame=False,
            current_vision_feats=[frames.coarse.flatten(2).permute(2, 0, 1)],
            current_vision_pos_embeds=[frames.position.flatten(2).permute(2, 0, 1)],
            feat_sizes=[frames.coarse.shape[-2:]],
            output_dict={
                "cond_frame_outputs": {shown: kept.pop(shown)},
                "non_cond_frame_outputs": kept,
            },
            num_frames=length,
        )
        # the decoder was trained with prompts of so many tokens
        points, labels = _padding(len(embedding), MAX_POINTS, embedding.device)
        masks, iou, tokens, presence = self._decode(frames, embedding, points, labels)
        return self._tracked(frames, masks[:, 0], iou[:, 0], tokens[:, 0], presence)

    def _decode(
        self, frames: EncodedFrames, embedding: Tensor, points: Tensor, labels: Tensor, hints: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All masks (N, 4, S/4, S/4), their IoU and tokens, and presence."""
        sparse, dense = self.net.sam_prompt_encoder(points=(points, labels), boxes=None, masks=hints)
        found: tuple[Tensor, Tensor, Tensor, Tensor] = self.net.sam_mask_decoder.predict_masks(
            image_embeddings=embedding,
            image_pe=self.net.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            repeat_image=False,
            high_res_features=[frames.quarter, frames.eighth],
        )
        return found

    def _tracked(
        self, frames: EncodedFrames, logits: Tensor, iou: Tensor, token: Tensor, presence: Tensor
    ) -> TrackedObjects:
        blanked = torch.where((presence > 0)[..., None, None], logits[:, None], NO_OBJ_SCORE)
        whole = F.interpolate(blanked, size=(self.net.image_size,) * 2, mode="bilinear", align_corners=False)
        kept = self._remember(frames, whole, presence)
        return TrackedObjects(logits[:, None], iou[:, None], presence, *kept, self._pointer(token, presence))

    def _pointer(self, token: Tensor, presence: Tensor) -> Tensor:
        return torch.where(presence > 0, self.net.obj_ptr_proj(token), self.net.no_obj_ptr)

    def _remember(self, frames: EncodedFrames, logits: Tensor, presence: Tensor) -> tuple[Tensor, Tensor]:
        features, positions = self.net._encode_new_memory(
            current_vision_feats=[frames.coarse.flatten(2).permute(2, 0, 1)],
            feat_sizes=[frames.coarse.shape[-2:]],
            pred_masks_high_res=logits,
            object_score_logits=presence,
            is_mask_from_pts=False,
        )
        return features, positions[-1]


def _padding(count: int, points: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Points and labels of prompts that are all padding."""
    labels = torch.full((count, points), -1, dtype=torch.int32, device=device)
    return torch.zeros((count, points, 2), device=device), labels


@torch.inference_mode()
def track(net: SAM2Base, images: np.ndarray | Sequence[Embedding], masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Follow objects through a series of images of one place, from its first image on.

    Args:
        net: in eval mode, its prompt encoder covering the whole image.
        images: (T, 3, S, S) uint8, or the embeddings of T such images.
        masks: (N, S, S) bool, the objects on the first image.

    Returns:
        (N, T, S/4, S/4) float32 mask logits (inside > 0) and (N, T) float32 presence logits (there > 0).
    """
    memory, device = Memory(net), next(net.parameters()).device
    shown = torch.from_numpy(masks).to(device)
    one_image = torch.zeros(len(masks), dtype=torch.long, device=device)
    past: list[tuple[int, TrackedObjects]] = []
    with full_precision(device):
        for now, image in enumerate(images):
            encoded = (
                memory.frames([image])
                if isinstance(image, Embedding)
                else memory.encode(torch.from_numpy(image)[None].to(device))
            )
            frames = encoded.of(one_image)
            found = memory.recall(frames, past, now, len(images)) if past else memory.from_masks(frames, shown)
            past.append((now, found))
    logits = torch.cat([found.logits for _, found in past], 1)
    return logits.cpu().numpy(), torch.cat([found.presence for _, found in past], 1).cpu().numpy()


MEMORIES = 6
"""Images whose memory is recalled, beside the first, as SAM2 does (num_maskmem - 1)."""
POINTERS = 16
"""Images whose pointers are recalled, as SAM2 does (max_obj_ptrs_in_encoder)."""


class Follower:
    """Objects on one window, followed from image to image, forward or backward in time.

    SAM2's own video predictor keeps all images of a video and all that it found on them; this keeps the first image,
    where the objects are shown, the last six with their memory, and the pointers of at most sixteen.
    """

    def __init__(self, net: SAM2Base) -> None:
        """Follow by a network in eval mode whose prompt encoder covers the whole image."""
        self._memory, self._device = Memory(net), next(net.parameters()).device
        self._past: list[tuple[int, TrackedObjects]] = []
        self._count = 0

    @torch.inference_mode()
    def step(self, image: Embedding, masks: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Take the next image.

        Args:
            image: its embedding.
            masks: (N, S, S) bool, the objects where they are known; None: they are recalled.

        Returns:
            (N, S/4, S/4) float32 mask logits (inside > 0) and (N,) float32 presence logits (there > 0).

        Raises:
            ValueError: nothing was shown yet.
        """
        if masks is None and not self._past:
            raise ValueError("objects must be shown before they can be recalled")
        number, self._count = self._count, self._count + 1
        objects = len(masks) if masks is not None else len(self._past[0][1].logits)
        with full_precision(self._device):
            frames = self._memory.frames([image]).of(torch.zeros(objects, dtype=torch.long, device=self._device))
            found = (
                self._memory.recall(frames, self._past, number, number + 1)
                if masks is None
                else self._memory.from_masks(frames, torch.from_numpy(masks).to(self._device))
            )
        self._past = self._bounded([*self._past, (number, found)])
        return found.logits[:, 0].float().cpu().numpy(), found.presence[:, 0].float().cpu().numpy()

    @property
    def bytes(self) -> int:
        """Size of what is remembered."""
        tensors = [value for _, found in self._past for value in found if isinstance(value, Tensor)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def _bounded(self, past: list[tuple[int, TrackedObjects]]) -> list[tuple[int, TrackedObjects]]:
        first, rest = past[:1], past[1:][-(POINTERS - 1) :]
        recent = {number for number, _ in rest[-MEMORIES:]}
        nothing = torch.empty(0, device=self._device)  # of older ones the pointer alone is recalled
        light = [
            (n, found if n in recent else found._replace(memory=nothing, position=nothing, logits=nothing))
            for n, found in rest
        ]
        return [*first, *light]

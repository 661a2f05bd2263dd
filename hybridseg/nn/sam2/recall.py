"""Images of a series shown one by one: what is remembered of them does not grow with their number."""

from __future__ import annotations

import numpy as np
import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from hybridseg.nn.device import full_precision
from hybridseg.nn.sam2.embedding import Embedding
from hybridseg.nn.sam2.memory import Memory, TrackedObjects

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

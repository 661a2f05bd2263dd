"""Encode once, decode many: SAM2 without hidden state, for official checkpoints and sam2-lite alike.

`SAM2ImagePredictor` keeps the image inside itself and assumes 1024 px (`_bb_feat_sizes`). Here an embedding is a
value, its sizes come from the model, and prompts of one image may differ in kind: points, box, both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pickle import PicklingError
from typing import Any, NamedTuple

import numpy as np
import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from hybridseg.nn.device import encoder_precision, full_precision, native_bf16
from hybridseg.nn.runtime import Runner, pick_runtime
from hybridseg.nn.sam2.embedding import Embedding
from hybridseg.nn.sam2.networks import SIDES, Decoder, Encoder, choose, corners, cut, middles, sides_for
from hybridseg.types import MAX_POINTS, Chip

OUTSIDE = -20.0
"""Logit of a mask beyond the part of the image that its prompt was decoded on."""
LEAST_AGREEMENT = 0.95
"""IoU of the masks of one prompt, decoded on its part and on the whole image, from which on the parts are kept."""


WHOLE_AT_ONCE = 8
"""Prompts decoded at once on a whole image: each has attention and masks of the size of all of it in memory."""


class Asked(NamedTuple):
    """Prompts as the decoder takes them: points (N, P, 2) px, labels (N, P) int32, hints (N, 1, M, M) or None."""

    points: Tensor
    labels: Tensor
    hints: Tensor | None


@dataclass(frozen=True, eq=False)
class Promptable:
    """A SAM2 model as two pure functions. It is pickled by what opened it, not by its weights.

    model: any SAM2Base in eval mode.
    name, sha256: of its weights, for messages and provenance.
    reopen: opens it again in another process; None for one that was made in memory.
    runtime: as it was asked for, see nn.runtime.pick_runtime.
    parts: whether the decoder, trained on whole images, may see the part around each prompt; one prompt of each size
        and image is decoded on the whole, too, and where its masks differ, all of that size are. Not for decoders of
        another `decode_px` than the image, nor for prompts that are drawn.
    agreements: IoU of the masks of each such prompt.
    large: whether its encoder takes so long that it is worth bf16 on a CPU, too, and one look at an image has to do.
    """

    model: SAM2Base
    name: str
    sha256: str
    reopen: Callable[[], Promptable] | None = None
    runtime: str = "torch"
    parts: bool = False
    agreements: list[float] = field(default_factory=list)
    large: bool = False

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

    @property
    def bf16(self) -> bool:
        """Whether its encoder multiplies in bf16."""
        return native_bf16(self.device) and (self.large or self.device.type != "cpu")

    def take_notes(self) -> list[str]:
        """Return what a user should know of the masks since the last call, a line each."""
        checks, self.agreements[:] = list(self.agreements), []
        if not checks:
            return []
        apart = sum(alike < LEAST_AGREEMENT for alike in checks)
        mean = f"IoU {sum(checks) / len(checks):.3f} on average of {len(checks)}"
        rest = f"below {LEAST_AGREEMENT}, at {apart}, the whole was decoded"
        return [f"decoded on the part around each prompt: masks agree with those on the whole image to {mean}; {rest}"]

    @property
    def runners(self) -> tuple[Runner, ...]:
        """What computes it: the encoder, and the decoder by the kinds of its input."""
        return (self._encoder, *self._decoders.values())

    @torch.inference_mode()
    def encode(self, chip: Chip) -> Embedding:
        """Encode a chip of 8-bit RGB, `size_px` wide and high."""
        with encoder_precision(self.device, self.bf16):
            maps = self._encoder(torch.from_numpy(chip.pixels)[None].to(self.device))
        coarse, *fine = (level.float() for level in maps)
        return Embedding(coarse, tuple(fine), chip.geobox)

    @torch.inference_mode()
    def decode(
        self,
        embedding: Embedding,
        points: np.ndarray,
        labels: np.ndarray,
        hints: np.ndarray | None,
        agreed: dict[int, bool] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks for N prompts on one image.

        Args:
            embedding: of the image.
            points: (N, P, 2) float32 pixels, x then y.
            labels: (N, P) int, 1 inside, 0 outside, 2 and 3 the box's corners, -1 padding.
            hints: (N, S/4, S/4) float32 mask logits, or None.
            agreed: by side of a part in cells, whether masks on it agreed with those on the whole image; gets what the
                first prompt of each size shows, for the next prompts of the image. None: these are all.

        Returns:
            (N, S/4, S/4) float32 mask logits (inside > 0) and (N,) float32 predicted IoU.
        """
        agreed = {} if agreed is None else agreed
        device = embedding.coarse.device
        at, kinds = torch.from_numpy(points).to(device), torch.from_numpy(labels).int().to(device)
        canvas = None if hints is None else torch.from_numpy(hints)[:, None].to(device)
        middle, extent = middles(at, kinds, canvas)
        whole, own = embedding.coarse.shape[-1], self.model.sam_prompt_encoder.image_embedding_size[0]
        sides = sides_for(extent, whole) if own == whole and self.parts else torch.full_like(extent, own).long()
        logits = torch.full((len(at), self.mask_px, self.mask_px), OUTSIDE, device=device)
        confidence = torch.zeros(len(at), device=device)

        def put(rows: Tensor, side: int) -> None:
            asked = Asked(at[rows], kinds[rows], None if canvas is None else canvas[rows])
            corner = corners(middle[rows], side, whole)
            masks, iou = self._masks(embedding, asked, corner, side)
            chosen, confidence[rows] = choose(masks, iou, asked.labels, canvas is not None)
            logits[rows] = OUTSIDE
            for row, part, (x, y) in zip(rows.tolist(), chosen, (corner * 4).tolist(), strict=True):
                logits[row, y : y + 4 * side, x : x + 4 * side] = part

        with full_precision(device):
            for side in sorted(set(sides.tolist())):
                rows = (sides == side).nonzero()[:, 0]
                if own == whole != side and side not in agreed:
                    one, seen = rows[:1], list[Tensor]()
                    for shown in (side, whole):
                        put(one, shown)
                        seen.append(logits[one[0]] > 0)
                    self.agreements.append(_iou(*seen))
                    agreed[side] = self.agreements[-1] >= LEAST_AGREEMENT
                shown = side if agreed.get(side, True) else whole
                for some in rows.split(WHOLE_AT_ONCE if shown == whole else len(rows)):
                    put(some, shown)
        return logits.cpu().numpy(), confidence.cpu().numpy()

    @torch.inference_mode()
    def readings(
        self, embedding: Embedding, points: np.ndarray, labels: np.ndarray, hints: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """All four masks of each of N prompts, which `choose` chooses from; arguments as of `decode`.

        Returns:
            (N, 4, S/4, S/4) float32 mask logits and (N, 4) float32 predicted IoU.
        """
        device = embedding.coarse.device
        at, kinds = torch.from_numpy(points).to(device), torch.from_numpy(labels).int().to(device)
        asked = Asked(at, kinds, None if hints is None else torch.from_numpy(hints)[:, None].to(device))
        middle, _ = middles(asked.points, asked.labels, asked.hints)
        side = self.model.sam_prompt_encoder.image_embedding_size[0]
        with full_precision(device):
            corner = corners(middle, side, embedding.coarse.shape[-1])
            masks, iou = self._masks(embedding, asked, corner, side)
        logits = masks.new_full((*masks.shape[:2], self.mask_px, self.mask_px), OUTSIDE)
        for full, part, (x, y) in zip(logits, masks, (corner * 4).tolist(), strict=True):
            full[:, y : y + 4 * side, x : x + 4 * side] = part
        return logits.cpu().numpy(), iou.cpu().numpy()

    def _masks(self, embedding: Embedding, asked: Asked, corner: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """All masks of prompts on parts of `side` cells from `corner` (N, 2) on, and their IoU (N, 4).

        The logits (N, 4, 4 side, 4 side) are those of the parts.
        """
        encoder, whole = self.model.sam_prompt_encoder, embedding.coarse.shape[-1]
        position, points = encoder.get_dense_pe(), asked.points
        if encoder.image_embedding_size[0] == whole:
            position = cut(position, corner, side)
        else:  # trained on parts, whose positions count from their corner
            points = torch.where(asked.labels[..., None] >= 0, points - 16 * corner[:, None], points)
        levels = zip((embedding.coarse, *embedding.fine), (1, 4, 2), strict=True)
        maps = [cut(level, corner * k, side * k) for level, k in levels]
        hints = [] if asked.hints is None else [cut(asked.hints, corner * 4, side * 4)]
        decoder = self._decoders[asked.hints is None, side == whole]
        masks, iou = decoder(*maps, position, points, asked.labels, *hints)
        return masks, iou

    @cached_property
    def _encoder(self) -> Runner:
        def examples() -> list[tuple[Tensor, ...]]:
            return [(torch.randint(0, 256, (1, 3, self.size_px, self.size_px), generator=_noise(), dtype=torch.uint8),)]

        net, runtime = Encoder(self.model).eval(), pick_runtime(self.runtime, self.device)
        return Runner("encoder", net, runtime, examples, self.bf16)

    @cached_property
    def _decoders(self) -> dict[tuple[bool, bool], Runner]:
        """By whether there are no hints (to the model an empty hint is a hint), and whether it sees the whole image."""
        net, runtime = Decoder(self.model).eval(), pick_runtime(self.runtime, self.device)
        return {
            (bare, whole): Runner(
                f"decoder {'of the whole ' if whole else ''}{'without' if bare else 'with'} hints",
                net, runtime, partial(self._prompts, bare, whole),
            )
            for bare in (False, True)
            for whole in (False, True)
        }  # fmt: skip

    def _prompts(self, bare: bool, whole: bool) -> list[tuple[Tensor, ...]]:
        """Prompts on noise, as the decoder takes them: several at once, on parts of the sides that there are."""
        random, width, full = _noise(), self.model.hidden_dim, self.size_px // 16
        own = self.model.sam_prompt_encoder.image_embedding_size[0]
        labels = torch.tensor([[2, 3, 1, 0, -1, -1], [1, 0, -1, -1, -1, -1], [1, 1, 1, 1, 0, 0]], dtype=torch.int32)

        def example(count: int, side: int) -> tuple[Tensor, ...]:
            images = 1 if whole else count  # the whole image serves all, else each has its part
            sizes = ((width, side), (width // 8, 4 * side), (width // 4, 2 * side))
            maps = [torch.randn((images, channels, px, px), generator=random) for channels, px in sizes]
            position = torch.randn((count if own == full != side else 1, width, side, side), generator=random)
            points = torch.rand((count, MAX_POINTS, 2), generator=random) * 16 * side
            hints = [] if bare else [4 * torch.randn((count, 1, 4 * side, 4 * side), generator=random)]
            return (*maps, position, points, labels[:count], *hints)

        sides = (full, full) if whole else (own, own) if own < full else SIDES[:2]
        return [example(3, sides[0]), example(2, sides[1])]


def _noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _iou(one: Tensor, other: Tensor) -> float:
    """IoU of two masks; 1 where both are empty."""
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0

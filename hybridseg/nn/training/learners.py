"""Learners of the classifier, of the refiner and of its memory: their losses. The batches come from the verbs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor
from torch.nn import functional as F

from hybridseg.nn.backbones.base import STRIDE, freeze, normalise, prepare
from hybridseg.nn.backbones.lite0 import freeze_batchnorm
from hybridseg.nn.classify.heads import Segmenter
from hybridseg.nn.sam2.memory import EncodedFrames, Memory, TrackedObjects, memory_parameters
from hybridseg.nn.sam2.networks import decode_masks, mark_no_memory, split_features
from hybridseg.nn.training.fit import Learner
from hybridseg.types import HINT_SLOPE


class ClassifierLearner(Learner):
    """Extent by cross-entropy and dice, interior by squared error, both only where the labels are known."""

    net: Segmenter

    def __init__(self, net: Segmenter, steps: int, rate: float = 1e-3) -> None:
        super().__init__(net, net.trunk, steps, rate)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Loss of one batch; see `loss`."""
        loss = self.loss(batch)
        self.log("loss", loss, prog_bar=True)
        return loss

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Sum over the classes that have labels in the batch; pixels without labels count for nothing.

        Args:
            batch: images (B, bands, H, W) and targets (B, C, 3, H, W): extent, interior, known.
        """
        images, targets = batch
        logits = self.net(prepare(self.net.trunk, images)).float().unflatten(1, (-1, 2))
        parts = []
        for k in range(targets.shape[1]):
            extent, interior, known = F.avg_pool2d(targets[:, k], STRIDE).unbind(1)
            if known.any():
                parts.append(_classifier_loss(logits[:, k], extent, interior, known) * known.mean().sqrt())
        # a batch without any label leaves all weights as they are
        return torch.stack(parts).sum() if parts else 0 * logits.sum()


class WatchedLearner(ClassifierLearner):
    """The same with a loss on validation batches, for early stopping and the best checkpoint."""

    def on_train_epoch_start(self) -> None:
        """Keep the batch statistics of what was trained before: those of a few labels are worse."""
        freeze_batchnorm(self.net if self.warm_start else self.trunk)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Log the loss of one batch."""
        self.log("val_loss", self.loss(batch), prog_bar=True, batch_size=len(batch[0]))


def watched(net: Segmenter, steps: int, rate: float, free: int, warm_start: bool = False) -> WatchedLearner:
    """A learner of the head and of the last `free` stages of the backbone; the other stages are not trained."""
    freeze(net.trunk, free)
    learner = WatchedLearner(net.train(), steps, rate)
    learner.warm_start = warm_start
    learner.warmup = min(learner.warmup, max(1, steps // 10))
    return learner


def _classifier_loss(logits: Tensor, extent: Tensor, interior: Tensor, known: Tensor) -> Tensor:
    """Of one class: logits (B, 2, H, W), the others (B, H, W)."""
    # the thin ground between neighbours decides whether they come apart: weigh shallow pixels of objects and ground
    # seen near objects more than the rest
    near = F.max_pool2d(extent[:, None], 7, stride=1, padding=3)[:, 0]
    weight = known * (1 + 2 * near * (interior < 0.3))
    entropy = F.binary_cross_entropy_with_logits(logits[:, 0], extent, reduction="none")
    p = logits[:, 0].sigmoid() * known
    dice = 1 - (2 * (p * extent).sum() + 1) / (p.sum() + (extent * known).sum() + 1)
    depth = (logits[:, 1].sigmoid() - interior).square()
    # the depth of a rare class counts as that of a common one: by the ground that objects take, at least a fiftieth
    taken = (near * known).sum().clamp(min=1 + 0.02 * known.sum())
    return (entropy * weight).sum() / weight.sum().clamp(min=1) + dice + 1.5 * (depth * weight).sum() / taken


class RefinerLearner(Learner):
    """Masks by cross-entropy and dice, predicted IoU by squared error."""

    net: SAM2Base

    def __init__(self, net: SAM2Base, steps: int, rate: float = 1e-3) -> None:
        super().__init__(net, net.image_encoder.trunk, steps, rate)

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """Loss of one batch; see train.refiner.RefinerSamples.batches for its arrays.

        A lone click may mean several things: of the three masks for it, the best one learns (Kirillov et al. 2023,
        Segment Anything, 3), and all four learn to say how good they are.
        """
        coarse, fine = split_features(self.net, normalise(batch["images"]))
        embedding = mark_no_memory(self.net, coarse)
        which = batch["image_of"]
        masks, iou = decode_masks(
            self.net,
            embedding[which],
            [level[which] for level in fine],
            batch["points"],
            batch["labels"],
            batch["hints"],
        )
        truth = F.avg_pool2d(batch["masks"].float()[:, None], 2)
        side = truth.shape[-2:]
        first = F.interpolate(masks[:, :1], size=side, mode="bilinear")
        loss, real = mask_loss(first, truth)
        total = loss.mean() + 3 * F.mse_loss(iou[:, :1], real)
        lone = batch["lone"]
        if lone.any():
            loss, readings = mask_loss(F.interpolate(masks[lone, 1:], size=side, mode="bilinear"), truth[lone])
            share = lone.float().mean()
            total = total + share * (loss.min(1).values.mean() + 3 * F.mse_loss(iou[lone, 1:], readings))
        self.log("loss", total, prog_bar=True)
        self.log("iou", real.mean(), prog_bar=True)
        return total


def mask_loss(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and IoU of each mask (N, K), for logits (N, K, h, w) against truth (N, 1, h, w) in [0, 1].

    Pixels near the outline weigh three times the others: they are what a refiner is for.
    """
    outline = F.max_pool2d(truth, 5, stride=1, padding=2) + F.max_pool2d(-truth, 5, stride=1, padding=2)
    weight = 1 + 2 * outline
    entropy = F.binary_cross_entropy_with_logits(logits, truth.expand_as(logits), reduction="none") * weight
    p = logits.sigmoid()
    dice = 1 - (2 * (p * truth).flatten(2).sum(2) + 1) / ((p + truth).flatten(2).sum(2) + 1)
    with torch.no_grad():
        got, want = logits > 0, truth > 0.5
        real = (got & want).flatten(2).sum(2) / (got | want).flatten(2).sum(2).clamp(min=1)
    return 2 * entropy.flatten(2).mean(2) + dice, real


NEARBY = 2.0
"""Query and key bias that a memory starts with, see `start_memory`."""
MISSED = 0.5
"""Where a prompt finds less of its object (IoU), training goes on from the mask, as a user would correct it."""
LONGEST = 16
"""Most images of a series."""


@torch.no_grad()
def start_memory(net: SAM2Base, images: Tensor | np.ndarray) -> None:
    """Initialise an untrained memory for a decoder that is not trained.

    Nothing is recalled at first, so that the decoder gets the embeddings it was trained on (Zhang et al. 2023,
    ControlNet, 3.1: layers that start as zeros). Each place attends first to its own surroundings (rotary encodings of
    equal vectors weigh nearby places most, Su et al. 2021, RoFormer, 3.4.3). A mask becomes the hint that the prompt
    encoder was trained on.

    Args:
        net: with the memory to initialise.
        images: (F, 3, S, S) uint8, a tensor or an array; the usual mean and deviation of the embedding's channels are
            measured on them.
    """
    for layer in net.memory_attention.layers:
        for last in (layer.self_attn.out_proj, layer.cross_attn_image.out_proj, layer.linear2):
            last.weight.zero_()
            last.bias.zero_()
        for attending in (layer.cross_attn_image.q_proj, layer.cross_attn_image.k_proj):
            attending.bias.fill_(NEARBY)
    net.mask_downsample.weight.fill_(HINT_SLOPE / net.mask_downsample.weight.numel())
    net.mask_downsample.bias.fill_(-HINT_SLOPE / 2)
    head = net.sam_mask_decoder.pred_obj_score_head.layers[-1]
    head.bias.fill_(1.0)
    mode = net.training
    coarse = Memory(net.eval()).encode(torch.as_tensor(images)).coarse.permute(0, 2, 3, 1).flatten(0, 2)
    net.train(mode)  # Lightning warns of what is in eval mode before the first epoch
    wanted, norm = coarse + net.no_mem_embed[0], net.memory_attention.norm
    given = F.layer_norm(coarse, coarse.shape[-1:], eps=norm.eps)
    # each channel by least squares
    apart = given - given.mean(0)
    norm.weight.copy_((apart * (wanted - wanted.mean(0))).mean(0) / apart.square().mean(0).clamp(min=1e-6))
    norm.bias.copy_(wanted.mean(0) - norm.weight * given.mean(0))


class MemoryLearner(Learner):
    """Masks and presence at later dates by memory alone; the parameters that single images use are not trained."""

    net: SAM2Base

    def __init__(self, net: SAM2Base, steps: int, rate: float = 1e-3) -> None:
        super().__init__(net, net.image_encoder.trunk, steps, rate)
        net.requires_grad_(False)
        for parameter in memory_parameters(net):
            parameter.requires_grad_(True)

    def configure_optimizers(self) -> Any:
        """One group: the memory."""
        return self.scheduled(torch.optim.AdamW(memory_parameters(self.net), self.rate, weight_decay=0.05))

    def on_train_epoch_start(self) -> None:
        """Run without dropout and with fixed batch statistics."""
        self.net.eval()

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """Loss of one batch; see train.sequences.SequenceSamples.batches for its arrays."""
        memory, length = Memory(self.net), batch["images"].shape[1]
        with torch.no_grad():
            encoded = memory.encode(batch["images"].flatten(0, 1))
        truth, order = _forwards_in_time(batch["masks"])
        frames = [encoded.of(batch["image_of"] * length + at) for at in order.unbind(1)]
        numbers, last = _numbers(length)
        past = [(0, _show(memory, frames[0], truth[:, 0], batch["points"], batch["labels"]))]
        for k in range(1, length):
            past.append((numbers[k], memory.recall(frames[k], past, numbers[k], last)))
        presence = torch.cat([then.presence for _, then in past], 1)
        there = truth.flatten(2).any(2)
        total = _presence_loss(presence, there)
        logits = torch.cat([then.logits for _, then in past[1:]], 1)[there[:, 1:]][:, None]
        if len(logits):
            wanted = F.avg_pool2d(truth[:, 1:][there[:, 1:]].float()[:, None], 2)
            loss, real = mask_loss(F.interpolate(logits, size=wanted.shape[-2:], mode="bilinear"), wanted)
            predicted = torch.cat([then.iou for _, then in past[1:]], 1)[there[:, 1:]][:, None]
            total = total + loss.mean() + 3 * F.mse_loss(predicted, real)
            self.log("iou", real.mean(), prog_bar=True)
        self.log("loss", total, prog_bar=True)
        self.log("presence", ((presence > 0) == there).float().mean(), prog_bar=True)
        return total


def _presence_loss(presence: Tensor, there: Tensor) -> Tensor:
    """Entropy of presence logits (N, T); objects that are gone (one in ten) weigh together as much as the others."""
    entropy = F.binary_cross_entropy_with_logits(presence, there.float(), reduction="none")
    return torch.stack([entropy[group].mean() for group in (there, ~there) if group.any()]).mean()


def _forwards_in_time(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Masks (N, T, S, S) and the numbers (N, T) of their images, in reverse for objects that are not on the first."""
    late = ~masks[:, 0].flatten(1).any(1)
    order = torch.arange(masks.shape[1], device=masks.device).expand(len(masks), -1)
    order = torch.where(late[:, None], order.flip(1), order)
    return torch.where(late[:, None, None, None], masks.flip(1), masks), order


def _numbers(length: int) -> tuple[list[int], int]:
    """Numbers of the images in a longer series, so that every temporal encoding is trained, and its length."""
    later = (1 + torch.randperm(6 + length - 2)[: length - 1]).sort().values.tolist()
    return [0, *later], int(torch.randint(later[-1] + 1, LONGEST + 1, ()))


def _show(memory: Memory, frames: EncodedFrames, masks: Tensor, points: Tensor, labels: Tensor) -> TrackedObjects:
    """Objects as decoded from their prompts, where these find enough of them, else as their masks."""
    exact = memory.from_masks(frames, masks)
    prompted = (labels >= 0).any(1)
    if not prompted.any():
        return exact
    found = memory.from_points(frames, points, labels)
    got, want = found.logits[:, 0] > 0, exact.logits[:, 0] > 0
    iou = (got & want).flatten(1).sum(1) / (got | want).flatten(1).sum(1).clamp(min=1)
    picked = prompted & (iou >= MISSED)
    return TrackedObjects(
        *(torch.where(picked.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(found, exact, strict=True))
    )

"""Learners of the classifier and of the refiner: their losses. The batches come from `train` and `finetune`."""

from __future__ import annotations

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor
from torch.nn import functional as F

from hybridseg.nn.backbones.base import STRIDE, freeze, normalise, prepare
from hybridseg.nn.backbones.lite0 import freeze_batchnorm
from hybridseg.nn.classify.heads import Segmenter
from hybridseg.nn.sam2.networks import decode_masks, mark_no_memory, split_features
from hybridseg.nn.training.fit import Learner


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

"""Lightning modules: what is optimised. What is fed to them comes from `train/`."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn
from torch.nn import functional as F

from hybridseg.nn.sam2 import normalise, prompt_embeddings, split_features
from hybridseg.nn.segmenter import STRIDE, Segmenter
from hybridseg.nn.trunk import Lite0, freeze_batchnorm


class Learner(lightning.LightningModule):
    """AdamW with the trunk at a quarter of the rate, warm-up and a cosine to nearly nothing."""

    def __init__(self, net: nn.Module, trunk: Lite0, steps: int, rate: float = 1e-3, warmup: int = 100) -> None:
        super().__init__()
        self.net, self.steps, self.rate, self.warmup = net, steps, rate, warmup
        self._trunk = [trunk]  # in a list: not a second registration of the same parameters

    @property
    def trunk(self) -> Lite0:
        """The pretrained part."""
        return self._trunk[0]

    def configure_optimizers(self) -> Any:
        """One optimiser, two parameter groups."""
        slow = list(self.trunk.parameters())
        ids = {id(p) for p in slow}
        fast = [p for p in self.net.parameters() if id(p) not in ids]
        groups = [{"params": slow, "lr": self.rate / 4}, {"params": fast, "lr": self.rate}]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _factor(self, step: int) -> float:
        return min(1.0, (step + 1) / self.warmup) * (
            0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))
        )

    def on_train_epoch_start(self) -> None:
        """Keep the pretrained trunk's batch statistics."""
        freeze_batchnorm(self.trunk)


class ClassifierLearner(Learner):
    """Extent by cross-entropy and dice, interior by squared error, both only where labels hold."""

    net: Segmenter

    def __init__(self, net: Segmenter, steps: int, rate: float = 1e-3) -> None:
        super().__init__(net, net.trunk, steps, rate)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Loss of one batch: images (B, 3, H, W) uint8, targets (B, 3, H, W) of extent, interior, known."""
        images, targets = batch
        extent, interior, known = F.avg_pool2d(targets, STRIDE).unbind(1)
        logits = self.net(normalise(images)).float()
        total = known.sum().clamp(min=1)
        # the thin ground between neighbours decides whether they come apart: weigh shallow building pixels and
        # ground seen near buildings more than the rest
        near = F.max_pool2d(extent[:, None], 7, stride=1, padding=3)[:, 0]
        weight = known * (1 + 2 * near * (interior < 0.3))
        entropy = F.binary_cross_entropy_with_logits(logits[:, 0], extent, reduction="none")
        p = logits[:, 0].sigmoid() * known
        dice = 1 - (2 * (p * extent).sum() + 1) / (p.sum() + (extent * known).sum() + 1)
        depth = (logits[:, 1].sigmoid() - interior).square()
        loss = (entropy * weight).sum() / weight.sum().clamp(min=1) + dice + 3 * (depth * weight).sum() / total
        self.log("loss", loss, prog_bar=True)
        return loss


class RefinerLearner(Learner):
    """Masks by cross-entropy and dice, predicted IoU by squared error."""

    net: SAM2Base

    def __init__(self, net: SAM2Base, steps: int, rate: float = 1e-3) -> None:
        super().__init__(net, net.image_encoder.trunk, steps, rate)

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """Loss of one batch; see train.refiner.RefinerSamples.batches for its arrays."""
        embedding, fine = split_features(self.net, normalise(batch["images"]))
        which = batch["image_of"]
        sparse, dense = prompt_embeddings(self.net, batch["points"], batch["labels"], batch["hints"], batch["has_hint"])
        logits, iou, _, _ = self.net.sam_mask_decoder(
            image_embeddings=embedding[which],
            image_pe=self.net.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
            repeat_image=False,
            high_res_features=[level[which] for level in fine],
        )
        truth = F.avg_pool2d(batch["masks"].float()[:, None], 2)[:, 0]
        logits = F.interpolate(logits.float(), size=truth.shape[-2:], mode="bilinear")[:, 0]
        entropy = F.binary_cross_entropy_with_logits(logits, truth)
        p = logits.sigmoid()
        dice = 1 - (2 * (p * truth).flatten(1).sum(1) + 1) / ((p + truth).flatten(1).sum(1) + 1)
        with torch.no_grad():
            got, want = logits > 0, truth > 0.5
            real = (got & want).flatten(1).sum(1) / (got | want).flatten(1).sum(1).clamp(min=1)
        loss = 2 * entropy + dice.mean() + F.mse_loss(iou[:, 0], real)
        self.log("loss", loss, prog_bar=True)
        self.log("iou", real.mean(), prog_bar=True)
        return loss

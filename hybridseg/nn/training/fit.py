"""The base of all learners, and their optimisation by Lightning: resumable, on CPU or GPU, curves as CSV."""

from __future__ import annotations

import copy
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from hybridseg.errors import MissingExtra
from hybridseg.nn.backbones.lite0 import freeze_batchnorm
from hybridseg.nn.device import native_bf16, pick_device

try:
    import lightning
    from lightning.pytorch.callbacks import (
        Callback,
        EarlyStopping,
        ModelCheckpoint,
        TQDMProgressBar,
        WeightAveraging,
    )
    from lightning.pytorch.loggers import CSVLogger
except ImportError as error:
    raise MissingExtra("training needs Lightning: uv sync --extra train") from error


class Learner(lightning.LightningModule):
    """AdamW, the trunk at a quarter of the rate, with warm-up and a cosine down to a hundredth.

    warm_start: whether the whole network comes trained and is worth keeping if training does not improve it.
    """

    warm_start = False

    def __init__(self, net: nn.Module, trunk: nn.Module, steps: int, rate: float = 1e-3, warmup: int = 100) -> None:
        """Prepare to train.

        Args:
            net: all that is trained.
            trunk: the pretrained part of it.
            steps: of the whole training.
            rate: learning rate at the end of the warm-up.
            warmup: steps of it.
        """
        super().__init__()
        self.net, self.steps, self.rate, self.warmup = net, steps, rate, warmup
        self._trunk = [trunk]  # in a list: not a second registration of the same parameters

    @property
    def trunk(self) -> Any:
        """The pretrained part."""
        return self._trunk[0]

    def configure_optimizers(self) -> Any:
        """One optimiser, two parameter groups."""
        slow = list(self.trunk.parameters())
        ids = {id(p) for p in slow}
        fast = [p for p in self.net.parameters() if id(p) not in ids]
        groups = [{"params": slow, "lr": self.rate / 4}, {"params": fast, "lr": self.rate}]
        return self.scheduled(torch.optim.AdamW(groups, weight_decay=0.05))

    def scheduled(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The optimiser as Lightning takes it, with a rate that changes at every step."""
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _factor(self, step: int) -> float:
        return min(1.0, (step + 1) / self.warmup) * (
            0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))
        )

    def on_train_epoch_start(self) -> None:
        """Keep the pretrained trunk's batch statistics."""
        freeze_batchnorm(self.trunk)


class _Stream(IterableDataset):
    def __init__(self, batches: Streams) -> None:
        super().__init__()
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        for batch in self.batches(worker.id if worker else 0):
            yield _tensors(batch)


class _Batches(Dataset):
    def __init__(self, batches: Sequence[Any]) -> None:
        super().__init__()
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        return self.batches[index]


def _tensors(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, dict):
        return {key: _tensors(item) for key, item in value.items()}
    return tuple(_tensors(item) for item in value)


Streams = Callable[[int], Iterator[Any]]
"""Number of a process that draws batches to its endless stream of them; each number gives other ones."""


def fit(
    learner: Learner,
    batches: Streams,
    folder: Path,
    stop: int | None = None,
    every: int = 100,
    quiet: bool = False,
    watch: Sequence[Any] | None = None,
    patience: int = 5,
    accelerator: str = "auto",
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    workers: int = 0,
    average: bool = False,
) -> int:
    """Optimise; go on from `folder/last.ckpt` where there is one.

    The curves are `folder/curves/version_<k>/metrics.csv`, one for each time that the training was started.

    Args:
        learner: what to optimise.
        batches: see `Streams`.
        folder: of checkpoints and curves.
        stop: step to stop at; default: `learner.steps`.
        every: steps between two checkpoints, and between two looks at `watch`.
        quiet: no progress bar.
        watch: validation batches for a learner that logs `val_loss`. Training stops when they have not improved
            `patience` times in a row; the best weights are kept in `folder/best.ckpt` and left in the learner, or the
            first ones where it has a warm start and nothing was better.
        patience: see `watch`.
        accelerator: as Lightning calls it.
        precision: of the forward pass, as Lightning calls it.
        workers: how many processes draw batches; 0: this one does.
        average: whether a running average of the weights is left in the learner, in which the last tenth of the steps
            weighs most (polynomial-decay averaging, Shamir and Zhang 2013).

    Returns:
        the step reached; 0 where the first weights were best.
    """
    known = learner.warm_start
    first = copy.deepcopy(learner.state_dict()) if known else {}
    best_before = _mean_loss(learner, watch) if known and watch else np.inf
    checkpoint = ModelCheckpoint(
        dirpath=folder, save_last=True, save_top_k=0, every_n_train_steps=every, enable_version_counter=False
    )
    last = folder / "last.ckpt"
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    trainer = lightning.Trainer(
        max_steps=stop or learner.steps,
        accelerator=accelerator,
        precision=precision,
        devices=1,
        logger=CSVLogger(folder, name="curves"),
        callbacks=[
            checkpoint,
            *([] if quiet else [TQDMProgressBar(refresh_rate=10)]),
            *([] if watch is None else _watchers(folder, patience)),
            *([WeightAveraging(avg_fn=_averaged)] if average else []),
        ],
        enable_progress_bar=not quiet,
        enable_model_summary=False,
        gradient_clip_val=1.0,
        log_every_n_steps=20 if watch is None else min(20, every),
        val_check_interval=None if watch is None else every,
        num_sanity_val_steps=0,
    )
    learner.net.to(memory_format=torch.channels_last)
    context = "fork" if workers else None  # the images that are drawn from need not be copied
    with warnings.catch_warnings():
        # batches come ready from one stream: neither workers nor a length would help
        warnings.filterwarnings("ignore", message=".*(num_workers|__len__).*")
        warnings.filterwarnings("ignore", message="Checkpoint directory .* not empty")  # the curves lie there too
        trainer.fit(
            learner,
            DataLoader(_Stream(batches), batch_size=None, num_workers=workers, multiprocessing_context=context),
            None if watch is None else DataLoader(_Batches([_tensors(batch) for batch in watch]), batch_size=None),
            ckpt_path=last if last.exists() else None,
        )
    trainer.save_checkpoint(last)
    best = folder / "best.ckpt"
    if watch is not None and best.exists():
        learner.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["state_dict"])
    if known and watch and _mean_loss(learner, watch) >= best_before:
        learner.load_state_dict(first)
        return 0
    return int(trainer.global_step)


def _averaged(average: Tensor, value: Tensor, steps: Tensor) -> Tensor:
    """The average after one more step; counters are taken as they are."""
    return torch.lerp(average, value, 9 / (10 + int(steps))) if average.is_floating_point() else value


def _mean_loss(learner: Any, watch: Sequence[Any]) -> float:
    learner.eval()
    with torch.no_grad():
        losses = [float(learner.loss(_tensors(batch))) for batch in watch]
    learner.train()
    return float(np.mean(losses))


def _watchers(folder: Path, patience: int) -> list[Callback]:
    best = ModelCheckpoint(
        dirpath=folder, filename="best", monitor="val_loss", save_top_k=1, enable_version_counter=False
    )
    return [EarlyStopping("val_loss", patience=patience), best]


def step_reached(folder: Path) -> int:
    """Step of the checkpoint that a training in this folder would go on from; 0 without one."""
    last = folder / "last.ckpt"
    return int(torch.load(last, map_location="cpu", weights_only=True)["global_step"]) if last.exists() else 0


Precision = Literal["32-true", "bf16-mixed"]


def precision() -> Precision:
    """Return the precision that trains fastest on this machine: bfloat16 where it is computed in hardware."""
    return "bf16-mixed" if native_bf16(pick_device()) else "32-true"


def workers() -> int:
    """Return how many processes should draw batches: one beside a CPU, which trains, else all cores but one."""
    return 1 if pick_device().type == "cpu" else max(1, (os.cpu_count() or 1) - 1)


def keep_slow_layers_in_fp32(net: nn.Module) -> None:
    """Leave depthwise convolutions with a stride or a 5 x 5 kernel out of autocast.

    Their backward pass takes two to three times as long in bfloat16 as in fp32 (oneDNN in torch 2.15).
    """
    for layer in net.modules():
        slow = isinstance(layer, nn.Conv2d) and (max(layer.stride) > 1 or max(layer.kernel_size) > 3)
        if isinstance(layer, nn.Conv2d) and layer.groups > 1 and slow:
            layer.forward = _in_fp32(layer)  # type: ignore[method-assign, assignment]


def _in_fp32(layer: nn.Conv2d) -> Callable[[Tensor], Tensor]:
    inner = type(layer).forward

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return inner(layer, x.float())

    return forward


def add_weights(net: nn.Module, first: Mapping[str, torch.Tensor], keep: float) -> None:
    """Mix a network's weights with those that it started from, one by one.

    Method: Wortsman et al. 2022, Robust fine-tuning of zero-shot models, 3.

    Args:
        net: as it was trained.
        first: its state before.
        keep: share of the trained weights, 0 to 1.
    """
    mixed = {
        key: torch.lerp(first[key].float(), value.float(), keep).to(value.dtype) if value.is_floating_point() else value
        for key, value in net.state_dict().items()
    }
    net.load_state_dict(mixed)

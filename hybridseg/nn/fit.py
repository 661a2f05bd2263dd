"""Run a Learner with Lightning: resumable, on CPU or GPU, its curve as a CSV."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, Dataset, IterableDataset

from hybridseg.nn.learn import Learner, WatchedLearner


class _Stream(IterableDataset):
    def __init__(self, batches: Iterator[Any]) -> None:
        super().__init__()
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
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


def fit(
    learner: Learner,
    batches: Iterator[Any],
    folder: Path,
    stop: int | None = None,
    every: int = 100,
    quiet: bool = False,
    watch: Sequence[Any] | None = None,
    patience: int = 5,
    accelerator: str = "auto",
) -> int:
    """Optimise until `stop`, or else `learner.steps`; returns the step reached.

    Goes on from `folder/last.ckpt` where there is one, and writes it every `every` steps; the curves are
    `folder/curves/version_<k>/metrics.csv`, one for each time that it was started.

    With `watch`, validation batches for a learner that logs `val_loss`, it looks at them every `every` steps, stops
    when they have not gained `patience` times in a row, keeps `folder/best.ckpt` and leaves its weights in the learner.
    A learner that goes on from a trained head keeps that, and 0 is returned, where no look was better than the first.
    """
    known = isinstance(learner, WatchedLearner) and learner.going_on
    first = copy.deepcopy(learner.state_dict()) if known else {}
    bar = _mean_loss(learner, watch) if known and watch else np.inf
    checkpoint = ModelCheckpoint(dirpath=folder, save_last=True, save_top_k=0, every_n_train_steps=every)
    last = folder / "last.ckpt"
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    trainer = lightning.Trainer(
        max_steps=stop or learner.steps,
        accelerator=accelerator,
        devices=1,
        logger=CSVLogger(folder, name="curves"),
        callbacks=[
            checkpoint,
            *([] if quiet else [TQDMProgressBar(refresh_rate=10)]),
            *([] if watch is None else _watchers(folder, patience)),
        ],
        enable_progress_bar=not quiet,
        enable_model_summary=False,
        gradient_clip_val=1.0,
        log_every_n_steps=20 if watch is None else min(20, every),
        val_check_interval=None if watch is None else every,
        num_sanity_val_steps=0,
    )
    learner.net.to(memory_format=torch.channels_last)
    with warnings.catch_warnings():
        # batches come ready from one stream: neither workers nor a length would help
        warnings.filterwarnings("ignore", message=".*(num_workers|__len__).*")
        warnings.filterwarnings("ignore", message="Checkpoint directory .* not empty")  # the curves lie there too
        trainer.fit(
            learner,
            DataLoader(_Stream(batches), batch_size=None),
            None if watch is None else DataLoader(_Batches([_tensors(batch) for batch in watch]), batch_size=None),
            ckpt_path=last if last.exists() else None,
        )
    trainer.save_checkpoint(last)
    best = folder / "best.ckpt"
    if watch is not None and best.exists():
        learner.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["state_dict"])
    if known and watch and _mean_loss(learner, watch) >= bar:
        learner.load_state_dict(first)
        return 0
    return int(trainer.global_step)


def step_of(folder: Path) -> int:
    """Return the step that a run in `folder` has reached by its last checkpoint; 0 without one."""
    last = folder / "last.ckpt"
    return int(torch.load(last, map_location="cpu", weights_only=True)["global_step"]) if last.exists() else 0


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

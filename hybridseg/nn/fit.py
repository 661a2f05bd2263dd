"""Run a Learner with Lightning: resumable, on CPU or GPU, its curve as a CSV."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, IterableDataset

from hybridseg.nn.learn import Learner


class _Stream(IterableDataset):
    def __init__(self, batches: Iterator[Any]) -> None:
        super().__init__()
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            yield _tensors(batch)


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
) -> int:
    """Optimise until `stop`, or else `learner.steps`; returns the step reached.

    Goes on from `folder/last.ckpt` where there is one, and writes it every `every` steps; the curves are
    `folder/curves/version_<k>/metrics.csv`, one for each time that it was started.
    """
    checkpoint = ModelCheckpoint(dirpath=folder, save_last=True, save_top_k=0, every_n_train_steps=every)
    last = folder / "last.ckpt"
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    trainer = lightning.Trainer(
        max_steps=stop or learner.steps,
        accelerator="auto",
        devices=1,
        logger=CSVLogger(folder, name="curves"),
        callbacks=[checkpoint] if quiet else [checkpoint, TQDMProgressBar(refresh_rate=10)],
        enable_progress_bar=not quiet,
        enable_model_summary=False,
        gradient_clip_val=1.0,
        log_every_n_steps=20,
    )
    learner.net.to(memory_format=torch.channels_last)
    with warnings.catch_warnings():
        # batches come ready from one stream: neither workers nor a length would help
        warnings.filterwarnings("ignore", message=".*(num_workers|__len__).*")
        trainer.fit(learner, DataLoader(_Stream(batches), batch_size=None), ckpt_path=last if last.exists() else None)
    trainer.save_checkpoint(last)
    return int(trainer.global_step)

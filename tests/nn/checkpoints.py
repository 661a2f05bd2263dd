"""Checkpoints as the official ones, with random weights."""

from __future__ import annotations

import torch
from sam2 import build_sam
from torch import nn

TINY = "sam2.1-hiera-tiny"


def official(name: str) -> nn.Module:
    torch.manual_seed(0)
    config, _ = build_sam.HF_MODEL_ID_TO_FILENAMES[f"facebook/{name}"]
    return build_sam.build_sam2(config, device="cpu")

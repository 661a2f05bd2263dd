"""Checkpoints as the official ones, with random weights, and what is said of those that cannot be used."""

from __future__ import annotations

import pytest
import torch
from sam2 import build_sam
from torch import nn

from hybridseg.errors import WeightsError

TINY = "sam2.1-hiera-tiny"


def official(name: str) -> nn.Module:
    torch.manual_seed(0)
    config, _ = build_sam.HF_MODEL_ID_TO_FILENAMES[f"facebook/{name}"]
    return build_sam.build_sam2(config, device="cpu")


def one_line(error: pytest.ExceptionInfo[WeightsError]) -> str:
    message = str(error.value)
    assert message
    assert "\n" not in message
    return message

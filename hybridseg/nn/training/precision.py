"""Half precision in training on CPUs that compute in bfloat16 (AVX512-BF16, AMX): a step costs half of one in fp32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from hybridseg.nn.device import native_bf16, pick_device

Precision = Literal["32-true", "bf16-mixed"]


def precision() -> Precision:
    """Return the precision that trains fastest on this machine's CPU; fp32 where an accelerator is found."""
    device = pick_device()
    return "bf16-mixed" if device.type == "cpu" and native_bf16(device) else "32-true"


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

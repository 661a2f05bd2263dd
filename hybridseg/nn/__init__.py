"""The only place that imports torch. Its rooms load on first use, so that nothing else need wait for torch.

Elsewhere write `from hybridseg import nn`, then `nn.models.Models.open(...)` (PEP 562, scientific-python's SPEC 1).
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybridseg.nn import backbones, cards, classify, device, models, sam2, training, weights

__all__ = ["backbones", "cards", "classify", "device", "models", "sam2", "training", "weights"]


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")

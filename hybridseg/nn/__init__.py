"""The only place that imports torch. Its rooms load on first use, so that nothing else need wait for torch.

Elsewhere write `from hybridseg import nn`, then `nn.models.Models.open(...)` (PEP 562, scientific-python's SPEC 1).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybridseg.nn import backbones, cards, classify, device, indices, models, runtime, sam2, training, weights


def loader(package: str, rooms: Sequence[str]) -> Callable[[str], ModuleType]:
    """Return a package's `__getattr__` that imports its rooms when they are first asked for."""

    def load(name: str) -> ModuleType:
        if name not in rooms:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return importlib.import_module(f"{package}.{name}")

    return load


__all__ = [
    "backbones", "cards", "classify", "device", "indices", "models", "runtime", "sam2", "training", "weights",
]  # fmt: skip
__getattr__ = loader(__name__, __all__)

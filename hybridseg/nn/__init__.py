"""The only place that imports torch. Its rooms load on first use, so that nothing else need wait for torch.

Elsewhere write `from hybridseg import nn`, then `nn.models.Models.open(...)` (PEP 562, scientific-python's SPEC 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridseg.nn.lazy import loader

if TYPE_CHECKING:
    from hybridseg.nn import (
        backbones,
        cards,
        classify,
        device,
        indices,
        models,
        runtime,
        sam2,
        sources,
        training,
        weights,
    )

__all__ = [
    "backbones", "cards", "classify", "device", "indices", "models", "runtime", "sam2", "sources", "training",
    "weights",
]  # fmt: skip
__getattr__ = loader(__name__, __all__)

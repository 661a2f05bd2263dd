"""SAM2: promptable models by name, sam2-lite, its memory over several dates, and one encoder for both sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridseg.nn import loader

if TYPE_CHECKING:
    from hybridseg.nn.sam2 import embedding, lite, memory, official, promptable, recall, shared_encoder

__all__ = ["embedding", "lite", "memory", "official", "promptable", "recall", "shared_encoder"]
__getattr__ = loader(__name__, __all__)

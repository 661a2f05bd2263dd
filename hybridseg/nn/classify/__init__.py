"""Classifiers: the networks and heads behind a heatmap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridseg.nn.lazy import loader

if TYPE_CHECKING:
    from hybridseg.nn.classify import classifier, heads, pyramid, segmenter

__all__ = ["classifier", "heads", "pyramid", "segmenter"]
__getattr__ = loader(__name__, __all__)

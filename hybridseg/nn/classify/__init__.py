"""Classifiers: the networks and heads behind a heatmap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridseg.nn import loader

if TYPE_CHECKING:
    from hybridseg.nn.classify import classifier, heads

__all__ = ["classifier", "heads"]
__getattr__ = loader(__name__, __all__)

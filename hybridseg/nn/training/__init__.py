"""Losses and optimisation: the only place that imports Lightning and scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridseg.nn import loader

if TYPE_CHECKING:
    from hybridseg.nn.training import fit, learners, linear, memory_learner

__all__ = ["fit", "learners", "linear", "memory_learner"]
__getattr__ = loader(__name__, __all__)

"""Overhead imagery to labelled maps: a classifier says what, SAM2 says where, exactly.

Verbs: `extract`, `track`, `evaluate`, `review`, `serve`, `finetune`, `tune`, `train`, `models`. The heart below them:
`open_scene`, `Survey`, `load_theme`, `Models`. Names load on first use (PEP 562), so that importing the package need
not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridseg.errors import HybridsegError
    from hybridseg.evaluation import evaluate
    from hybridseg.finetuning.run import finetune
    from hybridseg.heatmap import Heatmap
    from hybridseg.nn.models import Models
    from hybridseg.read.opening import open_scene
    from hybridseg.read.scene import Scene
    from hybridseg.reviewing.verbs import review, serve
    from hybridseg.run.extract import extract
    from hybridseg.run.models import models
    from hybridseg.run.result import Result
    from hybridseg.run.survey import Survey
    from hybridseg.search import tune
    from hybridseg.tables import Features, Prompts, Refined
    from hybridseg.theme import Theme, load_theme
    from hybridseg.tracking.run import track
    from hybridseg.training.run import train

_HOME = {
    "Features": "tables",
    "Heatmap": "heatmap",
    "HybridsegError": "errors",
    "Models": "nn.models",
    "Prompts": "tables",
    "Refined": "tables",
    "Result": "run.result",
    "Scene": "read.scene",
    "Survey": "run.survey",
    "Theme": "theme",
    "evaluate": "evaluation",
    "extract": "run.extract",
    "finetune": "finetuning.run",
    "load_theme": "theme",
    "models": "run.models",
    "open_scene": "read.opening",
    "review": "reviewing.verbs",
    "serve": "reviewing.verbs",
    "track": "tracking.run",
    "train": "training.run",
    "tune": "search",
}
"""Public name to the module that it lives in."""

__all__ = [
    "Features",
    "Heatmap",
    "HybridsegError",
    "Models",
    "Prompts",
    "Refined",
    "Result",
    "Scene",
    "Survey",
    "Theme",
    "evaluate",
    "extract",
    "finetune",
    "load_theme",
    "models",
    "open_scene",
    "review",
    "serve",
    "track",
    "train",
    "tune",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)

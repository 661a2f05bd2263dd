"""A model folder as a user's own theme: its settings and what its scores mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np

from hybridseg.errors import ThemeError
from hybridseg.theme import Theme, load_theme

Calibration = Mapping[str, Sequence[Sequence[float]]]
"""Class to points (score, chance), ascending; straight lines between."""


def themes_in(model: str | Path) -> list[Theme]:
    """The themes of a model folder (made by `finetune`), which look with its own classifier.

    Args:
        model: path of the folder, or `hf:OWNER/NAME` on the Hugging Face hub.

    Raises:
        WeightsError: no such model.
        ThemeError: it holds no theme.
    """
    # torch comes with it: not for `hybridseg --help`
    from hybridseg.nn.weights import model_folder

    folder = model_folder(model)
    paths = sorted(folder.glob("theme*.yaml"))
    if not paths:
        raise ThemeError(f"{folder} holds no theme.yaml; give --theme with `classifier: {folder}` instead of --model")
    # the folder may have been moved or copied since: what it says of its own place does not count
    return [load_theme(path).model_copy(update={"classifier": str(folder)}) for path in paths]


def calibration_of(card: Mapping[str, Any]) -> Calibration:
    """What a card says of its scores; empty where it says nothing."""
    return card.get("calibration", {})


def check_label(theme: Theme, classes: Sequence[str]) -> None:
    """That a theme's classifier knows the class that the theme looks for.

    Raises:
        ThemeError: it does not.
    """
    if theme.label not in classes:
        raise ThemeError(
            f"theme {theme.name} looks for {theme.label}, but its classifier {theme.classifier} knows "
            f"{', '.join(classes)}; give one of these as the theme's `label:`, or another classifier"
        )


def calibrated(features: gpd.GeoDataFrame, calibration: Calibration) -> gpd.GeoDataFrame:
    """`score` as the chance that a polygon matches an object at IoU 0.5, for the classes that the table knows."""
    score = features["score"].to_numpy(float).copy()
    for name, points in calibration.items():
        rows = (features["class"] == name).to_numpy()
        at, chance = np.array(points, float).T
        score[rows] = np.interp(score[rows], at, chance)
    return features.assign(score=score)

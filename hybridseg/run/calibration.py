"""What a score means: a model's table from its own score to the chance that a polygon is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import geopandas as gpd
import numpy as np

from hybridseg.theme import Theme


def calibrated(
    features: gpd.GeoDataFrame, theme: Theme, refiner: str, card: Mapping[str, Any]
) -> tuple[gpd.GeoDataFrame, list[str]]:
    """Make `score` the chance that a polygon matches an object at IoU 0.5, where the model's card has a table for it.

    The table holds for the settings that it was fitted with; with others the scores stay as they are.

    Args:
        features: with the classifier's own `score`.
        theme: whose settings are in use.
        refiner: name of the one in use, or `none`.
        card: of the classifier: `calibration`, class to points [score, chance], rising; `calibration_settings`, class
            to the fingerprint of the settings (`Theme.score_fingerprint`).

    Returns:
        the features, with the classifier's score kept as `score_raw` where it was calibrated; and a note where there is
        a table that does not hold.
    """
    points = card.get("calibration", {}).get(theme.label)
    if points is None:
        return features, []
    if card.get("calibration_settings", {}).get(theme.label) != theme.score_fingerprint(refiner):
        note = f"scores of {theme.label} are the classifier's own: its calibration was fitted with other settings"
        return features, [note]
    at, chance = np.array(points, float).T
    raw = features["score"].to_numpy(float)
    return features.assign(score=np.interp(raw, at, chance), score_raw=raw), []

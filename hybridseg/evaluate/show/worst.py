"""The objects that cost a map most, to be looked at: a figure says how bad it is, a picture says why."""

from __future__ import annotations

from typing import NamedTuple

import geopandas as gpd
import numpy as np
import shapely

from hybridseg.evaluate.align.compare import ANY
from hybridseg.evaluate.measure.verdicts import FALSE, HIT, IGNORED, MERGED, MISSED, SPLIT
from hybridseg.evaluate.show.picture import Layer

WORST = 12
COLORS = {HIT: "#4cc9f0", FALSE: "#ff4d6d", MISSED: "#ffd166", SPLIT: "#c77dff", MERGED: "#c77dff"}
"""Told apart by most colour-blind people, and on roofs, trees and soil."""
_LEAST_M = 6.0


class Worst(NamedTuple):
    """One object: what is said of it, and the ground around it in the report's CRS."""

    said: str
    verdict: str
    around: gpd.GeoSeries


def worst(verdicts: gpd.GeoDataFrame, count: int = WORST) -> list[Worst]:
    """The objects with the most wrong ground, the worst first; of lines the longest wrong stretches.

    Wrong ground of a reference object is its area times one minus its best IoU; of a false find it is its whole area.

    Args:
        verdicts: as `report.Report` holds them.
        count: how many, at most.
    """
    lines = "length_m" in verdicts
    of_pred = (verdicts["side"] == "pred") & (verdicts["verdict"] == FALSE)
    chosen = verdicts[((verdicts["side"] == "ref") & (verdicts["verdict"] != IGNORED)) | of_pred]
    if lines:
        cost = np.where(chosen["verdict"] == HIT, 0, chosen["length_m"])
    else:
        cost = chosen["area_m2"] * np.where(chosen["verdict"] == FALSE, 1, 1 - chosen["best_iou"])
    chosen = chosen.assign(cost=cost).query("cost > 0").nlargest(count, "cost")
    return [Worst(_said(row, lines), row["verdict"], _around(row.geometry, verdicts)) for _, row in chosen.iterrows()]


def layers(verdicts: gpd.GeoDataFrame) -> list[Layer]:
    """Outlines of both sides: those of the map by verdict, those of the reference white, or yellow where missed."""
    pred, ref = (verdicts[verdicts["side"] == side] for side in ("pred", "ref"))
    missed = ref["verdict"] == MISSED
    drawn = [Layer(ref[~missed], "#ffffff", "reference", dashed=True), Layer(ref[missed], COLORS[MISSED], "missed")]
    for name, words in (("hit", (HIT,)), ("split or merged", (SPLIT, MERGED)), ("false", (FALSE,))):
        own = pred[pred["verdict"].isin(words)]
        if len(own) or name != "split or merged":
            drawn.append(Layer(own, COLORS[words[0]], name))
    return drawn


def _said(row: gpd.GeoSeries, lines: bool) -> str:
    if lines:
        return f"{row['length_m']:,.0f} m"
    parts = [*([] if row["class"] == ANY else [row["class"]]), f"{row['area_m2']:,.0f} m²"]
    if row["verdict"] != FALSE:
        parts.append(f"best IoU {row['best_iou']:.2f}")
    elif np.isfinite(row["score"]):
        parts.append(f"score {row['score']:.2f}")
    return ", ".join(parts)


def _around(geometry: shapely.Geometry, verdicts: gpd.GeoDataFrame) -> gpd.GeoSeries:
    """A square with the object in its middle half."""
    left, bottom, right, top = geometry.bounds
    half = max(right - left, top - bottom, _LEAST_M)
    x, y = (left + right) / 2, (bottom + top) / 2
    return gpd.GeoSeries([shapely.box(x - half, y - half, x + half, y + half)], crs=verdicts.crs)

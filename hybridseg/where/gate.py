"""The gate: a refined mask must earn its place, or the coarse outline stays."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pydantic import Field

from hybridseg.tables import FIGURES, Refined
from hybridseg.types import Settings

OFFSET = 1.0
"""Logits that the threshold is moved by, up and down, to see how stable a mask is (SAM's automatic mask generator)."""


class Gate(Settings):
    """What a refined mask must reach, of `FIGURES`; below, the coarse outline stays."""

    iou_pred: float = Field(0.5, ge=0, le=1)
    stability: float = Field(0.6, ge=0, le=1)
    agreement: float = Field(0.4, ge=0, le=1, description="IoU of the refined mask with the heatmap's support")

    def passes(self, refined: Refined) -> np.ndarray:
        """Return (N,) bool, which masks are kept. A figure that cannot be had (a click agrees with nothing) counts not.

        Args:
            refined: N masks before the gate.
        """
        return np.concatenate([self._passes(rows) for rows in refined.batches([*FIGURES, "outline"])])

    def _passes(self, rows: gpd.GeoDataFrame) -> np.ndarray:
        kept = ~shapely.is_missing(rows["outline"].to_numpy())
        for name in FIGURES:
            figure = rows[name].to_numpy(float)
            kept = kept & ~(figure < getattr(self, name))
        return np.asarray(kept)

    def choose(self, refined: Refined) -> gpd.GeoDataFrame:
        """Return an outline for each prompt that has one, by `origin` refined where its mask passes, coarse elsewhere.

        Args:
            refined: masks before the gate.

        Returns:
            id, class, score, origin, `FIGURES`, geometry.
        """
        chosen = [self._choose(rows) for rows in refined.batches()]
        return gpd.GeoDataFrame(pd.concat(chosen, ignore_index=True), geometry="geometry", crs=refined.crs)

    def _choose(self, rows: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
        kept = self._passes(rows)
        outlines = gpd.GeoDataFrame(
            {
                **{name: rows[name] for name in ("id", "class", "score")},
                "origin": pd.Series(np.where(kept, "refined", "coarse"), index=rows.index, dtype="string"),
                **{name: rows[name] for name in FIGURES},
            },
            geometry=np.where(kept, rows["outline"].to_numpy(), rows["support"].to_numpy()),
            crs=rows.crs,
        )
        return outlines[~(outlines.geometry.isna() | outlines.geometry.is_empty)]


def stability(logits: np.ndarray) -> float:
    """Return the IoU of a mask (M, M) at two thresholds, in [0, 1]."""
    return _share(logits > OFFSET, logits > -OFFSET)


def agreement(logits: np.ndarray, support: np.ndarray) -> float:
    """Return the IoU of a mask (M, M) with its support, given as the share of each pixel covered."""
    mask, coarse = logits > 0, support >= 0.5
    return _share(mask & coarse, mask | coarse)


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    """Pixels of one mask as a share of another's; 0 of nothing."""
    return float(part.sum() / max(1, whole.sum()))

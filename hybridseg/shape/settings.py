"""What every stage of shaping is: settings that a theme's YAML may give, and the work that they describe."""

from __future__ import annotations

from typing import Literal

import geopandas as gpd
import numpy as np

from hybridseg.types import Settings


class ShapeStage(Settings):
    """Base of the stages: a frozen value of settings, checked when made. Lengths are metres unless `_px`."""

    @property
    def reach_m(self) -> float:
        """How far apart two outlines may lie (m) and one still change what becomes of the other.

        Those that touch or overlap always may. An extent that is grown by this and by the size of the largest object
        gives the objects inside it the neighbours that they have in the whole scene.
        """
        return 0.0

    @property
    def block_m(self) -> float | None:
        """Side of the blocks of ground (m) that are shaped one by one, each with twice `reach_m` around it.

        None: the layer is shaped at once, because outlines decide about others at any distance.
        """
        return None

    def shape(self, features: gpd.GeoDataFrame, gsd_m: float = 0.0, coarse_m: float = 0.0) -> gpd.GeoDataFrame:
        """Return the features with outlines fit for a map; other columns stay (`area_m2` is not computed anew).

        Args:
            features: polygons in any CRS.
            gsd_m: size of a source pixel on the ground (m), what traced outlines are exact to; 0 when unknown.
            coarse_m: size of the pixels (m) that outlines of `origin` coarse were traced on; 0: as the others.

        Raises:
            NoGeoreference: the features have no CRS.
        """
        raise NotImplementedError


def traced_m(features: gpd.GeoDataFrame, gsd_m: float, coarse_m: float) -> np.ndarray:
    """Return the size of the pixels (m) that each outline was traced on, (n,)."""
    coarse = features["origin"].eq("coarse").to_numpy(bool) if "origin" in features else np.zeros(len(features), bool)
    return np.where(coarse, max(coarse_m, gsd_m), gsd_m)


class AsTraced(ShapeStage):
    """Outlines as they were traced, along source pixels."""

    kind: Literal["none"] = "none"

    def shape(self, features: gpd.GeoDataFrame, gsd_m: float = 0.0, coarse_m: float = 0.0) -> gpd.GeoDataFrame:
        """Return the features as they are."""
        return features

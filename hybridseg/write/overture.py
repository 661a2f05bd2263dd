"""Buildings with the columns of Overture Maps (schema 1, theme buildings, type building), in WGS84."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import geopandas as gpd
import pandas as pd

_COLUMNS = ("id", "geometry", "theme", "type", "version", "sources", "height", "num_floors", "class", "subtype")


def to_overture(features: gpd.GeoDataFrame, provenance: Mapping[str, Any]) -> gpd.GeoDataFrame:
    """Return buildings in WGS84 with Overture's columns; what imagery does not tell is empty.

    The score is the confidence of the only source, `hybridseg`, whose record is our id.
    """
    sources = [
        [{"property": "", "dataset": "hybridseg", "record_id": name, "update_time": provenance.get("created"),
          "confidence": float(score)}]
        for name, score in zip(features["id"], features["score"], strict=True)
    ]  # fmt: skip
    moved = features.geometry.to_crs(4326)
    table: dict[str, Any] = {
        "id": features["id"].astype(str),
        "geometry": moved,
        "theme": "buildings",
        "type": "building",
        "version": 1,
        "sources": pd.Series(sources, index=features.index, dtype=object),
        "height": pd.Series(float("nan"), index=features.index),
        "num_floors": pd.Series(pd.NA, index=features.index, dtype="Int32"),
        "class": pd.Series(pd.NA, index=features.index, dtype="string"),
        "subtype": pd.Series(pd.NA, index=features.index, dtype="string"),
    }
    return gpd.GeoDataFrame(pd.DataFrame(table)[list(_COLUMNS)], geometry="geometry", crs=4326)

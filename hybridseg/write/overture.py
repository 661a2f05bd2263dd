"""Buildings with the columns of Overture Maps (schema 1, theme buildings, type building), as GeoParquet in WGS84."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd

from hybridseg.errors import OutputError
from hybridseg.files import check_output, replacing
from hybridseg.write.formats import FORMATS, Layer
from hybridseg.write.lineage import title
from hybridseg.write.result import ERRORS

SUFFIX = ".parquet"
_COLUMNS = ("id", "geometry", "theme", "type", "version", "sources", "height", "num_floors", "class", "subtype")


def check_overture(path: Path | str | None, classes: list[str]) -> None:
    """Check that a result can be written so: to be asked before hours of work.

    Raises:
        OutputError: it is no GeoParquet, or not of buildings.
    """
    if path is None or Path(path).suffix.lower() != SUFFIX:
        raise OutputError(
            "--schema overture has columns of lists, which only GeoParquet holds; give an out of .parquet"
        )
    check_output(path, [SUFFIX])
    if classes != ["building"]:
        raise OutputError(f"--schema overture is for buildings, not for {', '.join(classes)}; leave it out")


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


def write_overture(features: gpd.GeoDataFrame, path: Path | str, provenance: Mapping[str, Any]) -> Path:
    """Write buildings with Overture's columns; the file appears whole or not at all.

    Raises:
        OutputError: it cannot be written there.
    """
    path, format_ = Path(path), FORMATS[SUFFIX]
    layer = Layer(
        "building", to_overture(features, provenance), "polygons", title(provenance, ["building"], "polygons")
    )

    def verify(beside: Path) -> None:
        if len(format_.read(beside, None)) != len(layer.frame):
            raise ValueError("rows are lost")

    with replacing(path, verify, ERRORS) as beside:
        format_.write([layer], beside, provenance)
    return path

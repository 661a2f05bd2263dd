"""Fields as fiboa has them (version 0.3, on Vecorel 0.1), as GeoParquet in WGS84."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hybridseg.write.lineage import abstract

SCHEMAS = (
    "https://vecorel.org/specification/v0.1.0/schema.yaml",
    "https://fiboa.org/specification/v0.3.0/schema.yaml",
)
_SDL = "https://vecorel.org/sdl/v0.2.0/schema.json"
_LARGEST_M2 = 1e9
"""Areas beyond it, or of nothing, are none in fiboa."""


def to_fiboa(features: gpd.GeoDataFrame, provenance: Mapping[str, Any]) -> gpd.GeoDataFrame:
    """Return fields in WGS84 with fiboa's columns and, as `score`, our own.

    The area is in m2 on the ground. When the field was seen (`determination:datetime`) is left out: rasters rarely say.
    """
    area = features["area_m2"].to_numpy(np.float32)
    columns = {
        "id": features["id"].astype(str),
        "metrics:area": np.where((area > 0) & (area <= _LARGEST_M2), area, np.nan).astype(np.float32),
        "score": features["score"].to_numpy(np.float32),
    }
    moved = features.geometry.to_crs(4326)
    return gpd.GeoDataFrame(columns, geometry=moved.set_axis(features.index), crs=4326)


def as_collection(path: Path, provenance: Mapping[str, Any]) -> None:
    """Give a GeoParquet file of `to_fiboa` the collection in its metadata, and columns that must be filled.

    What is the same for all fields stands there once: the collection's name (its scene), and how they were determined.
    """
    table = pq.read_table(path)
    name = Path(str(provenance.get("source") or "fields")).stem or "fields"
    collection = {
        "schemas": {name: list(SCHEMAS)},
        "collection": name,
        "determination:method": "auto-imagery",
        "determination:details": abstract(provenance),
        "schemas:custom": {"$schema": _SDL, "required": [], "properties": {"score": {"type": "float"}}},
    }
    fields = [field.with_nullable(field.name not in ("id", "geometry")) for field in table.schema]
    fields = [field.with_type(pa.string()) if field.name == "id" else field for field in fields]
    metadata = {**(table.schema.metadata or {}), b"collection": json.dumps(collection).encode()}
    pq.write_table(table.cast(pa.schema(fields, metadata)), path, compression="zstd")

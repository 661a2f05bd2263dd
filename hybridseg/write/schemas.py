"""Results with the columns of others, as GeoParquet in WGS84: Overture Maps for buildings, fiboa for fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hybridseg.errors import OutputError
from hybridseg.files import check_output, replacing
from hybridseg.write.formats import FORMATS, Layer, check_rows
from hybridseg.write.lineage import abstract, qgis_metadata, title
from hybridseg.write.result import ERRORS, for_qgis

FIBOA = (
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
        "schemas": {name: list(FIBOA)},
        "collection": name,
        "determination:method": "auto-imagery",
        "determination:details": abstract(provenance),
        "schemas:custom": {"$schema": _SDL, "required": [], "properties": {"score": {"type": "float"}}},
    }
    fields = [field.with_nullable(field.name not in ("id", "geometry")) for field in table.schema]
    fields = [field.with_type(pa.string()) if field.name == "id" else field for field in fields]
    metadata = {**(table.schema.metadata or {}), b"collection": json.dumps(collection).encode()}
    pq.write_table(table.cast(pa.schema(fields, metadata)), path, compression="zstd")


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


SUFFIX = ".parquet"


@dataclass(frozen=True)
class Schema:
    """Columns that others have agreed on.

    label: class of the features that they are for; several: their name in messages.
    columns: makes the table, from features and provenance.
    finish: what the written file needs beyond GeoParquet, from its path and the provenance.
    """

    label: str
    several: str
    columns: Callable[[gpd.GeoDataFrame, Mapping[str, Any]], gpd.GeoDataFrame]
    finish: Callable[[Path, Mapping[str, Any]], None] = lambda path, provenance: None


SCHEMAS = {
    "overture": Schema("building", "buildings", to_overture),
    "fiboa": Schema("field", "fields", to_fiboa, as_collection),
}
"""By the name that `--schema` has for it."""


def check_schema(schema: str, path: Path | str | None, classes: list[str]) -> None:
    """Check that a result can be written so: to be asked before hours of work.

    Raises:
        OutputError: it is no GeoParquet, or of other classes.
    """
    if path is None or Path(path).suffix.lower() != SUFFIX:
        raise OutputError(f"--schema {schema} is GeoParquet; give an out of .parquet")
    check_output(path, [SUFFIX])
    if classes != [SCHEMAS[schema].label]:
        raise OutputError(
            f"--schema {schema} is for {SCHEMAS[schema].several}, not for {', '.join(classes)}; leave it out"
        )


def write_schema(schema: str, features: gpd.GeoDataFrame, path: Path | str, provenance: Mapping[str, Any]) -> Path:
    """Write features with the columns of a schema; the file appears whole or not at all.

    Raises:
        OutputError: it cannot be written there.
    """
    path, format_, own = Path(path), FORMATS[SUFFIX], SCHEMAS[schema]
    name = title(provenance, [own.label], "polygons")
    layer = Layer(own.label, own.columns(features, provenance), "polygons", name)

    def verify(beside: Path) -> None:
        check_rows(layer, beside)

    metadata = qgis_metadata(provenance, name, layer.frame.crs.to_wkt(), list(layer.frame))
    with for_qgis(path, metadata), replacing(path, verify, ERRORS) as beside:
        format_.write([layer], beside, provenance)
        own.finish(beside, provenance)
    return path

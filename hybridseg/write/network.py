"""A network of lines and nodes to a file: two layers of a GeoPackage, or the lines alone where a file is one layer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyogrio

from hybridseg.atomic import check_output, replacing
from hybridseg.write.provenance import KEY

DRIVERS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".geojson": "GeoJSON", ".parquet": None}
"""By suffix; GeoParquet goes another way."""


def write_network(
    lines: gpd.GeoDataFrame, nodes: gpd.GeoDataFrame, path: Path | str, provenance: Mapping[str, Any]
) -> Path:
    """Write lines and, into a GeoPackage, the nodes that they run between; the file appears whole or not at all.

    Args:
        lines: LineStrings with their columns; GeoJSON is written in WGS84, the others in the lines' CRS.
        nodes: Points, in the same CRS; the layer `nodes` beside the layer `lines`.
        path: ends in one of `DRIVERS`.
        provenance: JSON values; metadata of each layer.

    Raises:
        OutputError: the file cannot be written there.
    """
    path = check_output(path, DRIVERS)
    driver = DRIVERS[path.suffix.lower()]
    with replacing(path) as beside:
        if driver is None:
            lines.to_parquet(beside, index=False, schema_version="1.1.0", write_covering_bbox=True)
        elif driver == "GPKG":
            for name, layer in (("lines", lines), ("nodes", nodes)):
                metadata = {KEY: json.dumps(provenance)}
                pyogrio.write_dataframe(layer, beside, layer=name, driver=driver, layer_metadata=metadata)
        else:
            own = lines.to_crs(4326) if driver == "GeoJSON" else lines
            pyogrio.write_dataframe(own, beside, driver=driver)
    return path

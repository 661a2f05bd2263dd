"""Fields as fiboa: columns, types and metadata of its specification 0.3.

fiboa-cli, its validator, needs an older pyarrow and its schemas from the network; it called such a file valid by hand
(docs/decisions.md). Here stand the rules that it checks.
"""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import geoparquet_validator
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from hybridseg.errors import OutputError
from hybridseg.write.result import read_provenance
from hybridseg.write.schemas import check_schema, write_schema

PROVENANCE = {"hybridseg": "0.1.0", "created": "2026-11-27T10:00:00+00:00", "source": "/data/farm 7.tif"}


def fields(count: int, area_m2: float | None = None) -> gpd.GeoDataFrame:
    outlines = [shapely.box(512_000 + 300 * k, 5_240_000, 512_290 + 300 * k, 5_240_200) for k in range(count)]
    columns = {"id": [f"f{k}" for k in range(count)], "class": ["field"] * count, "score": [0.9] * count}
    areas = shapely.area(outlines) if area_m2 is None else np.full(count, area_m2)
    return gpd.GeoDataFrame({**columns, "area_m2": areas}, geometry=outlines, crs="EPSG:32633")


@pytest.mark.parametrize("count", [0, 3])
def test_fields_are_fiboa(count: int, tmp_path: Path):
    path = write_schema("fiboa", fields(count), tmp_path / "a.parquet", PROVENANCE)
    schema = pq.read_schema(path)
    types = {name: schema.field(name).type for name in schema.names}
    assert types["id"] == pa.string()
    assert types["metrics:area"] == pa.float32()
    assert types["geometry"] == pa.binary()
    assert [name for name in schema.names if not schema.field(name).nullable] == ["id", "geometry"]
    collection = json.loads(schema.metadata[b"collection"])
    assert collection["collection"] == "farm 7"
    assert collection["schemas"] == {
        "farm 7": [
            "https://vecorel.org/specification/v0.1.0/schema.yaml",
            "https://fiboa.org/specification/v0.3.0/schema.yaml",
        ]
    }
    assert collection["determination:method"] == "auto-imagery"
    assert "hybridseg 0.1.0" in collection["determination:details"]
    read = gpd.read_parquet(path)
    assert read.crs == 4326
    assert sorted(read["id"]) == [f"f{k}" for k in range(count)]
    assert read["metrics:area"].tolist() == [58_000.0] * count
    assert read_provenance(path) == PROVENANCE
    if count:
        assert geoparquet_validator.failed(geoparquet_validator.check(str(path)), "core") == []


@pytest.mark.parametrize("area_m2", [0.0, 2e9])
def test_areas_that_fiboa_does_not_allow_are_empty(area_m2: float, tmp_path: Path):
    path = write_schema("fiboa", fields(1, area_m2), tmp_path / "a.parquet", {})
    assert pq.read_table(path)["metrics:area"].null_count == 1


def test_other_classes_and_formats_are_refused(tmp_path: Path):
    with pytest.raises(OutputError, match="--schema fiboa is GeoParquet"):
        check_schema("fiboa", tmp_path / "a.gpkg", ["field"])
    with pytest.raises(OutputError, match="is for fields, not for building"):
        check_schema("fiboa", tmp_path / "a.parquet", ["building"])
    check_schema("fiboa", tmp_path / "a.parquet", ["field"])

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import geoparquet_validator
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

from hybridseg.errors import OutputError
from hybridseg.write.schemas import check_schema, write_schema


@pytest.mark.parametrize("count", [0, 3])
def test_buildings_have_the_columns_of_overture(count: int, tmp_path: Path) -> None:
    houses = [shapely.box(512_000 + 30 * k, 5_240_000, 512_010 + 30 * k, 5_240_020) for k in range(count)]
    features = gpd.GeoDataFrame(
        {"id": [f"h{k}" for k in range(count)], "class": ["building"] * count, "score": np.linspace(0.5, 0.9, count)},
        geometry=houses, crs="EPSG:32633",
    )  # fmt: skip
    path = write_schema("overture", features, tmp_path / "a.parquet", {"created": "2026-11-26T10:00:00+00:00"})
    table = pq.read_table(path)
    assert {"id", "geometry", "bbox", "theme", "type", "version", "sources", "class", "subtype"} <= set(
        table.column_names
    )
    read = gpd.read_parquet(path)
    assert read.crs == 4326
    assert sorted(read["id"]) == [f"h{k}" for k in range(count)]
    for row in table.to_pylist():
        (source,) = row["sources"]
        assert source["dataset"] == "hybridseg"
        assert source["record_id"] == row["id"]
        assert 0.5 <= source["confidence"] <= 0.9
        assert (row["theme"], row["type"], row["version"], row["class"]) == ("buildings", "building", 1, None)
    if count:
        assert geoparquet_validator.failed(geoparquet_validator.check(str(path)), "core") == []


def test_what_overture_has_no_place_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is GeoParquet"):
        check_schema("overture", tmp_path / "a.gpkg", ["building"])
    with pytest.raises(OutputError, match="is for buildings, not for field, water"):
        check_schema("overture", tmp_path / "a.parquet", ["field", "water"])
    check_schema("overture", tmp_path / "a.parquet", ["building"])

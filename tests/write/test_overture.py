from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import geoparquet_validator
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from overture.schema.buildings import Building
from pydantic import ValidationError

from hybridseg.errors import OutputError
from hybridseg.write.schemas import check_schema, write_schema


def houses(count: int) -> gpd.GeoDataFrame:
    """Buildings of 10 by 20 m."""
    outlines = [shapely.box(512_000 + 30 * k, 5_240_000, 512_010 + 30 * k, 5_240_020) for k in range(count)]
    columns = {"id": [f"h{k}" for k in range(count)], "class": ["building"] * count}
    return gpd.GeoDataFrame({**columns, "score": np.linspace(0.5, 0.9, count)}, geometry=outlines, crs="EPSG:32633")


def as_feature(row: dict) -> str:
    """A row as the GeoJSON that Overture's models read."""
    geometry = json.loads(shapely.to_geojson(shapely.from_wkb(row.pop("geometry"))))
    bbox = list(row.pop("bbox").values())
    return json.dumps({"type": "Feature", "id": row.pop("id"), "geometry": geometry, "bbox": bbox, "properties": row})


@pytest.mark.parametrize("count", [0, 3])
def test_buildings_have_the_columns_of_overture(count: int, tmp_path: Path) -> None:
    features = houses(count)
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


def test_overture_s_own_models_take_every_row(tmp_path: Path) -> None:
    several = houses(3)
    yard = shapely.MultiPolygon([several.geometry[2], shapely.box(512_200, 5_240_000, 512_230, 5_240_030)])
    several = several.set_geometry([several.geometry[0], several.geometry[1], yard], crs=several.crs)
    made = {"created": "2026-11-26T10:00:00+00:00"}
    rows = pq.read_table(write_schema("overture", several, tmp_path / "a.parquet", made)).to_pylist()
    for row in rows:
        found = Building.model_validate_json(as_feature(dict(row)))
        assert found.id == row["id"]
    (bare,) = pq.read_table(write_schema("overture", houses(1), tmp_path / "b.parquet", {})).to_pylist()
    Building.model_validate_json(as_feature(dict(bare)))
    for wrong in ({"version": -1}, {"theme": "places"}, {"sources": []}, {"class": "a house"}, {"height": -2.0}):
        with pytest.raises(ValidationError):
            Building.model_validate_json(as_feature({**bare, **wrong}))


def test_what_overture_has_no_place_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is GeoParquet"):
        check_schema("overture", tmp_path / "a.gpkg", ["building"])
    with pytest.raises(OutputError, match="is for buildings, not for field, water"):
        check_schema("overture", tmp_path / "a.parquet", ["field", "water"])
    check_schema("overture", tmp_path / "a.parquet", ["building"])

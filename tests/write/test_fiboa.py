"""Fields as fiboa: columns, types and metadata of its specification 0.3.

fiboa-cli, its validator, needs an older pyarrow than ours and gets its schemas from the network. So it is asked where
HYBRIDSEG_FIBOA names a folder with an environment `env` that has it (`uv venv env`, `uv pip install --python env
fiboa-cli`) and with the schemas that `schemas.FIBOA` names, as `vecorel.yaml` and `fiboa.yaml`. Elsewhere the rules
stand here that it checks.
"""

from __future__ import annotations

import json
import os
import subprocess
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
from hybridseg.write.schemas import FIBOA, check_schema, write_schema

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


_VALIDATE = """
import json, sys
from fiboa_cli.validate import ValidateData
from vecorel_cli.encoding.geoparquet import GeoParquet

# the schema of GeoParquet itself, which it would fetch; geoparquet-validator has checked that
GeoParquet.get_geoparquet_schema = lambda self: {"$schema": "http://json-schema.org/draft-07/schema#"}
found = ValidateData().validate(sys.argv[1], schema_map=json.loads(sys.argv[2]))
print(json.dumps([str(one) for one in (*found.errors, *found.warnings)]), file=sys.stderr)
"""


def said_by_fiboa(path: Path) -> list[str]:
    """Errors and warnings of fiboa's own validator."""
    if not (given := os.environ.get("HYBRIDSEG_FIBOA")):
        pytest.skip("HYBRIDSEG_FIBOA names no folder with fiboa-cli and its schemas")
    schemas = {url: str(Path(given) / name) for url, name in zip(FIBOA, ("vecorel.yaml", "fiboa.yaml"), strict=True)}
    command = [Path(given) / "env/bin/python", "-c", _VALIDATE, path, json.dumps(schemas)]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=ours)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stderr.splitlines()[-1])


def test_fiboa_s_own_validator_finds_nothing(tmp_path: Path):
    path = write_schema("fiboa", fields(3), tmp_path / "a.parquet", PROVENANCE)
    assert said_by_fiboa(path) == []
    assert said_by_fiboa(write_schema("fiboa", fields(0), tmp_path / "none.parquet", PROVENANCE)) == []
    table = pq.read_table(path)
    number = table.schema.get_field_index("metrics:area")
    wrong = table.set_column(number, table.schema.field(number), pa.array([-1.0, 1.0, 1.0], pa.float32()))
    pq.write_table(wrong, tmp_path / "wrong.parquet")
    assert "metrics:area: Value -1.0" in said_by_fiboa(tmp_path / "wrong.parquet")[0]


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

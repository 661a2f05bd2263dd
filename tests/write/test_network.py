from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pyogrio
import pytest
import shapely

from hybridseg.errors import OutputError
from hybridseg.write.network import write_network

LINES = gpd.GeoDataFrame(
    {"id": ["a"], "width_m": [6.5]}, geometry=[shapely.LineString([(0, 0), (50, 10)])], crs="EPSG:32645"
)
NODES = gpd.GeoDataFrame({"id": ["n", "m"], "degree": [1, 1]}, geometry=shapely.points([(0, 0), (50, 10)]), crs=32645)


def test_a_geopackage_holds_lines_and_nodes(tmp_path: Path):
    path = write_network(LINES, NODES, tmp_path / "roads.gpkg", {"theme": "roads"})
    assert [name for name, _ in pyogrio.list_layers(path)] == ["lines", "nodes"]
    assert gpd.read_file(path, layer="nodes")["degree"].tolist() == [1, 1]
    assert "roads" in str(pyogrio.read_info(path, layer="lines")["layer_metadata"])


@pytest.mark.parametrize("suffix", [".fgb", ".geojson", ".parquet"])
def test_other_formats_hold_the_lines(tmp_path: Path, suffix: str):
    path = write_network(LINES, NODES, tmp_path / f"roads{suffix}", {})
    read = gpd.read_parquet(path) if suffix == ".parquet" else gpd.read_file(path)
    assert read["width_m"].tolist() == [6.5]
    assert read.to_crs(LINES.crs).length.iloc[0] == pytest.approx(LINES.length.iloc[0], rel=1e-3)


def test_a_raster_of_lines_is_refused(tmp_path: Path):
    with pytest.raises(OutputError):
        write_network(LINES, NODES, tmp_path / "roads.tif", {})
    assert not list(tmp_path.iterdir())

"""Scenes over the antimeridian, in degrees and in metres, and what can be written of them."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import Transformer

from hybridseg.errors import OutputError
from hybridseg.run.request import in_crs
from hybridseg.theme import load_theme
from hybridseg.write.result import read_result, write_result
from tests.conftest import blocks_image
from tests.doubles import survey
from tests.rasters import write

DEGREE = 0.3 / 111_320
LAT = -16.8


def scene(path: Path, kind: str) -> Path:
    """Five blocks, two of them over the antimeridian."""
    if kind == "UTM":
        x, y = Transformer.from_crs(4326, 32760, always_xy=True).transform(180, LAT)
        return write(path, blocks_image(), Affine(0.3, 0, x - 0.3 * 128, 0, -0.3, y), "EPSG:32760", photometric="rgb")
    lon = {"east": 180.0, "west": -180.0}[kind] - 128 * DEGREE
    return write(path, blocks_image(), Affine(DEGREE, 0, lon, 0, -DEGREE, LAT), "EPSG:4326", photometric="rgb")


@pytest.mark.parametrize("kind", ["east", "west", "UTM"])
def test_objects_across_the_antimeridian_are_whole_and_geojson_cuts_them(kind: str, tmp_path: Path):
    features = survey(scene(tmp_path / "a.tif", kind)).run().features
    assert len(features) == 5
    assert (features.area_m2 < 1000).all()
    write_result(features, tmp_path / "a.geojson", {})
    cut = read_result(tmp_path / "a.geojson")
    assert len(cut) == 5
    assert cut.is_valid.all()
    parts = cut.explode()
    assert (cut.geom_type == "MultiPolygon").sum() >= 1
    assert parts.bounds.minx.min() >= -180
    assert parts.bounds.maxx.max() <= 180
    assert (parts.bounds.maxx - parts.bounds.minx < 0.01).all()
    ground = cut.to_crs("EPSG:32760")
    assert np.isclose(ground.area.sum(), features.to_crs("EPSG:32760").area.sum(), rtol=0.01)
    for name in ("a.gpkg", "a.parquet", "a.fgb"):
        write_result(features, tmp_path / name, {})
        read = read_result(tmp_path / name)
        assert read.total_bounds == pytest.approx(features.total_bounds, abs=1e-9)


def test_a_crs_that_is_cut_there_is_refused(tmp_path: Path):
    features: gpd.GeoDataFrame = survey(scene(tmp_path / "a.tif", "east")).run().features
    with pytest.raises(OutputError, match=r"EPSG:3857, which is cut at the antimeridian"):
        in_crs(features, "EPSG:3857")
    assert in_crs(features, "EPSG:32760").area.max() < 1000
    away = features[features.bounds.maxx < 180]
    assert in_crs(away, "EPSG:3857").area.max() < 1000


@pytest.mark.parametrize("lon", [180.0, -180.0])
@pytest.mark.parametrize("theme", ["buildings", "fields", "water"])
def test_outlines_shaped_by_every_theme_stay_where_they_were(lon: float, theme: str):
    """As traced over the antimeridian, where a CRS in metres gives longitudes of the other side."""
    stage = load_theme(theme).shape
    steps = np.array([0, 40, 41, 80, 80, 40, 39, 0]) * DEGREE, np.array([0, 0, 1, 1, 60, 60, 59, 59]) * DEGREE
    outlines = [
        shapely.Polygon(np.column_stack([lon + at * DEGREE + steps[0], LAT + steps[1]])) for at in (-200, -40, 90)
    ]
    rows = gpd.GeoDataFrame(
        {"id": ["a", "b", "c"], "class": "x", "origin": "refined", "score": 0.9}, geometry=outlines, crs="EPSG:4326"
    )
    shaped = stage.shape(rows, 0.3)
    assert len(shaped) == 3
    away = shapely.distance(shapely.centroid(shaped.geometry.to_numpy()), shapely.centroid(np.array(outlines)))
    assert (away < 3 * DEGREE).all()
    assert (shapely.area(shapely.intersection(shaped.geometry.to_numpy(), np.array(outlines))) > 0).all()

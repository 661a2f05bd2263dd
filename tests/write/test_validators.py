"""Results before the validators of their formats, which others wrote."""

from __future__ import annotations

import warnings
from pathlib import Path

import geopandas as gpd
import geoparquet_validator
import numpy as np
import pytest
import shapely
from affine import Affine
from geojson_pydantic import FeatureCollection
from odc.geo.geobox import GeoBox
from rio_cogeo.cogeo import cog_validate

from hybridseg.cog import SUFFIXES
from hybridseg.heatmap import create_heatmap
from hybridseg.write.raster import write_classes
from hybridseg.write.result import write_result

GRID = GeoBox((1500, 1700), Affine(0.3, 0, 512_000, 0, -0.3, 5_240_000), "EPSG:32633")


@pytest.fixture
def features() -> gpd.GeoDataFrame:
    """Houses, one with a courtyard, one of two parts; outer rings clockwise, as GDAL's are not to stay."""
    x, y = 512_050.0, 5_239_900.0
    houses = [shapely.box(x + 30 * k, y, x + 30 * k + 12, y + 20, ccw=False) for k in range(4)]
    houses.append(shapely.box(x, y - 60, x + 40, y - 30) - shapely.box(x + 10, y - 50, x + 20, y - 40))
    houses.append(
        shapely.MultiPolygon([shapely.box(x, y - 90, x + 5, y - 80), shapely.box(x + 9, y - 90, x + 15, y - 80)])
    )
    count = len(houses)
    columns = {name: np.linspace(0.1, 0.9, count) for name in ("score", "iou_pred", "stability", "agreement")}
    return gpd.GeoDataFrame(
        {"id": [f"h{k}" for k in range(count)], "class": "building", "origin": "coarse", "area_m2": 240.0, **columns},
        geometry=houses, crs="EPSG:32633",
    )  # fmt: skip


def test_geoparquet(features: gpd.GeoDataFrame, tmp_path: Path) -> None:
    path = write_result(features, tmp_path / "a.parquet", {"source": "town.tif"})
    report = geoparquet_validator.check(str(path))
    assert geoparquet_validator.failed(report, "core") == []
    assert geoparquet_validator.failed(report, "covering") == []


def test_geojson(features: gpd.GeoDataFrame, tmp_path: Path) -> None:
    path = write_result(features, tmp_path / "a.geojson", {"source": "town.tif"})
    found = FeatureCollection.model_validate_json(path.read_text(encoding="utf-8"))
    assert len(found.features) == len(features)
    for feature in found.features:
        polygon = shapely.geometry.shape(feature.geometry)
        for part in shapely.get_parts(polygon):
            assert part.exterior.is_ccw  # RFC 7946, 3.1.6
            assert not any(ring.is_ccw for ring in part.interiors)
    assert "crs" not in found.model_dump()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rasters_are_cogs(suffix: str, features: gpd.GeoDataFrame, tmp_path: Path) -> None:
    classes = write_classes(features, tmp_path / f"classes{suffix}", GRID, ["building"], {})
    with create_heatmap(tmp_path / f"heat{suffix}", GRID, ["building"]):
        pass
    for path in (classes, tmp_path / f"heat{suffix}"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            valid, errors, notes = cog_validate(path, strict=True, quiet=True)
        assert valid, (errors, notes)

"""Labels drawn on the scene of `tests.conftest.source`, 128 x 96 pixels of 1 m."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import shapely

from tests.rasters import EAST, NORTH

CRS = "EPSG:32633"
BOW = shapely.Polygon([(EAST + x, NORTH - y) for x, y in [(10, 10), (40, 40), (40, 10), (10, 40)]])
"""A polygon that crosses itself."""


def box(col: float, row: float, width: float, height: float) -> shapely.Polygon:
    """In pixels from the scene's corner."""
    return shapely.box(EAST + col, NORTH - row - height, EAST + col + width, NORTH - row)


def layer(path: Path, geometry: list, **columns: list) -> str:
    gpd.GeoDataFrame(columns, geometry=geometry, crs=CRS).to_file(path, driver="GPKG")
    return str(path)

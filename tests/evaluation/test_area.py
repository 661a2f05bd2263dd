from __future__ import annotations

import geopandas as gpd
import pytest
import shapely
from pyproj import CRS, Geod

from hybridseg.errors import NoGeoreference
from hybridseg.evaluation.area import degrees, metric_crs, title


@pytest.mark.parametrize(
    ("crs", "extent", "same"),
    [
        ("EPSG:32645", (500_000, 3e6, 501_000, 3.001e6), True),
        ("EPSG:27700", (400_000, 300_000, 410_000, 310_000), True),
        ("EPSG:3035", (4_321_000, 3_210_000, 4_322_000, 3_211_000), True),
        ("EPSG:3035", (2_700_000, 1_900_000, 2_701_000, 1_901_000), False),  # far from its centre
        ("EPSG:3857", (1e6, 6e6, 1.001e6, 6.001e6), False),
        ("EPSG:3857", (1e6, 0, 1.001e6, 1_000), False),  # at the equator, where PROJ's scale factors are 1
        ("EPSG:2163", (0, 0, 1_000, 1_000), False),  # of a sphere
        ("EPSG:2263", (990_000, 190_000, 991_000, 191_000), False),  # feet
        ("EPSG:4326", (15, 47, 15.1, 47.1), False),
        ("EPSG:32633", (-2_000_000, 1e6, -1_999_000, 1.001e6), False),  # far outside its zone
    ],
)
def test_metres_are_true_and_areas_too(crs: str, extent: tuple[float, float, float, float], same: bool) -> None:
    own = CRS.from_user_input(crs)
    chosen, why = metric_crs(extent, own)
    assert (chosen == own) == same
    assert title(own) in why
    assert ("own CRS" in why) == same
    box = gpd.GeoSeries([shapely.box(*extent)], crs=crs)
    moved = box.segmentize((extent[2] - extent[0]) / 50).to_crs(chosen)
    area, length = Geod(ellps="WGS84").geometry_area_perimeter(moved.to_crs("EPSG:4326").iloc[0])
    assert moved.area.iloc[0] == pytest.approx(abs(area), rel=2e-3)
    assert moved.length.iloc[0] == pytest.approx(length, rel=1e-3)


def test_places_that_are_not_on_earth() -> None:
    with pytest.raises(NoGeoreference, match=r"a.gpkg spans 500000, 3000000, .* where EPSG:4326 is not defined"):
        degrees((500_000, 3e6, 501_000, 3.001e6), CRS.from_epsg(4326), "a.gpkg")

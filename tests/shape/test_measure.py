import geopandas as gpd
import numpy as np
import pytest
import shapely
from pyproj import Geod

from hybridseg.errors import NoGeoreference
from hybridseg.shape.measure import area_m2, by_metric_crs, local_metric_crs

WGS84 = Geod(ellps="WGS84")


def town(lon: float, lat: float, crs: int) -> gpd.GeoSeries:
    """Hexagons with holes, 60 m wide, around a place."""
    metres = local_metric_crs((lon, lat, lon, lat), gpd.GeoSeries(crs=4326).crs)
    here = gpd.GeoSeries([shapely.Point(lon, lat)], crs=4326).to_crs(metres).iloc[0]
    houses = [
        shapely.affinity.translate(here.buffer(30, quad_segs=2) - here.buffer(10, quad_segs=2), 200 * i, 70 * i)
        for i in range(4)
    ]
    return gpd.GeoSeries(houses, crs=metres).to_crs(crs)


def geodesic_area(series: gpd.GeoSeries) -> list[float]:
    def ring(line: shapely.LinearRing) -> float:
        return abs(WGS84.geometry_area_perimeter(line)[0])

    return [ring(p.exterior) - sum(map(ring, p.interiors)) for p in series.to_crs(4326)]


@pytest.mark.parametrize(
    ("lon", "lat", "crs"),
    [
        (32.6, 0.35, 3857),
        (85.5, 27.6, 3857),
        (9.2, 56.3, 32632),
        (-91.4, 42.46, 4326),
        (179.9999, -17.0, 32760),
        (15.0, 84.0, 3995),
    ],
)
def test_area_is_the_geodesic_one(lon: float, lat: float, crs: int) -> None:
    series = town(lon, lat, crs)
    np.testing.assert_allclose(area_m2(series), geodesic_area(series), rtol=1e-6)


def test_area_in_web_mercator_is_not_the_map_area() -> None:
    series = town(9.2, 60.0, 3857)
    assert series.area.iloc[0] / area_m2(series)[0] == pytest.approx(4, rel=0.02)  # 1 / cos(60 degrees) squared


def test_empty_and_missing_measure_nothing() -> None:
    series = gpd.GeoSeries([shapely.Polygon(), None, shapely.box(0, 0, 1e-3, 1e-3)], crs=4326)
    assert area_m2(series)[:2].tolist() == [0, 0]
    assert area_m2(series)[2] > 12_000
    assert area_m2(gpd.GeoSeries([], crs=4326)).shape == (0,)


def test_no_crs_is_refused() -> None:
    with pytest.raises(NoGeoreference, match="no CRS"):
        area_m2(gpd.GeoSeries([shapely.box(0, 0, 1, 1)]))


def test_coordinates_outside_of_the_crs_are_refused() -> None:
    with pytest.raises(NoGeoreference, match="not defined"):
        area_m2(gpd.GeoSeries([shapely.box(0, 3e30, 1e30, 4e30)], crs=32632))


def test_local_crs_does_not_turn_with_the_extent() -> None:
    crs = gpd.GeoSeries(crs=4326).crs
    assert local_metric_crs((9.1, 56.2, 9.3, 56.4), crs) == local_metric_crs((9.25, 56.0, 9.3, 56.1), crs)
    assert local_metric_crs((-180.0, 0.0, -179.9, 0.1), crs) == local_metric_crs((179.9, 0.0, 180.0, 0.1), crs)


def test_every_row_has_one_metric_crs_of_its_own_place() -> None:
    west, east = town(9.4, 56.0, 4326), town(9.6, 56.0, 4326)
    both = gpd.GeoSeries([*west, shapely.Polygon(), *east], crs=4326)
    frames = dict(by_metric_crs(both))
    assert sorted(np.concatenate(list(frames.values())).tolist()) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert set(dict(by_metric_crs(west))) | set(dict(by_metric_crs(east))) == set(frames)
    assert len(frames) == 2

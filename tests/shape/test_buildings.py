import warnings

import geopandas as gpd
import numpy as np
import pytest
import shapely
from rasterio.features import rasterize, shapes
from rasterio.transform import Affine
from shapely.affinity import rotate, translate

from hybridseg.shape import Buildings
from hybridseg.shape.measure import area_m2
from tests.outlines import iou

UTM = 32636
PIXEL_M = 0.3


def traced(house: shapely.Polygon, pixel_m: float = PIXEL_M) -> shapely.Polygon:
    """The outline of the house's pixels, on a grid anchored at multiples of the pixel."""
    left, bottom, right, top = (np.array(house.bounds) / pixel_m).round() * pixel_m + np.array([-1, -1, 1, 1])
    grid = Affine(pixel_m, 0, left, 0, -pixel_m, top)
    mask = rasterize(
        [house], (int((top - bottom) / pixel_m), int((right - left) / pixel_m)), transform=grid, dtype="uint8"
    )
    return max((shapely.geometry.shape(s) for s, _ in shapes(mask, mask > 0, 4, grid)), key=lambda p: p.area)


def layer(polygons: list[shapely.Geometry], crs: int = UTM) -> gpd.GeoDataFrame:
    ids = [f"b{i}" for i in range(len(polygons))]
    return gpd.GeoDataFrame({"id": ids, "score": 0.5}, geometry=polygons, crs=crs)


def corners_deg(polygon: shapely.Polygon) -> np.ndarray:
    """Angle between following walls, degrees modulo 90, in -45..45."""
    steps = np.diff(np.asarray(polygon.exterior.coords), axis=0)
    heading = np.degrees(np.arctan2(steps[:, 1], steps[:, 0]))
    return (np.diff(np.r_[heading, heading[0]]) + 45) % 90 - 45


L_SHAPE = shapely.Polygon([(0, 0), (16, 0), (16, 8), (9, 8), (9, 14), (0, 14)])
PLACE = (448_000.0, 39_000.0)


def l_houses(n: int) -> list[shapely.Polygon]:
    return [translate(rotate(L_SHAPE, 11.3 * i), PLACE[0] + 40 * i, PLACE[1] + 7 * i) for i in range(n)]


def test_walls_become_straight_and_square() -> None:
    houses = l_houses(8)
    shaped = Buildings().shape(layer([traced(h) for h in houses]), PIXEL_M)
    for polygon, house in zip(shaped.geometry, houses, strict=True):
        assert np.abs(corners_deg(polygon)).max() < 0.3
        assert iou(polygon, house) > 0.93
        assert len(polygon.exterior.coords) <= 9


def test_a_subset_is_shaped_like_the_whole() -> None:
    features = layer([traced(h) for h in l_houses(12)]).to_crs(3857)
    shape = Buildings().shape
    whole, part = shape(features, PIXEL_M), shape(features.iloc[[7, 2, 9]], PIXEL_M)
    assert part.index.tolist() == [7, 2, 9]
    assert shapely.equals_exact(part.geometry.to_numpy(), whole.geometry.loc[[7, 2, 9]].to_numpy()).all()


def test_a_far_away_feature_changes_nothing() -> None:
    features = layer([traced(h) for h in l_houses(3)]).to_crs(4326)
    far = gpd.GeoDataFrame({"id": ["far"], "score": 0.5}, geometry=[shapely.box(40, 10, 40.0001, 10.0001)], crs=4326)
    together = Buildings().shape(gpd.pd.concat([features, far], ignore_index=True), PIXEL_M)
    alone = Buildings().shape(features, PIXEL_M)
    assert shapely.equals_exact(together.geometry.to_numpy()[:3], alone.geometry.to_numpy()).all()


@pytest.mark.parametrize("crs", [4326, 3857, 32636])
def test_metres_hold_in_every_crs(crs: int) -> None:
    features = layer([traced(h) for h in l_houses(4)])
    here = Buildings().shape(features, PIXEL_M)
    there = Buildings().shape(features.to_crs(crs), PIXEL_M)
    assert there.crs == features.to_crs(crs).crs
    for one, two in zip(here.geometry, there.to_crs(UTM).geometry, strict=True):
        assert iou(one, two) > 0.9999


def test_what_has_no_right_angles_keeps_its_outline() -> None:
    star = shapely.Polygon(
        [(r * np.cos(t), r * np.sin(t)) for t, r in zip(np.arange(14) * np.pi / 7, [12, 5] * 7, strict=True)]
    )
    raw = traced(translate(star, *PLACE))
    (shaped,) = Buildings().shape(layer([raw]), PIXEL_M).geometry
    assert iou(shaped, raw) > 0.9
    assert shapely.hausdorff_distance(shaped, raw) < 1.5 * PIXEL_M


def test_pixel_steps_go_where_right_angles_do_not_fit() -> None:
    raw = traced(translate(rotate(shapely.box(0, 0, 14, 10), 20), *PLACE))
    (shaped,) = Buildings(min_iou=1).shape(layer([raw]), PIXEL_M).geometry
    assert len(shaped.exterior.coords) < 0.25 * len(raw.exterior.coords)
    assert shapely.hausdorff_distance(shaped, raw) < 1.3 * PIXEL_M
    (untouched,) = Buildings(min_iou=1).shape(layer([raw])).geometry
    assert untouched.equals_exact(raw, 0)


def test_a_speck_keeps_its_pixels() -> None:
    raw = translate(shapely.box(0, 0, 0.3, 0.3), *PLACE)
    (shaped,) = Buildings().shape(layer([raw]), PIXEL_M).geometry
    assert iou(shaped, raw) > 0.999


def test_row_houses_do_not_grow_into_each_other() -> None:
    row = [
        translate(rotate(shapely.box(6 * i, 0.7 * (i % 2), 6 * i + 6, 11), 24, origin=(0, 0)), *PLACE) for i in range(7)
    ]
    lattice = [traced(h) for h in row]
    for i in range(1, len(lattice)):
        lattice[i] = lattice[i].difference(lattice[i - 1])
    shaped = Buildings().shape(layer(lattice), PIXEL_M).geometry.to_numpy()
    for i in range(6):
        assert shaped[i].intersection(shaped[i + 1]).area < 1e-5
    assert shapely.get_num_coordinates(shaped).mean() < 15  # none is left with the steps of its pixels
    assert any(not s.equals_exact(t, 0) for s, t in zip(shaped, lattice, strict=True))


def test_where_right_angles_would_overlap_a_neighbour_the_outline_stays() -> None:
    # A house with a bitten corner that would be squared, and a shed in the bite.
    house = shapely.Polygon(
        [(0, 0), (20, 0), (20, 11.4), (19.5, 12), (18.9, 12.3), (18.5, 13), (17.6, 13.4), (17, 14), (0, 14)]
    )
    shed = shapely.Polygon([(20, 11.6), (20, 14), (17.2, 14), (17.8, 13.5), (18.7, 13.1), (19.1, 12.4), (19.7, 12.1)])
    house, shed = translate(house, *PLACE), translate(shed, *PLACE)
    settings = {"wall_m3": 2.0, "max_overlap": 0.01}
    alone = Buildings(**settings).shape(layer([house])).geometry.iloc[0]
    assert alone.intersection(shed).area > 0.1 * shed.area
    beside = Buildings(**settings).shape(layer([house, shed])).geometry
    assert beside.iloc[0].intersection(beside.iloc[1]).area <= 0.01 * shed.area + 1e-6


def test_small_holes_are_filled_and_courtyards_kept() -> None:
    court = shapely.box(0, 0, 24, 20) - shapely.box(4, 4, 5.5, 5.5) - shapely.box(10, 6, 18, 14)
    raw = translate(court, *PLACE)
    for min_iou in (0.9, 1):
        (shaped,) = Buildings(min_iou=min_iou).shape(layer([raw])).geometry
        assert len(shaped.interiors) == 1
        assert iou(shaped, translate(shapely.box(0, 0, 24, 20) - shapely.box(10, 6, 18, 14), *PLACE)) > 0.999


def test_round_huts_become_round() -> None:
    (shaped,) = Buildings().shape(layer([traced(shapely.Point(PLACE).buffer(4))]), PIXEL_M).geometry
    assert 4 * np.pi * shaped.area / shaped.length**2 > 0.99
    (square,) = Buildings().shape(layer([traced(translate(shapely.box(0, 0, 8, 8), *PLACE))]), PIXEL_M).geometry
    assert len(square.exterior.coords) == 5


def test_turning_the_house_turns_the_result() -> None:
    house = traced(translate(L_SHAPE, *PLACE))
    results = [
        rotate(Buildings().shape(layer([rotate(house, a, origin=PLACE)])).geometry.iloc[0], -a, origin=PLACE)
        for a in (0, 17.0, 45.0, 90.0)
    ]
    assert all(iou(results[0], other) > 0.999 for other in results[1:])


def test_odd_input_passes() -> None:
    shape = Buildings().shape
    parts = shapely.MultiPolygon(
        [translate(shapely.box(0, 0, 9, 9), *PLACE), translate(shapely.box(20, 0, 29, 9), *PLACE)]
    )
    bow = translate(shapely.Polygon([(0, 0), (40, 40), (40, 0), (0, 40)]), PLACE[0] + 100, PLACE[1])
    features = layer([parts, shapely.Polygon(), None, bow]).rename_geometry("outline")
    shaped = shape(features, PIXEL_M)
    assert shaped.geometry.name == "outline"
    assert list(shaped.columns) == list(features.columns)
    assert len(shaped) == 4
    assert shaped.geometry.iloc[0].geom_type == "MultiPolygon"
    assert shaped.geometry.iloc[1].is_empty
    assert shaped.geometry.iloc[2] is None
    assert area_m2(shaped.geometry.iloc[[3]])[0] == pytest.approx(800, rel=0.05)
    assert len(shape(features.iloc[:0], PIXEL_M)) == 0


def test_it_is_silent_deterministic_and_leaves_its_input_alone(capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(5)
    blobs = [
        translate(shapely.convex_hull(shapely.MultiPoint(rng.uniform(0, 6, (6, 2)))), PLACE[0] + 20 * i, PLACE[1])
        for i in range(30)
    ]
    features = layer(blobs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, two = (Buildings().shape(features, PIXEL_M) for _ in range(2))
    assert one.equals(two)
    assert shapely.equals_exact(features.geometry.to_numpy(), np.array(blobs, dtype=object)).all()
    assert one.is_valid.all()
    assert capfd.readouterr() == ("", "")


def test_a_border_in_doubt_has_fewer_corners() -> None:
    bay = translate(shapely.union_all([shapely.box(0, 0, 14, 10), shapely.box(4, 10, 7, 10.8)]), *PLACE)

    def corners(stability: float, **settings: float) -> int:
        house = layer([traced(bay)]).assign(stability=stability)
        return len(Buildings(**settings).shape(house, PIXEL_M).geometry[0].exterior.coords) - 1

    assert corners(0.95) == corners(np.nan) == 8
    assert corners(0.7) == 4
    assert corners(0.7, wall_px3=0) == 8

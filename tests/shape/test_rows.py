import warnings

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize, shapes
from rasterio.transform import Affine
from shapely.affinity import rotate, translate

from hybridseg.errors import NoGeoreference
from hybridseg.shape import Rows
from tests.outlines import iou

UTM = 32611
PIXEL_M = 0.3
PLACE = (448_000.2, 4_030_000.2)


def traced(panel: shapely.Geometry, pixel_m: float = PIXEL_M) -> shapely.Polygon:
    """The outline of the panel's pixels, on a grid anchored at multiples of the pixel."""
    left, bottom, right, top = (np.array(panel.bounds) / pixel_m).round() * pixel_m + np.array([-1, -1, 1, 1])
    grid = Affine(pixel_m, 0, left, 0, -pixel_m, top)
    size = (int((top - bottom) / pixel_m), int((right - left) / pixel_m))
    mask = rasterize([panel], size, transform=grid, dtype="uint8")
    return max((shapely.geometry.shape(s) for s, _ in shapes(mask, mask > 0, 4, grid)), key=lambda p: p.area)


def layer(polygons: list[shapely.Geometry], crs: int = UTM) -> gpd.GeoDataFrame:
    ids = [f"p{i}" for i in range(len(polygons))]
    return gpd.GeoDataFrame({"id": ids, "score": 0.5}, geometry=polygons, crs=crs)


def panel(x: float, y: float, long: float, wide: float, degrees: float) -> shapely.Polygon:
    """A rectangle so far from the place."""
    return translate(rotate(shapely.box(-long / 2, -wide / 2, long / 2, wide / 2), degrees), PLACE[0] + x, PLACE[1] + y)


def row(turns: list[float], step_m: float = 8.0) -> list[shapely.Polygon]:
    """Panels 4 m apart along a street, each turned a little further than 20 degrees."""
    return [panel(step_m * i, 0, 4 + i % 3, 9, 20 + turn) for i, turn in enumerate(turns)]


def degrees(polygon: shapely.Polygon) -> float:
    """Direction of the first side modulo 90."""
    (x0, y0), (x1, y1) = polygon.exterior.coords[:2]
    return float(np.degrees(np.arctan2(y1 - y0, x1 - x0)) % 90)


def is_rectangle(polygon: shapely.Polygon) -> bool:
    # a right angle of the metric frame is one of UTM to 2e-4
    return len(polygon.exterior.coords) == 5 and iou(polygon, shapely.oriented_envelope(polygon)) > 0.9997


L_SHAPE = shapely.Polygon([(0, 0), (16, 0), (16, 5), (6, 5), (6, 14), (0, 14)])


@given(st.floats(6, 30), st.floats(6, 30), st.floats(0, 180))
@settings(max_examples=15, deadline=None)
def test_a_traced_rectangle_becomes_one_again(long: float, wide: float, turn: float) -> None:
    true = panel(0, 0, long, wide, turn)
    raw = traced(true)
    (shaped,) = Rows().shape(layer([raw]), PIXEL_M).geometry
    assert is_rectangle(shaped)
    assert shaped.area == pytest.approx(raw.area, rel=1e-6)
    assert shaped.centroid.distance(raw.centroid) < 1e-3
    assert iou(shaped, true) > 0.92


def test_rows_share_one_direction() -> None:
    true = row([0, 0, 0, 0, 0], step_m=6)
    raw = [traced(p) for p in true]
    shaped = Rows(near_m=30).shape(layer(raw), PIXEL_M).geometry
    assert np.ptp([degrees(p) for p in shaped]) < 1e-3
    assert degrees(shaped.iloc[0]) == pytest.approx(20, abs=0.7)
    assert np.mean([iou(p, t) for p, t in zip(shaped, true, strict=True)]) > np.mean(
        [iou(p, t) for p, t in zip(raw, true, strict=True)]
    )


def test_across_is_the_same_direction() -> None:
    one, two = Rows().shape(layer([panel(0, 0, 12, 5, 20), panel(14, 0, 8, 4, 113)])).geometry
    assert degrees(one) == pytest.approx(degrees(two), abs=1e-3)
    assert 20 < degrees(one) < 23


@pytest.mark.parametrize(("apart_m", "turn", "shared"), [(5, 8, True), (25, 8, False), (5, 20, False)])
def test_only_near_and_alike_share(apart_m: float, turn: float, shared: bool) -> None:
    panels = [panel(0, 0, 6, 6, 20), panel(7.4 + apart_m, 0, 6, 6, 20 + turn)]
    one, two = Rows().shape(layer(panels)).geometry
    assert (abs(degrees(one) - degrees(two)) < 1e-3) == shared
    if not shared:
        assert [iou(one, panels[0]) > 0.999, iou(two, panels[1]) > 0.999] == [True, True]


def test_one_that_stands_askew_does_not_turn_the_row() -> None:
    askew = Rows().shape(layer(row([0.3, -0.3, 12, 0, 0.2, -0.2], step_m=7.5))).geometry
    assert degrees(askew.iloc[0]) == pytest.approx(20, abs=0.6)  # the mean of all is 22


def test_the_large_count_more() -> None:
    large, small = panel(0, 0, 12, 10, 20), panel(13, 0, 4, 4, 23)
    one, two = Rows().shape(layer([large, small])).geometry
    assert degrees(one) == pytest.approx(degrees(two), abs=1e-3)
    assert 20.05 < degrees(one) < 20 + 3 * 16 / 136


def test_what_is_no_rectangle_keeps_its_outline() -> None:
    raw = traced(translate(rotate(L_SHAPE, 31), *PLACE))
    (shaped,) = Rows().shape(layer([raw]), PIXEL_M).geometry
    assert iou(shaped, raw) > 0.95
    assert shapely.hausdorff_distance(shaped, raw) < 1.5 * PIXEL_M
    assert len(shaped.exterior.coords) < 0.5 * len(raw.exterior.coords)
    (untouched,) = Rows().shape(layer([raw])).geometry
    assert untouched.equals_exact(raw, 0)


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_never_more_than_the_bound_is_lost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hulls = [shapely.convex_hull(shapely.MultiPoint(rng.uniform(0, 7, (9, 2)))) for _ in range(12)]
    raw = [traced(translate(h, PLACE[0] + 10 * (i % 4), PLACE[1] + 10 * (i // 4))) for i, h in enumerate(hulls)]
    features = layer(raw)
    shaped = Rows(min_iou=0.9).shape(features, PIXEL_M)
    assert shaped["id"].tolist() == features["id"].tolist()
    assert shaped.is_valid.all()
    for before, after in zip(raw, shaped.geometry, strict=True):
        assert iou(before, after) >= (0.9 - 1e-6 if len(after.exterior.coords) == 5 else 0.8)

    shuffled = rng.permutation(len(raw))
    again = Rows(min_iou=0.9).shape(features.iloc[shuffled], PIXEL_M).set_index("id").loc[features["id"]]
    assert shapely.equals_exact(again.geometry.to_numpy(), shaped.geometry.to_numpy()).all()


def test_what_lies_further_than_twice_near_changes_nothing() -> None:
    raw = [traced(p) for p in row([0, 1, -2, 3, 0, -1, 2, 1, 0, -3])]
    whole, part = (Rows(near_m=6).shape(layer(p), PIXEL_M).geometry for p in (raw, raw[:6]))
    assert all(a.equals_exact(b, 0) for a, b in zip(whole[:4], part[:4], strict=True))
    far = gpd.GeoDataFrame({"id": ["far"], "score": 0.5}, geometry=[shapely.box(40, 10, 40.0001, 10.0001)], crs=4326)
    features = layer(raw).to_crs(4326)
    together = Rows().shape(gpd.pd.concat([far, features], ignore_index=True), PIXEL_M).geometry[1:]
    assert shapely.equals_exact(together.to_numpy(), Rows().shape(features, PIXEL_M).geometry.to_numpy()).all()


@pytest.mark.parametrize("crs", [4326, 3857])
def test_metres_hold_in_every_crs(crs: int) -> None:
    features = layer([traced(p) for p in row([0, 2, -2, 1])])
    here, there = (Rows().shape(f, PIXEL_M) for f in (features, features.to_crs(crs)))
    assert there.crs == features.to_crs(crs).crs
    for one, two in zip(here.geometry, there.to_crs(UTM).geometry, strict=True):
        assert iou(one, two) > 0.9999


def test_rectangles_do_not_grow_into_each_other() -> None:
    trapeze = shapely.Polygon([(0, 0), (12, 0), (12, 5.4), (0, 6.6)])
    wedge = shapely.Polygon([(0, 6.6), (12, 5.4), (12, 12), (0, 12)])
    panels = [translate(p, *PLACE) for p in (trapeze, wedge)]
    least = min(p.area for p in panels)
    loose = Rows(max_overlap=0.2).shape(layer(panels)).geometry.to_numpy()
    assert loose[0].intersection(loose[1]).area > 0.002 * least
    shaped = Rows(max_overlap=0.002).shape(layer(panels)).geometry.to_numpy()
    assert shaped[0].intersection(shaped[1]).area <= 0.002 * least + 1e-6


def test_odd_input_passes(capfd: pytest.CaptureFixture[str]) -> None:
    apart = shapely.MultiPolygon([panel(0, 0, 9, 9, 0), panel(40, 0, 9, 9, 0)])
    bow = translate(shapely.Polygon([(0, 0), (40, 40), (40, 0), (0, 40)]), PLACE[0] + 100, PLACE[1])
    flat = translate(shapely.Polygon([(0, 0), (9, 0), (0, 0)]), *PLACE)
    speck = translate(shapely.box(0, 0, 0.3, 0.3), PLACE[0], PLACE[1] + 50)
    features = layer([apart, shapely.Polygon(), None, bow, speck, flat]).rename_geometry("outline")
    before = features.geometry.to_numpy().copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, two = (Rows().shape(features, PIXEL_M) for _ in range(2))
    assert one.equals(two)
    assert list(one.columns) == list(features.columns)
    assert one.geometry.name == "outline"
    assert one.geom_type.iloc[0] == "MultiPolygon"
    assert one.geometry.iloc[1].is_empty
    assert one.geometry.iloc[2] is None
    assert one.geometry.iloc[3].is_valid
    assert iou(one.geometry.iloc[4], speck) > 0.99
    assert all(a is b for a, b in zip(features.geometry.to_numpy(), before, strict=True))
    assert len(Rows().shape(features.iloc[:0], PIXEL_M)) == 0
    assert len(Rows().shape(features.iloc[1:3], PIXEL_M)) == 2
    assert capfd.readouterr() == ("", "")


def test_no_crs_is_refused() -> None:
    with pytest.raises(NoGeoreference, match="no CRS"):
        Rows().shape(gpd.GeoDataFrame({"id": ["a"]}, geometry=[shapely.box(0, 0, 9, 9)]), PIXEL_M)

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from hybridseg import Scene, open_scene
from hybridseg.run.extents import RINGS, bordered, grow, neighbourhood, place_on, to_pixels
from hybridseg.run.store import key_of
from hybridseg.tables import Prompts
from hybridseg.types import Window
from hybridseg.where.refine import Prompt

CRS = "EPSG:32645"
LEFT, TOP = 500_000.0, 3_000_000.0


def scene(pixel: float = 1.0, crs: str = CRS, corner: tuple[float, float] = (LEFT, TOP)) -> Scene:
    """Grey ground of 400 by 200 pixels."""
    grid = GeoBox((200, 400), Affine(pixel, 0, corner[0], 0, -pixel, corner[1]), crs)
    return open_scene(np.full((3, 200, 400), 90, np.uint8), geobox=grid)


def prompts(
    outlines: list[shapely.Geometry], peaks: list[tuple[float, float]] | None = None, crs: str = CRS
) -> Prompts:
    """Prompts with these supports, their peaks in the middle unless given."""
    records = []
    for k, outline in enumerate(outlines):
        x, y = peaks[k] if peaks else outline.centroid.coords[0]
        records.append((str(k), "a", 1.0, x, y, shapely.MultiPoint([(x, y)]), shapely.MultiPoint(), outline))
    return Prompts.from_records(records, crs)


def square(x: float, side: float = 10) -> shapely.Polygon:
    """A square that begins x metres east of the scene's corner."""
    return shapely.box(LEFT + x, TOP - 100, LEFT + x + side, TOP - 100 + side)


# --- pixels of the source ---------------------------------------------------------------------------------------------

origins = st.floats(-2e7, 2e7)
sizes = st.floats(0.01, 100)
angles = st.floats(-180, 180)
corners = st.tuples(*[st.floats(0, 5000)] * 4)


@settings(deadline=None)  # seconds on a machine at work
@given(origins, origins, sizes, angles, st.booleans(), corners)
def test_pixel_to_world_to_pixel_is_the_same(x, y, size, angle, south_up, corner):
    affine = Affine.translation(x, y) @ Affine.rotation(angle) @ Affine.scale(size, size if south_up else -size)
    geobox = GeoBox((5000, 5000), affine, "EPSG:3857")
    left, top, width, height = corner
    support = shapely.box(left, top, left + width + 1, top + height + 1)
    peak = shapely.MultiPoint([support.centroid])

    def world(geometry: shapely.Geometry) -> shapely.Geometry:
        return shapely.transform(geometry, lambda xy: np.array([affine @ tuple(p) for p in xy]))

    record = ("a", "building", 1.0, 0.0, 0.0, world(peak), shapely.MultiPoint(), world(support))
    (back,) = to_pixels(Prompts.from_records([record], "EPSG:3857").rows, geobox)
    # 2e7 map units with pixels of a centimetre leave six digits of a double for the pixel
    assert shapely.equals_exact(back.support, support, tolerance=1e-4)
    assert np.allclose(back.positive, shapely.get_coordinates(peak), atol=1e-4)
    assert back.negative.shape == (0, 2)


@pytest.mark.parametrize("support", [None, shapely.Polygon()])
def test_a_click_has_no_support_in_pixels_either(support: shapely.Geometry | None):
    x, y = LEFT + 10, TOP - 20
    points = shapely.MultiPoint([(x, y)])
    record = ("a", "building", 1.0, x, y, points, shapely.MultiPoint([(x + 5, y), (x, y - 5)]), support)
    (click,) = to_pixels(Prompts.from_records([record], CRS).rows, scene(pixel=0.5).geobox)
    assert click.support is None
    assert click.positive.tolist() == [[20, 40]]
    assert click.negative.tolist() == [[30, 40], [20, 50]]
    assert click.box == (20, 40, 20, 40)


def test_prompts_keep_their_order():
    asked = to_pixels(prompts([square(30), square(0), square(90)]).rows, scene().geobox)
    assert [prompt.box[0] for prompt in asked] == [30, 0, 90]
    assert to_pixels(prompts([]).rows, scene().geobox) == []


def test_a_piece_that_fills_its_square_has_no_border():
    shapes = [shapely.box(0, 0, 10, 10), shapely.box(0, 0, 10, 10).difference(shapely.box(9, 9, 10, 10))]
    assert bordered([Prompt(s, np.zeros((0, 2)), np.zeros((0, 2))) for s in shapes]).tolist() == [False, True]


def test_a_grid_is_placed_on_another_of_the_same_pixels():
    whole = GeoBox((100, 80), Affine(0.3, 0, LEFT, 0, -0.3, TOP), CRS)
    assert place_on(whole, whole) == Window(0, 0, 80, 100)
    part = GeoBox((10, 20), whole.affine @ Affine.translation(-32, 64), CRS)
    assert place_on(whole, part) == Window(-32, 64, 20, 10)
    assert place_on(part, whole) == Window(32, -64, 80, 100)


# --- what surrounds an extent -----------------------------------------------------------------------------------------


def test_an_extent_grows_as_far_as_the_scene_reaches():
    bottom = TOP - 200
    inner = (LEFT + 100, bottom + 50, LEFT + 200, bottom + 100)
    assert grow(inner, 30, scene()) == (LEFT + 70, bottom + 20, LEFT + 230, bottom + 130)
    assert grow(inner, 0, scene()) == inner
    assert grow(inner, 75, scene()) == (LEFT + 25, bottom, LEFT + 275, bottom + 175)
    assert grow(inner, 1e6, scene()) == (LEFT, bottom, LEFT + 400, TOP)


def test_an_extent_grows_by_metres_in_degrees_too():
    degrees = scene(pixel=1e-5, crs="EPSG:4326", corner=(15.0, 60.0))
    left, bottom, right, top = grow((15.001, 59.999, 15.002, 59.9995), 20, degrees)
    assert 15.001 - left == pytest.approx(right - 15.002) == pytest.approx(20 / 55_800, rel=0.01)
    assert 59.999 - bottom == pytest.approx(top - 59.9995) == pytest.approx(20 / 111_400, rel=0.01)


ROW = [square(12 * k) for k in range(8)]
"""Squares of 10 m, 2 m apart."""


def chosen(near_m: float, extent: tuple[float, float, float, float], outlines: list | None = None, **how) -> list[int]:
    found = neighbourhood(prompts(outlines or ROW, **how), extent, near_m, scene())
    assert found.dtype == bool
    return np.flatnonzero(found).tolist()


def of_columns(first: float, last: float) -> tuple[float, float, float, float]:
    return LEFT + first, TOP - 200, LEFT + last, TOP


def test_so_many_rings_of_neighbours_come_along():
    assert RINGS == 2
    assert chosen(3, of_columns(36, 46)) == [1, 2, 3, 4, 5]
    assert chosen(3, of_columns(36, 58)) == [1, 2, 3, 4, 5, 6]
    assert chosen(3, of_columns(0, 400)) == list(range(8))
    assert chosen(3, of_columns(300, 400)) == []


def test_neighbours_are_those_that_come_near():
    assert chosen(1.9, of_columns(36, 46)) == [3]
    assert chosen(2.1, of_columns(36, 46)) == [1, 2, 3, 4, 5]
    assert chosen(14.1, of_columns(36, 46)) == list(range(8)), "two at once"


def test_a_peak_decides_who_is_inside_not_the_outline():
    # the outline of 3 spans 36 to 46 m, its peak stands at 41
    assert chosen(1, of_columns(40, 42)) == [3]
    assert chosen(1, of_columns(36, 40.9)) == []
    peaks = [(outline.bounds[0] + 1, outline.centroid.y) for outline in ROW]
    assert chosen(1, of_columns(36, 40.9), peaks=peaks) == [3]


def test_neighbours_of_neighbours_are_found_over_a_large_one():
    field = shapely.box(LEFT + 20, TOP - 150, LEFT + 300, TOP - 50)
    outlines = [square(5), field, square(305), square(340)]
    assert chosen(6, of_columns(0, 15), outlines) == [0, 1, 2]


def test_the_given_prompts_stay_as_they_are():
    given = prompts(ROW)
    before = key_of("rows", given)
    neighbourhood(given, of_columns(36, 46), 3, scene())
    assert key_of("rows", given) == before


def test_nearness_is_in_metres_in_degrees_too():
    degrees = scene(pixel=1e-5, crs="EPSG:4326", corner=(15.0, 60.0))
    metre = 1 / 55_800
    boxes = [shapely.box(15 + k * 12 * metre, 59.999, 15 + (k * 12 + 10) * metre, 59.9991) for k in range(4)]
    asked = prompts(boxes, crs="EPSG:4326")
    first = (15.0, 59.9, 15 + 10 * metre, 60.0)
    assert neighbourhood(asked, first, 1.5, degrees).tolist() == [True, False, False, False]
    assert neighbourhood(asked, first, 2.5, degrees).tolist() == [True, True, True, False]


def test_no_prompts_have_no_neighbours():
    assert neighbourhood(prompts([]), of_columns(0, 9), 3, scene()).tolist() == []
    assert gpd.GeoDataFrame(prompts([]).rows).empty

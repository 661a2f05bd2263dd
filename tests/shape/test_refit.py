from itertools import pairwise

import numpy as np
import pytest
import shapely
from shapely.affinity import rotate, translate

from hybridseg.shape.refit import refitted


def wavy(x0: float, y0: float, x1: float, y1: float, wave: float, seed: int) -> np.ndarray:
    """Places every metre along a line, each as far beside it as chance says; its ends are on it."""
    n = round(np.hypot(x1 - x0, y1 - y0))
    share, off = np.arange(n) / n, np.random.default_rng(seed).uniform(-wave, wave, n)
    off[0] = 0
    across = np.array([y0 - y1, x1 - x0]) / n
    return np.array([x0, y0]) + share[:, None] * np.array([x1 - x0, y1 - y0]) + off[:, None] * across


def field(seed: int = 0, turn: float = 23.0) -> tuple[shapely.Polygon, shapely.Polygon]:
    """A field of 120 m by 80 m, and what was seen of it."""
    true = rotate(shapely.box(0, 0, 120, 80), turn)
    corners = shapely.get_coordinates(true)
    sides = [wavy(*a, *b, 1.0, seed + k) for k, (a, b) in enumerate(pairwise(corners))]
    return true, shapely.Polygon(np.concatenate(sides))


def off_m(one: shapely.Geometry, two: shapely.Geometry) -> float:
    return float(shapely.hausdorff_distance(one.boundary, two.boundary, densify=0.01))


@pytest.mark.parametrize("seed", range(4))
def test_edges_run_through_the_outline_not_along_what_stands_out(seed: int) -> None:
    true, seen = field(10 * seed)
    few = shapely.coverage_simplify([seen], 12.0)
    (fitted,) = refitted(few, np.array([seen], object))
    assert shapely.get_num_coordinates(fitted) == shapely.get_num_coordinates(few[0])
    assert off_m(fitted, true) < 0.8
    assert off_m(fitted, true) < off_m(few[0], true)


def test_a_border_that_two_share_stays_shared() -> None:
    _, seen = field()
    two = np.array([seen, shapely.box(-60, -60, 200, 200) - seen], object)
    fitted = refitted(shapely.coverage_simplify(two, 8.0), two)
    assert shapely.coverage_is_valid(fitted)
    assert shapely.area(fitted).sum() == pytest.approx(260**2, abs=1e-6)


def test_what_fits_already_stays_where_it_is() -> None:
    exact = np.array([rotate(shapely.box(0, 0, 30, 20), 10), shapely.Point(90, 0).buffer(9)], object)
    assert shapely.equals_exact(refitted(exact, shapely.segmentize(exact, 1.0)), exact, 1e-9).all()


def test_holes_parts_and_nothing() -> None:
    _, seen = field()
    pond = translate(shapely.Point(0, 0).buffer(12, quad_segs=40), seen.centroid.x, seen.centroid.y)
    parts = shapely.MultiPolygon([seen - pond, translate(seen, 300, 0)])
    detailed = np.array([parts, shapely.Polygon()], object)
    simple = shapely.coverage_simplify(detailed, 8.0)
    fitted = refitted(simple, detailed)
    assert shapely.is_valid(fitted).all()
    iou = [shapely.intersection(parts, each).area / shapely.union(parts, each).area for each in (fitted[0], simple[0])]
    assert iou[0] > iou[1]
    assert fitted[1].is_empty
    assert len(refitted(np.empty(0, object), np.empty(0, object))) == 0

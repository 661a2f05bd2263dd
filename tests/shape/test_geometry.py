import numpy as np
import shapely
from shapely import Polygon

from hybridseg.shape.candidates import where_alike
from hybridseg.shape.geometry import repaired

# a square whose outline crosses itself by a nanometre on the way up: a loop of no size
SPECK = Polygon([(0, 0), (10, 0), (10, 10), (5, 10), (5 + 2e-9, 10 + 3e-9), (5 + 2e-9, 10 - 3e-9), (0, 10)])
BOW = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])


def test_what_is_valid_stays_as_it_is_and_what_came_is_left_alone():
    given = np.array([shapely.box(0, 0, 1, 1), BOW])
    out = repaired(given)
    assert out[0] is given[0]
    assert given[1] is BOW


def test_a_bow_tie_keeps_both_its_wings():
    (out,) = repaired(np.array([BOW]))
    assert out.geom_type == "MultiPolygon"
    assert out.is_valid
    assert out.area == 2


def test_a_speck_that_rounding_cut_off_goes():
    (out,) = repaired(np.array([SPECK]))
    assert out.geom_type == "Polygon"
    assert out.is_valid
    assert abs(out.area - 100) < 1e-6


def test_what_has_no_ground_becomes_empty():
    (out,) = repaired(np.array([Polygon([(0, 0), (1, 1), (2, 2)])]))
    assert out.is_empty
    assert out.geom_type == "Polygon"


def test_a_collection_is_no_outline_however_well_it_agrees():
    square = shapely.box(0, 0, 10, 10)
    mixed = shapely.GeometryCollection([square, shapely.LineString([(3, 3), (4, 4)])])
    (out,) = where_alike(np.array([mixed]), np.array([square]), 0.9, otherwise=np.array([square]))
    assert out is square

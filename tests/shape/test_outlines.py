import numpy as np
import pytest
import shapely
from shapely.affinity import rotate, translate

from hybridseg.shape import Buildings
from hybridseg.shape.neighbours import aligned, noded, parted
from hybridseg.shape.outlines import describe, sampled
from hybridseg.shape.walls import Price, Walls
from tests.shape.test_buildings import L_SHAPE, PIXEL_M, PLACE, UTM, corners_deg, iou, layer, traced

PRICE = Price(wall=0.16, free=2.0, bump_m=0.8)


def walls_of(*polygons: shapely.Polygon, price: Price = PRICE, direction: float = 0.0) -> Walls:
    outlines = shapely.orient_polygons(np.array(polygons))
    return describe(sampled(outlines, 0.3), np.full(len(polygons), direction), price)


@pytest.mark.parametrize(
    ("house", "kinds"),
    [
        (shapely.box(0, 0, 12, 9), [2, 2, 0]),
        (L_SHAPE, [3, 3, 0]),
        (shapely.box(0, 0, 24, 20) - shapely.box(9, 6, 15, 13), [4, 4, 0]),
        (shapely.Polygon([(0, 0), (14, 0), (14, 10), (8, 10), (0, 5)]), [2, 2, 1]),
    ],
    ids=["rectangle", "L", "courtyard", "slanting wall"],
)
def test_as_many_walls_as_the_house_has(house: shapely.Polygon, kinds: list[int]) -> None:
    walls = walls_of(house)
    assert np.bincount(walls.kind, minlength=3).tolist() == kinds
    (found,) = walls.polygons(1)
    assert iou(found, house) > 0.98


def test_what_a_bay_must_explain_is_its_price() -> None:
    # half of 1.2 m squared along 4 m, but for the mean of the whole front, is 2 m3: two walls more
    house = shapely.box(0, 0, 14, 9) | shapely.box(5, 9, 9, 10.2)
    assert len(walls_of(house, price=Price(0.16, 2.0, 0.8)).kind) == 8
    assert len(walls_of(house, price=Price(2.0, 2.0, 0.8)).kind) == 4


def test_a_bump_does_not_move_the_wall() -> None:
    house = shapely.box(0, 0, 20, 10) | shapely.box(6, 10, 10, 11.5)
    (found,) = walls_of(house, price=Price(10.0, 2.0, 0.3)).polygons(1)
    assert len(found.exterior.coords) == 5
    assert found.bounds[3] == pytest.approx(10, abs=0.12)
    (mean,) = walls_of(house, price=Price(10.0, 2.0, 100.0)).polygons(1)
    assert mean.bounds[3] > 10.2


def test_the_walls_tell_the_direction() -> None:
    house = np.array([rotate(L_SHAPE, 20), rotate(L_SHAPE, 20)])
    direction, stiffness = walls_of(*house, direction=np.radians(19)).main_direction(2)
    assert np.degrees(direction) == pytest.approx([20, 20], abs=0.3)
    # each wall of length l gives l**3 / 12
    assert stiffness[0] == pytest.approx(sum(side**3 for side in (16, 8, 7, 6, 9, 14)) / 12, rel=0.2)


def test_a_large_hall_keeps_its_bays() -> None:
    # 700 m of outline: with a point in five metres, bays of 4 m have no walls of their own
    bays = [shapely.box(20 * i + 8, 60, 20 * i + 12, 64) for i in range(14)]
    hall = shapely.union_all([shapely.box(0, 0, 290, 60), *bays])
    (shaped,) = Buildings().shape(layer([traced(translate(hall, *PLACE))]), PIXEL_M).geometry
    assert len(shaped.exterior.coords) == len(hall.exterior.coords)
    assert iou(shaped, translate(hall, *PLACE)) > 0.98


def row_of_houses(turn: float, n: int = 5) -> list[shapely.Polygon]:
    """Traced row houses that touch, each a little deeper than the last."""
    true = [translate(rotate(shapely.box(7 * i, 0, 7 * i + 7, 11 + i), turn, origin=(0, 0)), *PLACE) for i in range(n)]
    raw = [traced(house) for house in true]
    for i in range(1, n):
        raw[i] = max(shapely.get_parts(raw[i] - raw[i - 1]), key=lambda p: p.area)
    return raw


@pytest.mark.parametrize("turn", [0, 24, 77])
@pytest.mark.parametrize("crs", [UTM, 4326])
def test_row_houses_share_their_walls_exactly(turn: float, crs: int) -> None:
    features = layer(row_of_houses(turn)).to_crs(crs)
    shaped = Buildings().shape(features, PIXEL_M)
    assert shapely.coverage_is_valid(shaped.geometry.to_numpy())
    metres = shaped.to_crs(UTM).geometry.to_numpy()
    for i in range(4):
        shared = shapely.length(shapely.intersection(metres[i].boundary, metres[i + 1].boundary.buffer(1e-6)))
        assert shared == pytest.approx(11 + i, abs=0.8)
    assert max(np.abs(corners_deg(house)).max() for house in metres) < 0.3


def test_houses_that_touch_at_an_angle_have_no_common_ground_and_keep_their_right_angles() -> None:
    one = translate(rotate(shapely.box(0, 0, 12, 10), 10, origin=(12, 5)), *PLACE)
    two = translate(rotate(shapely.box(12, 0, 24, 10), 14, origin=(12, 5)), *PLACE)
    raw = [traced(one), traced(two)]
    raw[1] = max(shapely.get_parts(raw[1] - raw[0]), key=lambda p: p.area)
    first, second = Buildings().shape(layer(raw), PIXEL_M).geometry
    assert first.intersection(second).area < 1e-5
    for shaped, true in ((first, one), (second, two)):
        assert np.abs(corners_deg(shaped)).max() < 0.3
        assert iou(shaped, true) > 0.9


def test_only_walls_that_nearly_are_one_are_put_on_one_line() -> None:
    near = [shapely.box(0, 0, 10, 8), shapely.box(10.2, 0, 20, 8)]
    far = [shapely.box(0, 20, 10, 28), shapely.box(10.9, 20, 20, 28)]
    same, other = aligned(walls_of(*near, *far), 0.6, 3.0, PRICE).polygons(4).reshape(2, 2)
    assert same[0].bounds[2] == same[1].bounds[0] == pytest.approx(10.1, abs=0.02)
    assert [other[0].bounds[2], other[1].bounds[0]] == pytest.approx([10, 10.9], abs=0.02)
    dear = aligned(walls_of(*near), 0.6, 3.0, Price(0.001, 2.0, 0.8)).polygons(2)
    assert dear[0].bounds[2] < dear[1].bounds[0] - 0.15


def test_the_way_back_is_shared() -> None:
    pair = [shapely.box(0, 0, 10, 8), shapely.box(9.6, 0, 20, 8)]
    one, two = parted(walls_of(*pair), 2, PRICE).polygons(2)
    assert one.intersection(two).area < 1e-5
    assert one.bounds[2] == pytest.approx(9.8, abs=0.03)
    # a rectangle's price is the most that is paid for it
    one, two = parted(walls_of(*pair), 2, Price(0.01, 2.0, 0.8)).polygons(2)
    assert one.intersection(two).area == pytest.approx(3.2, abs=0.3)


def test_a_corner_on_a_neighbours_wall_is_a_vertex_of_both() -> None:
    low, left, right = shapely.box(0, 0, 10, 5), shapely.box(0, 5, 4, 9), shapely.box(4 + 1e-9, 5 + 1e-9, 10, 9)
    polygons = noded(np.array([low, left, right]))
    assert shapely.coverage_is_valid(polygons)
    assert shapely.get_num_coordinates(polygons).tolist() == [6, 5, 5]
    assert shapely.area(polygons) == pytest.approx([50, 16, 24])
    alone = np.array([low, shapely.MultiPolygon([translate(left, 50), translate(right, 60)])])
    assert shapely.equals_exact(noded(alone), alone).all()


def test_the_order_of_houses_changes_nothing() -> None:
    features = layer([*row_of_houses(24), *(translate(traced(translate(L_SHAPE, *PLACE)), 60 * i) for i in (2, 3))])
    shaped = Buildings().shape(features, PIXEL_M)
    turned = Buildings().shape(features.iloc[::-1], PIXEL_M).iloc[::-1]
    assert (
        shapely.get_num_coordinates(shaped.geometry).tolist() == shapely.get_num_coordinates(turned.geometry).tolist()
    )
    for one, two in zip(shaped.geometry, turned.geometry, strict=True):
        assert shapely.hausdorff_distance(one, two) < 1e-6

import numpy as np
import pytest
import shapely
from shapely.affinity import translate

from hybridseg.evaluate.boundary import boundary_f1

SQUARE = shapely.box(0, 0, 10, 10)


def test_shifted_square_by_hand() -> None:
    shifted = translate(SQUARE, 2, 0)
    assert boundary_f1([shifted], [SQUARE], 2.001).f1 == pytest.approx(1)
    # Within 1 m of the square: 8 m of each horizontal wall, which lie on its own, and 1 m more past its corners; of the
    # wall inside of it 1 m at either end, of the wall outside nothing.
    score = boundary_f1([shifted], [SQUARE], 1.0)
    assert score.precision == pytest.approx((2 * 9 + 2) / 40, abs=1e-3)
    assert score.precision == pytest.approx(score.recall)


def test_missed_and_invented_objects() -> None:
    far = translate(SQUARE, 100, 0)
    assert boundary_f1([SQUARE], [SQUARE, far], 0.5).precision == pytest.approx(1)
    assert boundary_f1([SQUARE], [SQUARE, far], 0.5).recall == pytest.approx(0.5)
    assert boundary_f1([SQUARE, far], [SQUARE], 0.5).precision == pytest.approx(0.5)
    assert boundary_f1([SQUARE, far], [SQUARE], 0.5).f1 == pytest.approx(2 / 3)


def test_holes_count() -> None:
    ring = SQUARE - shapely.box(4, 4, 6, 6)
    score = boundary_f1([ring], [SQUARE], 0.5)
    assert (score.precision, score.recall) == pytest.approx((40 / 48, 1))


def test_overlapping_belts_count_once() -> None:
    row = [shapely.box(2 * i, 0, 2 * i + 2, 10) for i in range(5)]
    score = boundary_f1([SQUARE], row, 1.0)
    assert score.precision == pytest.approx(1)
    assert score.recall == pytest.approx(
        (5 * 24 - 4 * 2 * 8 + 0) / 120, abs=1e-3
    )  # 8 of 10 m of each inner wall are far


@pytest.mark.parametrize(
    ("pred", "truth", "f1"), [([], [], 1), ([SQUARE], [], 0), ([], [SQUARE], 0), ([None, shapely.Polygon()], [], 1)]
)
def test_nothing(pred: list[shapely.Polygon], truth: list[shapely.Polygon], f1: float) -> None:
    assert boundary_f1(pred, truth, 1.0).f1 == f1


def test_where_the_scene_ends_cuts_do_not_count() -> None:
    scene = shapely.box(0, 0, 100, 100)
    house = shapely.box(90, 40, 110, 60)
    cut, whole = house & scene, house
    assert boundary_f1([cut], [whole], 0.5).precision == pytest.approx((40 + 2 * 0.5) / 60)
    score = boundary_f1([cut], [whole], 0.5, aoi=scene)
    assert (score.precision, score.recall) == pytest.approx((1, 1))
    outside = translate(house, 200, 0)
    assert boundary_f1([cut, outside], [whole], 0.5, aoi=scene).precision == pytest.approx(1)


def test_matches_a_count_of_points_along_the_boundary() -> None:
    rng = np.random.default_rng(2)
    x, y, turn = rng.uniform(0, 120, 30), rng.uniform(0, 120, 30), rng.uniform(0, 90, 30)
    truth = [shapely.affinity.rotate(shapely.box(a, b, a + 12, b + 8), t) for a, b, t in zip(x, y, turn, strict=True)]
    pred = [shapely.affinity.rotate(translate(p, *rng.normal(0, 0.8, 2)), rng.normal(0, 4)) for p in truth[:25]]
    score = boundary_f1(pred, truth, 0.8)

    def share(lines: list[shapely.Polygon], others: list[shapely.Polygon]) -> float:
        points = [p.boundary.interpolate(d) for p in lines for d in np.arange(0.01, p.length, 0.02)]
        return float((shapely.distance(points, shapely.union_all([o.boundary for o in others])) <= 0.8).mean())

    assert score.precision == pytest.approx(share(pred, truth), abs=0.003)
    assert score.recall == pytest.approx(share(truth, pred), abs=0.003)

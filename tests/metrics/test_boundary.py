import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.features import rasterize
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import directed_hausdorff
from shapely.affinity import translate

from hybridseg.metrics.boundary import boundary_f1, boundary_iou, corners, hausdorff, polis

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


def test_nothing_found_is_no_agreement_though_the_rim_hides_it() -> None:
    assert boundary_f1([], [SQUARE], 1.0, aoi=SQUARE).f1 == boundary_f1([SQUARE], [], 1.0, aoi=SQUARE).f1 == 0
    assert boundary_f1([SQUARE], [SQUARE], 1.0, aoi=SQUARE).f1 == 1


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


def test_boundary_iou_by_hand() -> None:
    # Bands 1 m wide in squares of 10 m: 100 - 64 = 36 m2 each. Shifted by 2 m, the bands share their top and bottom
    # strips over 8 m (16 m2), and the left one of the one crosses neither: columns 2..3 and 9..10 meet the other's
    # strips only.
    shifted = translate(SQUARE, 2, 0)
    common = 2 * 8
    assert boundary_iou([SQUARE], [shifted], 1.0)[0] == pytest.approx(common / (36 + 36 - common))
    assert boundary_iou([SQUARE], [SQUARE], 1.0)[0] == pytest.approx(1)
    assert boundary_iou([SQUARE], [translate(SQUARE, 100, 0)], 1.0)[0] == 0
    # Wider than the object: the plain IoU.
    assert boundary_iou([SQUARE], [shifted], 6.0)[0] == pytest.approx(80 / 120)
    assert boundary_iou([SQUARE - shapely.box(4, 4, 6, 6)], [SQUARE], 1.0)[0] == pytest.approx(
        36 / (36 + 8 + np.pi), abs=1e-3
    )  # around a hole of 2 m the band has round corners
    assert boundary_iou([shapely.Polygon()], [shapely.Polygon()], 1.0)[0] == 0


def test_boundary_iou_agrees_with_eroded_masks() -> None:
    """As the authors' tool does it, on pixels: masks less their erosions by 3 x 3."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        one, two = (shapely.box(*rng.integers(0, 20, 2), *rng.integers(40, 60, 2)) for _ in range(2))
        masks = [rasterize([p], (60, 60), transform=Affine(1, 0, 0, 0, -1, 60)).astype(bool) for p in (one, two)]
        bands = [m & ~binary_erosion(m, np.ones((3, 3)), iterations=3) for m in masks]
        expected = (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum()
        assert boundary_iou([one], [two], 3.0)[0] == pytest.approx(expected)


def test_polis_by_hand() -> None:
    # Avbelj's measure for a square moved aside by 1 m: two corners of each lie 1 m off, two on the other's walls.
    assert polis([SQUARE], [translate(SQUARE, 1, 0)]) == pytest.approx([0.5])
    assert polis([SQUARE], [SQUARE]) == [0]
    # A corner more on a straight wall, 0 m off: the mean over 5 corners falls, that over 4 does not.
    extra = shapely.Polygon([(1, 0), (6, 0), (11, 0), (11, 10), (1, 10)])
    assert polis([extra], [SQUARE]) == pytest.approx([(2 / 5 + 2 / 4) / 2])
    # A hole has corners too: (4, 4) is 4 m from the outline.
    assert polis([SQUARE - shapely.box(4, 4, 6, 6)], [SQUARE]) == pytest.approx([(4 * 4 / 8 + 0) / 2])


def test_hausdorff_by_hand_and_where_corners_are_not_enough() -> None:
    assert hausdorff([SQUARE], [translate(SQUARE, 3, 0)], 0.01) == pytest.approx([3])
    assert hausdorff([SQUARE], [SQUARE], 0.01) == [0]
    # All corners of the one lie on the other, but in the middle of its long side it runs 2 m away.
    notched = shapely.Polygon([(0, 0), (10, 0), (10, 10), (6, 10), (5, 8), (4, 10), (0, 10)])
    assert hausdorff([notched], [SQUARE], 0.01) == pytest.approx([2], abs=0.01)
    comb = shapely.Polygon([(0, 0), (10, 0), (10, 10), (0, 10), (0, 9.9), (9.9, 9.9), (9.9, 0.1), (0, 0.1)])
    assert shapely.hausdorff_distance(SQUARE.boundary, comb.boundary) < 0.2
    assert hausdorff([SQUARE], [comb], 0.01) == pytest.approx([4.9], abs=0.01)


@pytest.mark.timeout(20)
def test_hausdorff_of_outlines_that_run_beside_each_other_ends_at_any_precision() -> None:
    assert hausdorff([SQUARE], [SQUARE], 1e-12) == [0]
    assert hausdorff([translate(SQUARE, 0.5, 0)], [SQUARE], 1e-12) == pytest.approx([0.5], abs=0.002)


def test_pair_distances_agree_with_dense_points() -> None:
    rng = np.random.default_rng(5)
    truth = [shapely.affinity.rotate(shapely.box(0, 0, 12, 8), t) for t in rng.uniform(0, 90, 6)]
    pred = [shapely.affinity.rotate(translate(p, *rng.normal(0, 1.5, 2)), rng.normal(0, 9)) for p in truth]
    for one, two, found in zip(pred, truth, hausdorff(pred, truth, 0.005), strict=True):
        a, b = (shapely.get_coordinates(shapely.segmentize(p.exterior, 0.02)) for p in (one, two))
        expected = max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0])
        assert found == pytest.approx(expected, abs=0.02)


def test_corners() -> None:
    parts = shapely.MultiPolygon([SQUARE, translate(SQUARE, 20, 0)])
    assert corners([SQUARE, SQUARE - shapely.box(4, 4, 6, 6), parts]).tolist() == [4, 8, 8]
    assert corners([]).tolist() == []
    assert polis([], []).tolist() == hausdorff([], [], 1).tolist() == boundary_iou([], [], 1).tolist() == []

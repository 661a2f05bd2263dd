import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.affinity import translate

from hybridseg.metrics.objects import area_iou, best_first, match, overlaps, segmentation, verdicts

SQUARE = shapely.box(0, 0, 10, 10)
HOUSE = shapely.box(0, 0, 20, 10)
HALVES = [shapely.box(0, 0, 10, 10), shapely.box(10, 0, 20, 10)]


def squares(*lefts: float) -> list[shapely.Polygon]:
    return [translate(SQUARE, left, 0) for left in lefts]


def test_by_hand() -> None:
    # Shifted by 2 of 10: 80 / 120. Shifted by 5: 50 / 150. Alone: nothing.
    found = match(squares(2, 105, 500), squares(0, 100))
    assert (found.pred.tolist(), found.truth.tolist()) == ([0], [0])
    assert found.ious.tolist() == pytest.approx([2 / 3])
    assert (found.n_pred, found.n_truth) == (3, 2)
    assert (found.precision, found.recall, found.f1) == pytest.approx((1 / 3, 1 / 2, 2 / 5))
    assert found.mean_iou == pytest.approx(2 / 3)

    lower = match(squares(2, 105, 500), squares(0, 100), iou=0.3)
    assert (lower.pred.tolist(), lower.truth.tolist()) == ([0, 1], [0, 1])
    assert lower.f1 == pytest.approx(0.8)
    assert lower.mean_iou == pytest.approx(1 / 2)


def test_the_threshold_itself_counts() -> None:
    half = shapely.box(0, 0, 10, 5)
    assert match([half], [SQUARE], iou=0.5).f1 == 1
    assert match([half], [SQUARE], iou=0.5001).f1 == 0


def test_each_object_has_one_partner_at_most_and_the_best_pair_goes_first() -> None:
    found = match(squares(2, 1, 0), squares(0))
    assert (found.pred.tolist(), found.truth.tolist()) == ([2], [0])
    assert (found.precision, found.recall) == pytest.approx((1 / 3, 1))
    assert match(squares(0), squares(1, 0)).truth.tolist() == [1]


def test_one_that_covers_many_finds_one_at_most() -> None:
    row = [shapely.box(5 * i, 0, 5 * i + 5, 10) for i in range(4)]
    found = match([shapely.union_all(row)], row, iou=0.2)
    assert (found.recall, found.precision) == (0.25, 1)


@pytest.mark.parametrize(
    ("pred", "truth", "score"),
    [([], [], 1), ([], [SQUARE], 0), ([SQUARE], [], 0), (squares(50), squares(0), 0)],
)
def test_nothing(pred: list[shapely.Polygon], truth: list[shapely.Polygon], score: int) -> None:
    found = match(pred, truth)
    assert (found.precision, found.recall, found.f1, found.mean_iou) == (score,) * 4
    assert area_iou(pred, truth) == score


def test_neighbours_that_touch_do_not_pair() -> None:
    assert match(squares(0), squares(10), iou=0).f1 == 0


def test_invalid_missing_and_empty_ones_count_but_do_no_harm() -> None:
    bow = shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])
    halves = shapely.make_valid(bow)
    found = match(gpd.GeoSeries([bow, None, shapely.Polygon()]), gpd.GeoSeries([halves]))
    assert (found.pred.tolist(), found.ious.tolist()) == ([0], [1])
    assert found.precision == pytest.approx(1 / 3)


def test_area_iou_counts_ground_once() -> None:
    assert area_iou(squares(0, 0, 5), squares(5)) == pytest.approx(100 / 150)
    assert area_iou([SQUARE - shapely.box(2, 2, 8, 8)], [SQUARE]) == pytest.approx(0.64)


places = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=12
)


def boxes(rows: list[tuple[int, int, int, int]]) -> np.ndarray:
    x, y, w, h = np.array(rows, float).T
    return shapely.box(x, y, x + w, y + h)


@settings(max_examples=60, deadline=None)
@given(pred=places, truth=places, iou=st.floats(0.05, 1))
def test_pairs_are_one_to_one_and_maximal(
    pred: list[tuple[int, int, int, int]], truth: list[tuple[int, int, int, int]], iou: float
) -> None:
    there = match(boxes(pred), boxes(truth), iou)
    assert len(set(there.pred)) == len(set(there.truth)) == len(there.ious)
    assert (there.ious >= iou).all()
    assert (np.diff(there.ious) <= 0).all()
    one, two = boxes(pred)[there.pred], boxes(truth)[there.truth]
    np.testing.assert_allclose(
        shapely.area(shapely.intersection(one, two)) / shapely.area(shapely.union(one, two)), there.ious
    )
    # Nothing that could still pair is left over.
    left_pred = np.delete(boxes(pred), there.pred)
    left_truth = np.delete(boxes(truth), there.truth)
    assert len(match(left_pred, left_truth, iou).ious) == 0


@settings(max_examples=40, deadline=None)
@given(rows=places)
def test_a_map_against_itself_is_perfect(rows: list[tuple[int, int, int, int]]) -> None:
    found = match(boxes(rows), boxes(rows))
    assert (found.precision, found.recall, found.f1, found.mean_iou) == (1, 1, 1, 1)
    assert area_iou(boxes(rows), boxes(rows)) == pytest.approx(1)


def verdicts_on(pred: list[shapely.Polygon], truth: list[shapely.Polygon], **ignored) -> tuple[list[str], list[str]]:
    sides = np.array(pred, dtype=object), np.array(truth, dtype=object)
    found = overlaps(*sides)
    masks = [
        np.array(ignored.get(f"no_{name}", np.zeros(len(s))), bool)
        for name, s in zip(("pred", "truth"), sides, strict=True)
    ]
    of_pred, of_truth = verdicts(found, best_first(found, 0.5), (masks[0], masks[1]))
    return of_pred.tolist(), of_truth.tolist()


def test_each_verdict() -> None:
    far = translate(HOUSE, 100, 0)
    assert verdicts_on([HOUSE], [HOUSE]) == (["hit"], ["hit"])
    assert verdicts_on([HOUSE], [far]) == (["false"], ["missed"])
    thirds = [shapely.box(0, 0, 6, 10), shapely.box(6, 0, 12, 10), shapely.box(12, 0, 18, 10)]
    assert verdicts_on(thirds, [HOUSE]) == (["split"] * 3, ["split"])
    assert verdicts_on([HOUSE], thirds) == (["merged"], ["merged"] * 3)


def test_a_hit_stays_a_hit_beside_a_scrap() -> None:
    # The large part is more than half of the house; the other is its scrap.
    parts = [shapely.box(0, 0, 15, 10), shapely.box(15, 0, 20, 10)]
    assert verdicts_on(parts, [HOUSE]) == (["hit", "split"], ["hit"])
    assert verdicts_on([HOUSE], parts) == (["hit"], ["hit", "merged"])


def test_two_small_ones_in_a_large_one_are_no_split() -> None:
    small = [shapely.box(0, 0, 2, 2), shapely.box(5, 0, 7, 2)]
    assert verdicts_on(small, [HOUSE]) == (["false", "false"], ["missed"])


def test_ignored_objects() -> None:
    far = translate(HOUSE, 100, 0)
    assert verdicts_on([HOUSE, far], [HOUSE], no_pred=[False, True]) == (["hit", "ignored"], ["hit"])
    assert verdicts_on([HOUSE], [HOUSE, far], no_truth=[True, True]) == (["ignored"], ["ignored", "ignored"])
    assert verdicts_on([HOUSE], [HOUSE], no_pred=[True]) == (["hit"], ["hit"])


def clinton(pred: list[shapely.Polygon], truth: list[shapely.Polygon]) -> tuple[list[float], list[float]]:
    sides = np.array(pred, dtype=object), np.array(truth, dtype=object)
    found = segmentation(overlaps(*sides), *sides)
    return found.over.tolist(), found.under.tolist()


def test_over_and_under_segmentation_by_hand() -> None:
    assert clinton([HOUSE], [HOUSE]) == ([0], [0])
    # Each half leaves out half of the house, and none of it lies outside.
    assert clinton(HALVES, [HOUSE]) == ([0.5, 0.5], [0, 0])
    assert clinton([HOUSE], HALVES) == ([0, 0], [0.5, 0.5])
    # Moved aside by 5 of 20 m.
    over, under = clinton([translate(HOUSE, 5, 0)], [HOUSE])
    assert (over, under) == (pytest.approx([0.25]), pytest.approx([0.25]))


def test_a_segment_that_barely_touches_does_not_belong() -> None:
    assert clinton([translate(HOUSE, 19, 0)], [HOUSE]) == ([], [])
    # Its centroid lies in the house, though most of it does not.
    tall = shapely.box(9, -21, 11, 31)
    assert clinton([tall], [HOUSE])[0] == pytest.approx([1 - 20 / 200])
    assert clinton([tall], [HOUSE])[1] == pytest.approx([1 - 20 / 104])

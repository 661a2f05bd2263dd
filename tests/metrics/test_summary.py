from __future__ import annotations

import operator
from functools import reduce

import geopandas as gpd
import pytest
import shapely

from hybridseg.evaluation import evaluate
from hybridseg.metrics.summary import Summary, clip_polygons, summarise
from tests.evaluation.test_evaluate import X, Y, box, layer, moved, town

FAR = 10_000


def scene(pred: gpd.GeoDataFrame, truth: gpd.GeoDataFrame) -> Summary:
    return summarise(pred, truth, shapely.box(X - 100, Y - 100, X + 1_000, Y + 1_000), 0.5)


def test_by_hand() -> None:
    # Shifted by 1 of 10 (IoU 9/11), by 5 (5/15), invented; 190 + 90 + 50 + 50 + 100 covered by either.
    found = scene(layer(box(1, 0), box(55, 0), box(200, 0)), layer(box(0, 0), box(50, 0)))
    assert found.common_m2 == pytest.approx(140)
    assert found.to_dict() == pytest.approx({
        "objects": 2, "found": 3, "f1": 0.4, "precision": 1 / 3, "recall": 0.5, "mean_iou": 9 / 11,
        "area_iou": 140 / 360, "boundary_f1": found.outlines.f1,
    })  # fmt: skip
    # Within 0.5 m: of the first pair 9.5 m of either horizontal wall and 2 * 0.5 m of one wall across, of the second
    # pair 5.5 m of either and 2 * 0.5 m.
    lines = found.outlines
    assert (lines.pred_near_m, lines.pred_m) == pytest.approx((2 * 9.5 + 1 + 2 * 5.5 + 1, 120))
    assert (lines.precision, lines.recall) == pytest.approx((32 / 120, 32 / 80))


def test_agrees_with_evaluate() -> None:
    truth = town().assign(**{"class": "house"})
    pred = moved(town()).assign(**{"class": "house"})
    report = evaluate(pred, truth, tolerance_m=0.5)
    found = scene(pred, truth).to_dict()
    names = ("f1", "precision", "recall")
    assert [found[n] for n in names] == pytest.approx([report[n] for n in names])
    assert found["boundary_f1"] == pytest.approx(report["boundary_f1"])
    assert found["area_iou"] == pytest.approx(report["pixel_iou"], abs=0.005)


def test_scenes_add_up_before_anything_is_divided() -> None:
    # One object found in the one scene; in the other three missed and one invented; nothing in the third.
    one = scene(layer(box(0, 0)), layer(box(0, 0)))
    other = scene(layer(box(80, 0)), layer(box(0, 0), box(20, 0), box(40, 0)))
    nothing = scene(layer(), layer())
    both = reduce(operator.add, [one, other, nothing])
    assert (one.objects.f1, other.objects.f1, nothing.objects.f1) == (1, 0, 1)
    assert (both.objects.precision, both.objects.recall) == (1 / 2, 1 / 4)
    assert both.area_iou == pytest.approx(100 / 500)
    assert both.outlines.f1 == pytest.approx(2 * 40 / (80 + 160))
    assert both.objects.pred.tolist() == both.objects.truth.tolist() == [0]
    swapped = other + one
    assert swapped.to_dict() == pytest.approx(both.to_dict())
    assert (swapped.objects.pred.tolist(), swapped.objects.truth.tolist()) == ([1], [3])


def test_as_if_all_scenes_were_one() -> None:
    truth, pred = town(), moved(town())
    west = truth.centroid.x < X + 70
    near = pred.centroid.x < X + 70
    parts = [scene(pred[near], truth[west]), scene(pred[~near], truth[~west])]
    whole = scene(pred, truth)
    assert (parts[0] + parts[1]).objects.f1 == pytest.approx(whole.objects.f1)
    assert (parts[0] + parts[1]).objects.mean_iou == pytest.approx(whole.objects.mean_iou)
    assert parts[0].objects.f1 != parts[1].objects.f1


def test_polygons_are_cut_at_the_area_and_repaired() -> None:
    bow = shapely.Polygon([(X, Y), (X + 4, Y + 4), (X + 4, Y), (X, Y + 4)])
    rows = layer(box(0, 0), bow, box(50, 0), shapely.MultiPolygon([box(0, 20), box(0, 40)]), name=["a", "b", "c", "d"])
    cut = clip_polygons(rows.rename_geometry("outline"), shapely.box(X, Y, X + 5, Y + 100))
    assert sorted(zip(cut["name"], cut.area, strict=True)) == [("a", 50), ("b", 4), ("b", 4), ("d", 50), ("d", 50)]
    assert cut.index.tolist() == [0, 1, 2, 3, 4]

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely

from hybridseg.tables import FIGURES, Prompts, Refined
from hybridseg.where.gate import Gate, agreement, stability

STRICT = Gate(iou_pred=0.5, stability=0.6, agreement=0.4)
SQUARE = shapely.box(0, 0, 10, 10)


def logits(doubtful: int = 0) -> np.ndarray:
    """Rows 0..9 of 20 are surely inside, the next `doubtful` ones just so, the rest is outside."""
    mask = np.full((20, 20), -5, np.float32)
    mask[:10] = 5
    mask[10 : 10 + doubtful] = 0.5
    return mask


def support(first: int = 0, last: int = 10) -> np.ndarray:
    cover = np.zeros((20, 20), np.float32)
    cover[first:last] = 1
    return cover


def refined(figures: list[tuple[float, float, float]], outlines: list[shapely.Polygon | None] | None = None) -> Refined:
    point = shapely.MultiPoint([(5, 5)])
    records = [(str(i), "building", 1.0, 5.0, 5.0, point, shapely.MultiPoint(), SQUARE) for i in range(len(figures))]
    prompts = Prompts.from_records(records, "EPSG:32645")
    return Refined.from_prompts(prompts, outlines or [SQUARE] * len(figures), np.array(figures, float))


@pytest.mark.parametrize(
    ("figures", "criterion"),
    [((0.4, 1, 1), "iou_pred"), ((0.9, 10 / 18, 1), "stability"), ((0.9, 1, 3 / 20), "agreement")],
)
def test_each_criterion_alone_refuses(figures: tuple[float, float, float], criterion: str):
    masks = refined([figures, (0.9, 1, 1)])
    assert STRICT.passes(masks).tolist() == [False, True]
    assert STRICT.model_copy(update={criterion: 0.0}).passes(masks).all()


def test_a_value_just_at_the_threshold_is_kept():
    assert Gate(iou_pred=0.5, stability=10 / 16, agreement=0.5).passes(refined([(0.5, 10 / 16, 0.5)])).all()


def test_a_click_that_agrees_with_nothing_passes_and_no_mask_does_not():
    masks = refined([(0.9, 1, np.nan), (0.9, 1, 1)], [SQUARE, None])
    assert STRICT.passes(masks).tolist() == [True, False]


def test_stability_is_a_share_of_pixels():
    assert stability(logits(doubtful=5)) == pytest.approx(10 / 15)
    assert stability(logits()) == 1


def test_agreement_is_a_share_of_pixels():
    assert agreement(logits(doubtful=5), support(5, 20)) == pytest.approx(10 / 20)
    assert agreement(logits(), support(7, 20)) == pytest.approx(3 / 20)


def test_half_a_pixel_of_support_counts_and_less_does_not():
    assert agreement(logits(), support() * 0.5) == 1
    assert agreement(logits(), support() * 0.49) == 0


def test_an_empty_mask_divides_nothing_by_zero():
    nothing = np.full((20, 20), -5, np.float32)
    assert stability(nothing) == 0
    assert agreement(nothing, support(0, 0)) == 0


def test_figures_have_the_names_of_the_gates_thresholds():
    assert set(FIGURES) == set(Gate.model_fields)
    assert isinstance(refined([(1, 1, 1)]).rows, gpd.GeoDataFrame)


def test_the_outline_of_a_mask_that_passes_is_chosen_and_elsewhere_the_coarse_one():
    mask = shapely.box(1, 1, 9, 9)
    masks = refined([(0.9, 1, 1), (0.1, 1, 1), (0.9, 1, 1)], [mask, mask, None])
    chosen = STRICT.choose(masks)
    assert chosen["id"].tolist() == ["0", "1", "2"]
    assert chosen["origin"].tolist() == ["refined", "coarse", "coarse"]
    assert chosen.geometry.tolist() == [mask, SQUARE, SQUARE]
    assert chosen["iou_pred"].tolist() == [0.9, 0.1, 0.9]


def test_a_click_without_a_mask_has_no_outline():
    click = ("click", "building", 1.0, 5.0, 5.0, shapely.MultiPoint([(5, 5)]), shapely.MultiPoint(), None)
    prompts = Prompts.from_records([click, ("a", *click[1:-1], SQUARE)], "EPSG:32645")
    assert STRICT.choose(Refined.from_prompts(prompts))["id"].tolist() == ["a"]

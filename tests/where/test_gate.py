from __future__ import annotations

import numpy as np
import pytest

from hybridseg.theme import Gate
from hybridseg.where.gate import Verdict, judge

OPEN = Gate(iou_pred=0, stability=0, agreement=0)
STRICT = Gate(iou_pred=0.5, stability=0.6, agreement=0.4)


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


def test_a_good_mask_is_kept():
    assert judge(logits(), support(), 0.9, STRICT) == Verdict(0.9, 1.0, 1.0, True)


@pytest.mark.parametrize(
    ("mask", "cover", "iou", "criterion"),
    [
        (logits(), support(), 0.4, "iou_pred"),
        (logits(doubtful=8), support(0, 18), 0.9, "stability"),  # 10 of 18 rows are sure
        (logits(), support(7, 20), 0.9, "agreement"),  # 3 of 20 rows are common
    ],
)
def test_each_criterion_alone_refuses(mask: np.ndarray, cover: np.ndarray, iou: float, criterion: str):
    verdict = judge(mask, cover, iou, STRICT)
    assert not verdict.kept
    below = [name for name in ("iou_pred", "stability", "agreement") if getattr(verdict, name) < getattr(STRICT, name)]
    assert below == [criterion]
    assert judge(mask, cover, iou, STRICT.model_copy(update={criterion: 0.0})).kept


def test_measures_are_shares_of_pixels():
    verdict = judge(logits(doubtful=5), support(5, 20), 0.3, OPEN)
    assert verdict.stability == pytest.approx(10 / 15)
    assert verdict.agreement == pytest.approx(10 / 20)
    assert verdict.iou_pred == 0.3


def test_a_value_just_at_the_threshold_is_kept():
    exact = Gate(iou_pred=0.5, stability=10 / 16, agreement=0.5)
    assert judge(logits(doubtful=6), support(8, 16), 0.5, exact) == Verdict(0.5, 10 / 16, 0.5, True)


def test_half_a_pixel_of_support_counts_and_less_does_not():
    half, less = support() * 0.5, support() * 0.49
    assert judge(logits(), half, 0.9, OPEN).agreement == 1
    assert judge(logits(), less, 0.9, OPEN).agreement == 0


def test_an_empty_mask_is_refused_by_any_threshold_and_divides_nothing_by_zero():
    nothing = np.full((20, 20), -5, np.float32)
    verdict = judge(nothing, support(0, 0), 0.9, STRICT)
    assert verdict == Verdict(0.9, 0.0, 0.0, False)

from __future__ import annotations

import numpy as np

from hybridseg.where.refine import hint_logits


def test_logits_are_sure_inside_and_undecided_on_the_outline():
    assert hint_logits(np.array([0.0, 0.5, 1.0])).tolist() == [-6.0, 0.0, 6.0]

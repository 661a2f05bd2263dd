from __future__ import annotations

import numpy as np

from hybridseg.where.hints import POINTS, hint_logits, stand_in


def test_logits_are_sure_inside_and_undecided_on_the_outline():
    assert hint_logits(np.array([0.0, 0.5, 1.0])).tolist() == [-6.0, 0.0, 6.0]


def test_a_box_stands_in_as_its_area_and_a_point_as_a_disc():
    points, labels = np.zeros((3, POINTS, 2), np.float32), np.full((3, POINTS), -1, np.int32)
    points[0, :2], labels[0, :2] = [(16, 32), (64, 96)], [2, 3]
    points[1, :2], labels[1, :2] = [(64, 64), (20, 20)], [1, 0]
    box, disc, nothing = stand_in(points, labels, 128)
    assert box.shape == (32, 32)
    assert box.sum() == (64 - 16) / 4 * (96 - 32) / 4
    assert disc[15:17, 15:17].all()
    assert not disc[5, 5]
    assert abs(disc.sum() - np.pi * (0.05 * 32) ** 2) < 4
    assert not nothing.any()

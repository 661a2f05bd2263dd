from __future__ import annotations

import numpy as np
import pytest

from hybridseg.turns import TURNS, Turn

IMAGE = np.arange(2 * 6 * 6).reshape(2, 6, 6)


def test_there_are_eight_and_the_image_as_it_is_comes_first():
    assert len({turn(IMAGE).tobytes() for turn in TURNS}) == 8
    np.testing.assert_array_equal(TURNS[0](IMAGE), IMAGE)


@pytest.mark.parametrize("turn", TURNS)
def test_back_undoes_it(turn: Turn):
    np.testing.assert_array_equal(turn.back(turn(IMAGE)), IMAGE)


@pytest.mark.parametrize("turn", TURNS)
def test_a_point_stays_on_its_pixel(turn: Turn):
    x, y = turn.of_points(np.array([[4.5, 1.5]]), 6)[0]
    assert turn(IMAGE)[0, int(y), int(x)] == IMAGE[0, 1, 4]

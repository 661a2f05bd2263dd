from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine

from hybridseg.theme import GridPolicy
from hybridseg.types import Window
from hybridseg.what.grid import FindGrid, mean_inside
from hybridseg.what.prompts import Lattice

LATTICE = Lattice(Affine(0.5, 0, 500_000, 0, -0.5, 3_000_000), "EPSG:32645", (1_000_003, -6_000_000), 0.5)


def test_points_stand_on_one_lattice_whatever_the_blocks():
    find = FindGrid("building", GridPolicy(step_m=5, object_m=8), LATTICE)
    nothing = np.zeros((0, 0), np.float32)
    whole = find.join([find(nothing, nothing, w, w) for w in [Window(0, 0, 100, 60)]])
    parts = find.join([find(nothing, nothing, w, w) for w in [Window(0, 0, 33, 60), Window(33, 0, 67, 60)]])
    assert len(whole) == 10 * 6
    assert parts["id"].tolist() == whole["id"].tolist()
    assert np.diff(np.unique(whole["peak_x"])) == pytest.approx([5.0] * 9)
    assert whole.geometry.area.to_numpy() == pytest.approx(64.0)


def test_mean_extent_under_an_outline():
    extent = np.zeros((20, 20), np.float32)
    extent[:, 10:] = 1
    outline = shapely.box(500_000 + 4, 3_000_000 - 8, 500_000 + 6, 3_000_000 - 2)  # columns 8 to 12
    assert mean_inside(outline, extent, Window(0, 0, 20, 20), LATTICE) == pytest.approx(0.5)
    assert mean_inside(outline, extent[:, 5:], Window(5, 0, 15, 20), LATTICE) == pytest.approx(0.5)
    assert mean_inside(shapely.box(0, 0, 1, 1), extent, Window(0, 0, 20, 20), LATTICE) == 0

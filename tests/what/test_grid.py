from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine

from hybridseg.rowfile import PackedRows
from hybridseg.types import Window
from hybridseg.what.grid import Grid, mean_inside
from hybridseg.what.lattice import Block, Lattice

LATTICE = Lattice(Affine(0.5, 0, 500_000, 0, -0.5, 3_000_000), "EPSG:32645", (1_000_003, -6_000_000), 0.5)


def points(cores: list[Window], valid: bool = True) -> gpd.GeoDataFrame:
    grid, found = Grid(step_m=5, object_m=8), []
    for core in cores:
        shape = (core.height, core.width)
        block = Block(np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.full(shape, valid), core, core)
        found.append(PackedRows.of(grid.find(block, LATTICE, "building")))
    return grid.gather(found, LATTICE, "building").rows


def test_there_are_no_points_where_there_is_no_imagery():
    assert len(points([Window(0, 0, 100, 60)], valid=False)) == 0


def test_points_stand_on_one_lattice_whatever_the_blocks():
    whole = points([Window(0, 0, 100, 60)])
    parts = points([Window(0, 0, 33, 60), Window(33, 0, 67, 60)])
    assert len(whole) == 10 * 6
    assert parts["id"].tolist() == whole["id"].tolist()
    assert np.diff(np.unique(whole["peak_x"])) == pytest.approx([5.0] * 9)
    assert whole.geometry.area.to_numpy() == pytest.approx(64.0)


def test_mean_extent_under_an_outline():
    extent = np.zeros((20, 20), np.float32)
    extent[:, 10:] = 1
    outline = shapely.transform(shapely.box(500_004, 2_999_992, 500_006, 2_999_998), LATTICE.to_px)  # columns 8 to 12
    assert mean_inside(outline, extent, Window(0, 0, 20, 20)) == pytest.approx(0.5)
    assert mean_inside(outline, extent[:, 5:], Window(5, 0, 15, 20)) == pytest.approx(0.5)
    assert mean_inside(shapely.box(-90, -90, -80, -80), extent, Window(0, 0, 20, 20)) == 0

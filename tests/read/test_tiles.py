"""Cores partition the grid, whatever their size and offset."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridseg.read.tiles import tile
from hybridseg.types import Window

sizes = st.integers(1, 70)


@given(st.tuples(sizes, sizes), st.integers(1, 40), st.integers(-50, 90))
def test_cores_partition_the_grid(shape: tuple[int, int], core_px: int, offset_px: int) -> None:
    count = np.zeros(shape, int)
    grid = Window(0, 0, shape[1], shape[0])
    for core in tile(shape, core_px, offset_px):
        assert 0 < core.width <= core_px
        assert 0 < core.height <= core_px
        assert core.clip(grid) == core
        count[core.slices(grid)] += 1
    assert (count == 1).all()


@given(st.tuples(sizes, sizes), st.integers(1, 40), st.integers(0, 30))
def test_padded_windows_contain_their_cores(shape: tuple[int, int], core_px: int, halo_px: int) -> None:
    for core in tile(shape, core_px):
        padded = core.pad(halo_px)
        assert core.clip(padded) == core
        rows, cols = core.slices(padded)
        assert (rows.start, cols.start) == (halo_px, halo_px)
        assert (rows.stop, cols.stop) == (halo_px + core.height, halo_px + core.width)


def test_rows_come_first_and_the_offset_shortens_the_first_core() -> None:
    cores = tile((5, 10), core_px=4, offset_px=9)
    assert [(w.row, w.col) for w in cores] == [(r, c) for r in (0, 1) for c in (0, 1, 5, 9)]
    assert [w.width for w in cores[:4]] == [1, 4, 4, 1]


def test_a_whole_number_of_cores_makes_an_offset_of_none() -> None:
    assert tile((5, 10), core_px=4, offset_px=8) == tile((5, 10), core_px=4)


def test_an_empty_grid_has_no_windows() -> None:
    assert tile((0, 10), core_px=4) == []


def test_a_core_needs_a_size() -> None:
    with pytest.raises(ValueError, match="core_px must be at least 1, got 0"):
        tile((5, 5), core_px=0)

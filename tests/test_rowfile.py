from __future__ import annotations

import numpy as np
import shapely

from hybridseg.rowfile import AT_ONCE, GatheredShapes, drawn_of


def test_geometries_are_put_where_their_rows_are_whatever_the_order():
    gathered = GatheredShapes()
    gathered.put([3, 0], shapely.points([[3, 3], [0, 0]]))
    gathered.put([], np.array([], object))
    gathered.put([2], np.array([None]))
    drawn = drawn_of(gathered.column(5))
    assert [None if each is None else each.x for each in drawn] == [0, None, None, 3, None]


def test_nothing_gathered_is_all_missing():
    assert GatheredShapes().column(2).to_pylist() == [None, None]
    assert len(drawn_of(GatheredShapes().column(0))) == 0


def test_more_rows_than_are_drawn_at_once():
    gathered, count = GatheredShapes(), 2 * AT_ONCE + 1
    gathered.put(range(count)[::-1], shapely.points(np.arange(count)[::-1], 0))
    assert [each.x for each in drawn_of(gathered.column(count))] == list(range(count))

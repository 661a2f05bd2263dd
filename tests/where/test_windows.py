from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridseg.types import Window
from hybridseg.where.windows import MARGIN, ObjectWindows

boxes = st.tuples(st.floats(0, 20_000), st.floats(0, 20_000), st.floats(1, 3000), st.floats(1, 3000))


def lattice(
    anchor: tuple[int, int] = (0, 0), model_px: int = 512, span: float = 0.3, max_zoom: float = 4
) -> ObjectWindows:
    return ObjectWindows(model_px, span, max_zoom, anchor)


@given(boxes, st.sampled_from([256, 512, 1024]), st.floats(0.1, 0.7), st.floats(1, 8))
def test_every_box_lies_inside_its_window_with_a_margin(box, model_px, span, max_zoom):
    x, y, w, h = box
    windows, large = lattice((0, 0), model_px, span, max_zoom).assign(np.array([[x, y, x + w, y + h]]))
    if len(large):
        assert max(w, h) > span * 8000
        return
    (window,) = windows
    margin = MARGIN * window.width - 2  # whole-pixel corners
    assert window.col + margin <= x
    assert window.row + margin <= y
    assert x + w <= window.stop[0] - margin
    assert y + h <= window.stop[1] - margin
    assert window.width >= model_px / max_zoom


@given(boxes, st.integers(-500, 500), st.integers(-500, 500))
def test_a_window_does_not_depend_on_where_the_raster_was_cut(box, dx, dy):
    x, y, w, h = box
    (whole,), _ = lattice((0, 0)).assign(np.array([[x, y, x + w, y + h]]))
    (cut,), _ = lattice((dx, dy)).assign(np.array([[x - dx, y - dy, x + w - dx, y + h - dy]]))
    assert (cut.col + dx, cut.row + dy, cut.width) == (whole.col, whole.row, whole.width)


def test_near_objects_of_like_size_share_a_window_and_large_ones_zoom_out():
    step = lattice().step_px(128)
    at = 10 * step + 10
    near = [[at, at, at + 30, at + 30], [at + 35, at, at + 65, at + 28], [at, at, at + 300, at + 200]]
    windows, _ = lattice().assign(np.array(near, float))
    assert sorted((w.width, tuple(rows)) for w, rows in windows.items()) == [(128, (0, 1)), (1024, (2,))]


def test_nothing_is_assigned_to_no_boxes_and_the_largest_are_told():
    windows, large = lattice().assign(np.zeros((0, 4)))
    assert not windows
    assert not len(large)
    windows, large = lattice().assign(np.array([[0, 0, 30_000, 10.0]]))
    assert not windows
    assert large.tolist() == [0]


def test_count_covers_the_raster():
    one = lattice().count(Window(0, 0, 10, 10), {128})
    assert one == 1
    assert lattice().count(Window(0, 0, 1000, 1000), {128}) == int(np.ceil(1000 / lattice().step_px(128))) ** 2


def test_span_out_of_range_is_refused():
    with pytest.raises(ValueError, match="span"):
        lattice(span=0.95)


@given(st.lists(boxes, min_size=1, max_size=8))
def test_an_object_is_seen_at_one_zoom_by_refiners_of_any_image(many):
    asked = np.array([[x, y, x + w, y + h] for x, y, w, h in many])
    zooms = []
    for model_px in (512, 1024):
        windows, large = ObjectWindows.of_objects(model_px, 0.3, 2.0, (0, 0)).assign(asked)
        zoom = dict.fromkeys(large.tolist(), 0.0)
        zooms.append(zoom | {int(row): model_px / w.width for w, rows in windows.items() for row in rows})
        for window, rows in windows.items():
            margin = 0.05 * 512 / model_px * window.width - 2
            x0, y0, x1, y1 = asked[rows].T
            assert min(x0.min() - window.col, y0.min() - window.row) >= margin
            assert min(window.stop[0] - x1.max(), window.stop[1] - y1.max()) >= margin
    assert zooms[0] == zooms[1]


def test_a_larger_image_takes_fewer_windows_for_the_same_ground():
    ground = Window(0, 0, 100_000, 100_000)
    small, large = (ObjectWindows.of_objects(px, 0.3, 2.0, (0, 0)) for px in (512, 1024))
    # four times the pixels, and a smaller share of them is overlap
    assert small.count(ground, {256}) > 6.5 * large.count(ground, {512})

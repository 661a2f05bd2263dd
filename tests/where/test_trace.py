"""From logits to an outline: discs and rectangles of known size on sources of several orientations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely

from hybridseg.read.opening import open_scene
from hybridseg.read.scene import Scene
from hybridseg.types import Window
from hybridseg.where.trace import trace
from tests.conftest import blocks_image
from tests.rasters import make

SIDE, GSD = 256, 0.3
WINDOW = Window(40, 60, 128, 128)
MASK_PX = 64
"""A decoder pixel is two source pixels wide."""
NONE = np.zeros((0, 2))
VALID = np.ones((256, 256), np.bool_)


@pytest.fixture
def source(tmp_path: Path) -> Scene:
    return open_scene(make("utm", tmp_path, blocks_image(SIDE), GSD))


def disc(col: float, row: float, radius: float, window: Window = WINDOW) -> np.ndarray:
    """Logits of a disc; all in source pixels."""
    step = window.width / MASK_PX
    y, x = (np.mgrid[:MASK_PX, :MASK_PX] + 0.5) * step
    return (radius - np.hypot(x + window.col - col, y + window.row - row)).astype(np.float32)


def around(col: float, row: float, radius: float = 5) -> shapely.Polygon:
    return shapely.Point(col, row).buffer(radius)


def in_pixels(outline: shapely.Polygon, source: Scene) -> shapely.Polygon:
    to_px = ~source.geobox.affine
    return shapely.transform(outline, lambda x, y: to_px * (x, y), interleaved=False)


@pytest.mark.parametrize("kind", ["utm", "rotated", "south_up"])
@pytest.mark.parametrize("radius", [8.3, 20.0, 41.7])
def test_a_disc_is_traced_where_it_is_and_as_large_as_it_is(kind: str, radius: float, tmp_path: Path):
    source = open_scene(make(kind, tmp_path, blocks_image(SIDE), GSD))
    col, row = 101.3, 120.8
    outline = trace(disc(col, row, radius), WINDOW, source, VALID, around(col, row), NONE)
    assert outline is not None
    assert outline.is_valid
    assert outline.area == pytest.approx(np.pi * (radius * GSD) ** 2, rel=0.03)
    x, y = source.geobox.affine * (col, row)
    assert outline.centroid.distance(shapely.Point(x, y)) < 0.1 * GSD
    truth = shapely.Point(x, y).buffer(radius * GSD)
    assert outline.intersection(truth).area / outline.union(truth).area > 0.9


def test_outlines_run_along_source_pixels_finer_than_the_decoders(source: Scene):
    outline = trace(disc(101.3, 120.8, 20), WINDOW, source, VALID, around(101.3, 120.8), NONE)
    corners = shapely.get_coordinates(in_pixels(outline, source))
    assert np.abs(corners - corners.round()).max() < 1e-4
    assert (corners.round() % 2 == 1).any(axis=0).all(), "every corner lies on the decoder's grid"


def test_what_lies_outside_the_raster_is_cut_off(source: Scene):
    window = Window(-64, 30, 128, 128)
    outline = trace(disc(0, 100, 20, window), window, source, VALID, around(5, 100), NONE)
    assert outline.area == pytest.approx(np.pi * (20 * GSD) ** 2 / 2, rel=0.03)
    raster = shapely.box(*source.geobox.boundingbox)
    assert raster.buffer(1e-6).contains(outline)


def test_nodata_is_cut_off(source: Scene):
    valid = VALID.copy()
    valid[:, 128:] = False  # beyond the window's middle, column 104
    outline = trace(disc(104, 120, 20), WINDOW, source, valid, around(104, 120), NONE)
    assert outline.area == pytest.approx(np.pi * (20 * GSD) ** 2 / 2, rel=0.03)
    assert in_pixels(outline, source).bounds[2] == pytest.approx(104, abs=1e-4)


def test_holes_are_kept(source: Scene):
    ring = np.minimum(disc(100, 120, 30), -disc(100, 120, 12))
    outline = trace(ring, WINDOW, source, VALID, around(100, 120, 20), NONE)
    assert len(outline.interiors) == 1
    assert outline.area == pytest.approx(np.pi * (30**2 - 12**2) * GSD**2, rel=0.03)


def test_the_part_that_overlaps_the_support_most_wins(source: Scene):
    both = np.maximum(disc(75, 100, 20), disc(135, 150, 9))
    small = trace(both, WINDOW, source, VALID, around(135, 150), NONE)
    large = trace(both, WINDOW, source, VALID, around(75, 100), NONE)
    assert small.area == pytest.approx(np.pi * (9 * GSD) ** 2, rel=0.03)
    assert large.area == pytest.approx(np.pi * (20 * GSD) ** 2, rel=0.03)


def test_without_overlap_the_largest_part_wins(source: Scene):
    both = np.maximum(disc(75, 100, 20), disc(135, 150, 9))
    outline = trace(both, WINDOW, source, VALID, around(160, 65, 3), NONE)
    assert outline.area == pytest.approx(np.pi * (20 * GSD) ** 2, rel=0.03)


def test_without_a_support_the_part_under_the_points_wins(source: Scene):
    both = np.maximum(disc(75, 100, 20), disc(135, 150, 9))
    small = trace(both, WINDOW, source, VALID, None, np.array([[135.0, 150.0]]))
    assert small.area == pytest.approx(np.pi * (9 * GSD) ** 2, rel=0.03)


def test_parts_that_meet_at_a_corner_only_stay_apart(source: Scene):
    window = Window(0, 0, MASK_PX, MASK_PX)
    logits = np.full((MASK_PX, MASK_PX), -1, np.float32)
    logits[10:20, 10:20] = logits[20:26, 20:26] = 1
    outline = trace(logits, window, source, np.ones((MASK_PX, MASK_PX), np.bool_), shapely.box(21, 21, 25, 25), NONE)
    assert outline.is_valid
    assert in_pixels(outline, source).equals_exact(shapely.box(20, 20, 26, 26), 1e-4, normalize=True)


@pytest.mark.parametrize("nothing", ["mask", "raster", "valid"])
def test_nothing_is_none(nothing: str, source: Scene):
    window = Window(-300, 0, 128, 128) if nothing == "raster" else WINDOW
    col, row = window.col + 64, window.row + 64
    logits = disc(col, row, -5 if nothing == "mask" else 20, window)
    valid = np.zeros_like(VALID) if nothing == "valid" else VALID
    assert trace(logits, window, source, valid, around(col, row), NONE) is None

"""Grids are anchored in the CRS, so a cut of a raster is a crop of its grids."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from hybridseg.errors import EmptySource
from hybridseg.read.ground import pixel_anchor, work_grid
from hybridseg.read.raster import RasterScene
from tests.rasters import KINDS, cut, make

size = st.floats(1e-6, 1e3, allow_subnormal=False)
place = st.floats(-1e7, 1e7).map(lambda v: round(v, 3))
offset = st.integers(-5_000, 5_000)


@given(size, st.floats(0.4, 2.5), place, place, st.sampled_from([0, 15, 90, 200]), st.booleans(), offset, offset)
def test_cuts_have_anchors_that_differ_by_their_offset(
    px: float, aspect: float, x: float, y: float, degrees: float, south_up: bool, col: int, row: int
) -> None:
    py = px * aspect
    x, y = x * px, y * py  # up to ten million pixels from the origin, as real rasters are
    linear = Affine.rotation(degrees) @ Affine.scale(px, py if south_up else -py)
    whole = GeoBox((10, 10), Affine.translation(x, y) @ linear, "EPSG:3857")
    part = GeoBox((10, 10), whole.affine @ Affine.translation(col, row), "EPSG:3857")
    c, r = pixel_anchor(whole)
    assert pixel_anchor(part) == (c + col, r + row)


@pytest.mark.parametrize(("x", "y", "anchor"), [(0.0, 0.0, (0, 0)), (6.0, -4.2, (20, 14)), (6.1, -4.1, (20, 14))])
def test_the_anchor_counts_pixels_from_the_origin(x: float, y: float, anchor: tuple[int, int]) -> None:
    assert pixel_anchor(GeoBox((5, 5), Affine(0.3, 0, x, 0, -0.3, y), "EPSG:3857")) == anchor


def corners(geobox: GeoBox) -> np.ndarray:
    matrix = np.array(tuple(geobox.affine)).reshape(3, 3)
    w, h = geobox.width, geobox.height
    return (matrix @ np.array([[0, w, 0, w], [0, 0, h, h], [1, 1, 1, 1]]))[:2]


@pytest.mark.parametrize("kind", KINDS)
def test_the_working_grid_just_covers_the_source(kind: str, tmp_path: Path) -> None:
    source = RasterScene.open(make(kind, tmp_path))
    grid = work_grid(source, gsd_m=0.5, snap_px=16)
    mx, my = source.metres_per_unit
    assert grid.crs == source.crs
    assert grid.affine.a * mx == pytest.approx(0.5)
    assert -grid.affine.e * my == pytest.approx(0.5)
    assert grid.affine.b == grid.affine.d == 0
    assert all(v % 16 == 0 for v in (*pixel_anchor(grid), *grid.shape))
    outer, inner = corners(grid), corners(source.geobox)
    for slack in (inner.min(axis=1) - outer.min(axis=1), outer.max(axis=1) - inner.max(axis=1)):
        assert (slack * (mx, my) > -1e-4).all()
        assert (slack * (mx, my) < 16 * 0.5 + 1e-4).all()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["utm", "epsg4326", "web_mercator", "rotated", "south_up"]),
    col=st.integers(0, 60), row=st.integers(0, 40), gsd_m=st.sampled_from([0.25, 0.3, 0.5, 1.7]),
)  # fmt: skip
def test_the_grid_of_a_cut_is_a_crop_of_the_grid_of_the_whole(kind: str, col: int, row: int, gsd_m: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = make(kind, Path(folder))
        whole = work_grid(RasterScene.open(path), gsd_m, snap_px=32)
        part = work_grid(RasterScene.open(cut(path, Path(folder) / "part.tif", col, row, 60, 50)), gsd_m, snap_px=32)
    to_whole = ~whole.affine @ part.affine
    assert to_whole.almost_equals(Affine.translation(round(to_whole.c), round(to_whole.f)), 1e-6)
    assert round(to_whole.c) % 32 == 0
    assert round(to_whole.f) % 32 == 0
    assert 0 <= round(to_whole.c) <= whole.width - part.width
    assert 0 <= round(to_whole.f) <= whole.height - part.height


def test_bounds_choose_the_extent(tmp_path: Path) -> None:
    source = RasterScene.open(make("utm", tmp_path))
    left, bottom, _right, _top = source.geobox.boundingbox.bbox
    part = work_grid(source, 0.5, 8, (left + 10, bottom + 10, left + 14, bottom + 14))
    xs, ys = corners(part)
    assert left + 6 <= xs.min() <= left + 10
    assert left + 14 <= xs.max() <= left + 18
    assert bottom + 6 <= ys.min() <= bottom + 10
    assert bottom + 14 <= ys.max() <= bottom + 18


def test_bounds_on_a_snap_line_do_not_add_a_row(tmp_path: Path) -> None:
    source = RasterScene.open(make("utm", tmp_path))
    grid = work_grid(source, 0.3, 8)
    xs, ys = corners(grid)
    assert work_grid(source, 0.3, 8, (xs.min(), ys.min(), xs.max(), ys.max())) == grid


@pytest.mark.parametrize("bounds", [(0.0, 0.0, 1.0, 1.0), (512_350.0, 5_240_300.0, 512_350.0, 5_240_310.0)])
def test_bounds_that_miss_the_source_are_refused(tmp_path: Path, bounds: tuple[float, float, float, float]) -> None:
    with pytest.raises(EmptySource, match=r"^the extent .*$"):
        work_grid(RasterScene.open(make("utm", tmp_path)), 0.5, 8, bounds)

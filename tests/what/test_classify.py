"""The first sweep on several scales."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from hybridseg.read.opening import open_scene
from hybridseg.types import Window
from hybridseg.what.classify import Classify
from tests.doubles import Bright


def test_of_several_scales_the_highest_probability_counts_in_its_place() -> None:
    image = np.full((3, 256, 256), 40, np.uint8)
    image[:, 64:96, 128:192] = 255
    scene = open_scene(image, geobox=GeoBox((256, 256), Affine(1, 0, 512, 0, -1, 2048), "EPSG:32631"))
    grid, whole = scene.geobox, Window(0, 0, 256, 256)
    one, two, both = (Classify(Bright(), scales)(scene, grid, whole, whole) for scales in ((1,), (2,), (1, 2)))
    assert one.window == two.window == both.window
    assert (both.values == np.maximum(one.values, two.values)).all()
    assert both.valid.all()
    for part in (one, two):
        rows, cols = np.nonzero(part.values[0] > 0.5)
        stride = Bright().spec.stride
        assert np.abs(np.array([rows.min(), rows.max() + 1]) * stride - (64, 96)).max() <= 2 * stride
        assert np.abs(np.array([cols.min(), cols.max() + 1]) * stride - (128, 192)).max() <= 2 * stride


def test_a_grid_for_several_scales_snaps_to_the_coarsest() -> None:
    assert Classify(Bright(), (1, 4)).snap_px == 4 * Bright().spec.snap_px


class Lopsided(Bright):
    """Bright, with a slope from the window's upper left corner to its lower right one."""

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        heat = super().predict(pixels)
        rows, cols = (np.linspace(0, 0.2, side, dtype=np.float32) for side in heat.shape[1:])
        return heat * 0.5 + rows[:, None] + 2 * cols


@pytest.mark.parametrize(("looks", "even"), [(1, False), (2, False), (4, True), (8, True)])
def test_what_depends_on_the_windows_sides_cancels_out_in_several_looks(looks: int, even: bool) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (3, 256, 512), np.uint8)
    scene = open_scene(image, geobox=GeoBox((256, 512), Affine(1, 0, 512, 0, -1, 2048), "EPSG:32631"))
    whole = Window(0, 0, 512, 256)
    plain = Classify(Bright())(scene, scene.geobox, whole, whole).values
    seen = Classify(Lopsided(), looks=looks)(scene, scene.geobox, whole, whole).values
    added = seen - 0.5 * plain
    assert (added.max() - added.min() < 1e-5) == even
    assert added.mean() == pytest.approx(0.3, abs=0.05)

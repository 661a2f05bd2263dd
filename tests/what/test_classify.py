"""The first sweep on several scales."""

from __future__ import annotations

import numpy as np
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

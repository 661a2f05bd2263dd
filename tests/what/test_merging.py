from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from pydantic import ValidationError
from scipy import ndimage as ndi

from hybridseg.theme import load_theme
from hybridseg.types import Window
from hybridseg.what.instances import Instances, find_objects
from hybridseg.what.lattice import Block, Lattice
from hybridseg.what.merging import FIGURES, Merging, borders

NONE = dict.fromkeys(FIGURES, 0.0)
PIXEL_M = 0.5


def merging(**weights: float) -> Merging:
    return Merging(**(NONE | {"constant": 0.0} | weights))


def column(figure: str) -> int:
    return FIGURES.index(figure)


def three_in_a_row() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parts 1 and 2 with a shallow dip between them, 2 and 3 with a deep one; 3 is half as wide."""
    labels = np.zeros((40, 80), np.int32)
    labels[10:30, 10:30], labels[10:30, 30:50], labels[10:30, 50:60] = 1, 2, 3
    interior = (labels > 0) * np.float32(0.8)
    interior[:, 29:31] *= 0.75
    interior[:, 49:51] *= 0.25
    return labels, (labels > 0).astype(np.float32), interior


def seen(labels: np.ndarray, extent: np.ndarray, interior: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    pairs, figures = borders(labels, extent, interior, np.ones(labels.shape, bool), PIXEL_M, 25)
    return {(int(a), int(b)): row for (a, b), row in zip(pairs, figures, strict=True)}


def test_figures_say_how_deep_the_dip_is_and_how_the_sizes_compare():
    found = seen(*three_in_a_row())
    assert found.keys() == {(1, 2), (2, 3)}
    shallow, deep = found[1, 2], found[2, 3]
    assert shallow[column("saddle")] == pytest.approx(0.75)
    assert deep[column("saddle")] == pytest.approx(0.25)
    assert shallow[column("interior")] == pytest.approx(0.6)
    assert 0.25 < deep[column("blurred")] < shallow[column("blurred")]  # narrow dips fill up
    assert shallow[column("extent")] == 1
    assert shallow[column("sizes")] == pytest.approx(0)
    assert deep[column("sizes")] == pytest.approx(np.log(0.5))
    assert np.exp(shallow[column("width")]) == pytest.approx(9, abs=1)  # 10, 10 and 7 m


def test_cover_is_of_the_ground_that_is_known():
    labels, extent, interior = three_in_a_row()
    everywhere = seen(labels, extent, interior)[1, 2][column("cover")]
    _, figures = borders(labels, extent, interior, labels > 0, PIXEL_M, 25)
    assert everywhere < 0.6
    assert figures[0, column("cover")] == pytest.approx(1)


def test_parts_are_merged_where_the_weighted_sum_is_above_zero():
    labels, extent, interior = three_in_a_row()
    known = np.ones(labels.shape, bool)
    by_dip = merging(constant=-0.5, saddle=1.0)
    assert by_dip.merged(labels, extent, interior, known, PIXEL_M).tolist() == [0, 1, 1, 2]
    assert merging(constant=-2.0).merged(labels, extent, interior, known, PIXEL_M).tolist() == [0, 1, 2, 3]
    assert merging(constant=1.0).merged(labels, extent, interior, known, PIXEL_M).tolist() == [0, 1, 1, 1]


def test_no_parts_no_borders():
    nothing = np.zeros((20, 20), np.int32)
    zero = nothing.astype(np.float32)
    assert merging(constant=1.0).merged(nothing, zero, zero, nothing == 0, PIXEL_M).tolist() == [0]


def test_a_merged_object_has_one_peak_and_the_ground_of_its_parts():
    _, extent, interior = three_in_a_row()
    policy = Instances(smooth_m=0, rise=0.1, merge=merging(constant=-0.5, saddle=1.0))
    found = find_objects(extent, interior, policy, PIXEL_M)
    apart = find_objects(extent, interior, policy.model_copy(update={"merge": None}), PIXEL_M)
    assert (len(apart.peaks), len(found.peaks)) == (3, 2)
    assert sorted(found.area_px.tolist()) == sorted([apart.area_px[0] + apart.area_px[1], apart.area_px[2]])
    assert [found.labels[row, col] for row, col in found.peaks] == [1, 2]


def test_the_same_dip_is_a_gap_among_huts_and_a_ridge_on_a_hall():
    """What the theme's own weights are for."""
    objects = load_theme("buildings").objects
    assert isinstance(objects, Instances)

    def count(side_px: int) -> int:
        """Objects of a row of two square parts with a dip to a fifth, among others of the same size."""
        labels = np.zeros((400, 400), np.int32)
        step = 2 * side_px + 8
        for row in range(8, 400 - side_px, side_px + 8):
            for col in range(8, 400 - 2 * side_px, step):
                labels[row : row + side_px, col : col + 2 * side_px] = 1
        interior = labels * np.float32(0.8)
        interior[:, 8 + side_px - 1 :: step] *= 0.2
        interior[:, 8 + side_px :: step] *= 0.2
        return len(find_objects(labels.astype(np.float32), interior, objects, PIXEL_M).peaks)

    assert count(8) == 2 * 24 * 16
    assert count(40) == 8 * 4


def test_what_is_merged_does_not_depend_on_the_blocks():
    objects = load_theme("buildings").objects.model_copy(update={"max_object_m": 40.0})
    random = np.random.default_rng(5)
    labels = np.zeros((700, 700), np.int32)
    for number in range(1, 400):
        row, col = random.integers(0, 690, 2)
        height, width = random.integers(6, 30, 2)
        labels[row : row + height, col : col + width] = number
    deep = np.zeros(labels.shape)
    for number, where in enumerate(ndi.find_objects(labels), 1):
        if where is not None:
            inside = np.pad(labels[where] == number, 1)
            own = ndi.distance_transform_edt(inside)[1:-1, 1:-1]
            deep[where] = np.maximum(deep[where], np.minimum(own / 8, 1))
    interior = ndi.gaussian_filter(np.minimum(deep, 1), 1.5).astype(np.float32)
    extent = ndi.gaussian_filter((interior > 0.1).astype(np.float32), 1)
    lattice = Lattice(Affine(PIXEL_M, 0, 500_000, 0, -PIXEL_M, 3_000_000), "EPSG:32645", (0, 0), PIXEL_M)
    everything = Window(0, 0, 700, 700)

    def found(core: Window, window: Window) -> gpd.GeoDataFrame:
        part = window.slices(everything)
        valid = np.ones(extent[part].shape, bool)
        return objects.find(Block(extent[part], interior[part], valid, window, core), lattice, "building")

    whole = found(everything, everything).set_index("id")
    apart = find_objects(extent, interior, objects.model_copy(update={"merge": None}), PIXEL_M)
    assert 20 < len(whole) < len(apart.peaks) / 1.2  # there is something to merge
    core = Window(260, 260, 180, 180)
    middle = found(core, core.pad(objects.halo_px(lattice)).clip(everything)).set_index("id")
    assert len(middle) > 5
    assert whole.loc[middle.index].geometry.geom_equals(middle.geometry).all()


def test_a_theme_must_give_every_weight():
    with pytest.raises(ValidationError, match="cover"):
        Merging(**{name: 0.0 for name in FIGURES if name != "cover"}, constant=0.0)

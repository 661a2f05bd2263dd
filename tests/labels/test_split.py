"""Training and validation ground share no object, and validation comes in two folds."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from hybridseg.errors import ThemeError
from hybridseg.labels.images import LabelledImage
from hybridseg.labels.split import Split, SplitBlocks, cross_fits
from townscape import render_town

SIDE = 400


def scattered(seed: int, count: int, length: int = 12, side: int = SIDE) -> np.ndarray:
    """Squares at random, which hide parts of each other."""
    ids = np.zeros((side, side), int)
    for k, (r, c) in enumerate(np.random.default_rng(seed).integers(0, side - length, (count, 2))):
        ids[r : r + length, c : c + length] = k + 1
    return ids


def everywhere(objects: np.ndarray) -> np.ndarray:
    return np.ones(objects.shape, bool)


def image(objects: np.ndarray) -> LabelledImage:
    return LabelledImage(np.zeros((*objects.shape, 3), np.uint8), {"a": objects}, everywhere(objects), 1.0, "d", "n")


def sides_of(objects: np.ndarray, split: Split) -> list[set[int]]:
    """Ids with a pixel on each side: training, then each fold."""
    return [set(np.unique(objects[mask]).tolist()) - {0} for mask in (split.train, *split.folds)]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.integers(12, 80), st.integers(4, 90), st.integers(1, 40))
def test_no_object_is_on_two_sides_and_those_judged_are_whole(seed: int, count: int, length: int, guard: int):
    objects = scattered(seed, count, length)
    try:
        split = SplitBlocks(guard_px=guard, seed=seed)(objects, everywhere(objects))
    except ThemeError:
        assert length > 40  # large objects may fill the scene
        return
    train, *folds = sides_of(objects, split)
    assert train
    assert not train & set.union(*folds)
    assert not set.intersection(*folds)
    assert tuple(map(len, folds)) == split.objects
    for ids, mask in zip(folds, split.folds, strict=True):
        assert mask[np.isin(objects, list(ids))].all()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(30, 80), st.integers(1, 40))
def test_training_and_validation_ground_are_apart_by_the_guard(seed: int, count: int, guard: int):
    objects = scattered(seed, count)
    split = SplitBlocks(guard_px=guard, seed=seed)(objects, everywhere(objects))
    near = ndi.distance_transform_cdt(~split.validation, "chessboard")
    assert near[split.train].min() > split.guard_px >= min(guard, 80 // 4)
    ids = np.unique(objects[objects > 0])
    assert 0.1 < sum(split.objects) / len(ids) < 0.5


@pytest.mark.parametrize(("length", "least"), [(6, 32), (60, 60)])
def test_the_guard_is_as_wide_as_objects_are_long(length: int, least: int):
    objects = scattered(3, 60, length, 1200)
    split = SplitBlocks()(objects, everywhere(objects))
    assert split.guard_px >= least
    near = ndi.distance_transform_cdt(~split.validation, "chessboard")
    assert near[split.train].min() > least


def test_an_object_longer_than_half_of_the_scene_is_cut_at_the_guard():
    objects = scattered(0, 60)
    road = np.zeros_like(objects, bool)
    road[:, 190:200], road[190:200] = True, True
    objects[road] = 99
    split = SplitBlocks()(objects, everywhere(objects))
    train, *folds = sides_of(objects, split)
    assert 99 in train
    assert 99 in set.union(*folds)
    assert not (train & set.union(*folds)) - {99}


def test_ground_around_a_dropped_object_is_not_judged():
    objects = scattered(5, 80, 20)
    split = SplitBlocks()(objects, everywhere(objects))
    ids = set(np.unique(objects[objects > 0]).tolist())
    dropped = ids - set.union(*sides_of(objects, split))
    assert len(dropped) >= split.dropped > 0
    found = np.isin(objects, list(dropped))
    near = ndi.binary_dilation(found, np.ones((3, 3)), iterations=2) & (objects == 0)
    straddling = near & ndi.binary_dilation(split.validation, iterations=3)
    assert straddling.any()
    assert not (found & split.validation).any()


def test_validation_area_is_where_the_blocks_are():
    objects = scattered(0, 40)
    split = SplitBlocks()(objects, everywhere(objects))
    affine = Affine(0.5, 0, 1000, 0, -0.5, 2000)
    area = split.area(affine)
    assert area.area == pytest.approx(split.validation.sum() * 0.25)
    row, col = np.argwhere(split.validation)[0]
    assert area.covers(shapely.Point(1000 + 0.5 * (col + 0.5), 2000 - 0.5 * (row + 0.5)))
    one, two = split.area(affine, 0), split.area(affine, 1)
    assert one.area > 0
    assert two.area > 0
    assert one.intersection(two).area == 0
    assert one.union(two).equals(area)


def test_a_rendered_town_has_two_folds_of_about_as_many_houses_to_search_and_judge_on():
    houses = render_town(512, 0.3, seed=7).instances()
    split = SplitBlocks()(houses, everywhere(houses))
    assert min(split.objects) > 10
    assert max(split.objects) < 2 * min(split.objects)
    train = sides_of(houses, split)[0]
    assert len(train) > 0.5 * len(np.unique(houses))
    assert cross_fits(split.objects) == [(0, 1), (1, 0)]


def test_folds_are_balanced_over_scenes_where_each_has_one_block_to_spare():
    objects = np.zeros((SIDE, SIDE), int)
    objects[20:40, 20:40], objects[20:40, 360:380], objects[360:380, 360:380] = 1, 2, 3
    splits = SplitBlocks().split([image(objects), image(objects[::-1])])
    assert [split.objects for split in splits] == [(1, 0), (0, 1)]
    assert cross_fits(np.sum([split.objects for split in splits], axis=0)) == [(0, 1), (1, 0)]
    assert cross_fits(splits[0].objects) == [(0, 0)]
    assert cross_fits(splits[1].objects) == [(1, 1)]
    assert cross_fits((0, 0)) == []


def test_objects_in_one_place_cannot_be_split():
    objects = np.zeros((SIDE, SIDE), int)
    objects[10:20, 10:20] = 1
    with pytest.raises(ThemeError, match=r"1 labelled objects .* at least two parts"):
        SplitBlocks()(objects, everywhere(objects))
    with pytest.raises(ThemeError, match="0 labelled objects"):
        SplitBlocks()(np.zeros_like(objects), everywhere(objects))


def test_too_large_a_validation_share_is_named():
    objects = np.zeros((SIDE, SIDE), int)
    objects[10:20, 10:20], objects[300:310, 300:310] = 1, 2
    with pytest.raises(ThemeError, match=r"--validation 0\.99 leaves nothing"):
        SplitBlocks(0.99)(objects, everywhere(objects))

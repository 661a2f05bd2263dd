from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hybridseg.labels.images import LabelledImage, degrade, dye_water, park, shade_sides
from hybridseg.labels.samples import Changes, ClassifierSamples, pool


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def grey(side: int = 64) -> np.ndarray:
    return np.full((side, side, 3), 120, np.uint8)


def test_one_side_of_a_roof_grows_darker_and_the_ground_stays(rng: np.random.Generator):
    ids = np.zeros((64, 64), np.int32)
    ids[20:30, 8:56] = 7
    shaded = shade_sides(grey(), ids, rng, share=1.0)
    assert np.array_equal(shaded[ids == 0], grey()[ids == 0])
    roof = shaded[20:30, 8:56, 0]
    dark = roof < 115
    assert 0.2 < dark.mean() < 0.8
    assert np.std(roof[dark]) == 0
    assert roof[~dark].min() >= 120
    assert np.array_equal(shade_sides(grey(), ids, rng, share=0.0), grey())


def test_dyed_water_keeps_the_shore(rng: np.random.Generator):
    water = np.zeros((64, 64), np.float32)
    water[:, :30] = 1
    dyed = dye_water(grey(), water, rng)
    assert np.array_equal(dyed[:, 30:], grey()[:, 30:])
    assert np.abs(dyed[:, :30].astype(int) - 120).mean() > 5


def test_cars_park_on_free_ground_only(rng: np.random.Generator):
    free = np.zeros((128, 128), bool)
    free[:, 40:] = True
    parked = park(grey(128), free, 0.25, rng)
    assert np.array_equal(parked[~free], grey(128)[~free])
    assert (parked[free] != 120).any()


def test_other_sensors_keep_size_and_type(rng: np.random.Generator):
    image = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
    seen = [degrade(image, rng) for _ in range(20)]
    assert {(s.shape, s.dtype) for s in seen} == {((64, 64, 3), np.dtype(np.uint8))}
    assert 1 < sum(not np.array_equal(s, image) for s in seen) < 20
    measured = image.astype(np.float32)
    assert degrade(measured, rng) is measured


def scene(value: int, objects: np.ndarray) -> LabelledImage:
    image = np.full((*objects.shape, 3), value, np.uint8)
    return LabelledImage(image, {"solar": objects}, np.ones(objects.shape, bool), 0.25, "d", f"s{value}")


def test_what_lies_beside_a_tile_is_filled_with_another_crop():
    small = scene(200, np.zeros((20, 20), np.int32))
    bare = ClassifierSamples([pool([small], 0.25)], ["solar"], size_px=64)
    mixed = replace(bare, changes=Changes(mix=True))
    known = [next(s.batches(60, seed=0))[1][:, 0, 2].mean() for s in (bare, mixed)]
    assert known[1] > 1.3 * known[0]


def test_objects_are_pasted_with_their_labels_onto_ground_without_any():
    ids = np.zeros((96, 96), np.int32)
    ids[30:60, 30:60] = 1
    with_any, without = scene(30, ids), scene(220, np.zeros_like(ids))
    pools = [pool([with_any], 0.25, share=0.3), pool([without], 0.25, share=0.7)]
    plain = ClassifierSamples(pools, ["solar"], size_px=64)
    pasted = replace(plain, changes=Changes(paste=["solar"]))
    share = [(next(s.batches(60, seed=1))[1][:, 0, 0].max((1, 2)) > 0).mean() for s in (plain, pasted)]
    assert share[1] > share[0] + 0.05
    _, target = next(pasted.batches(60, seed=1))
    assert (target[:, 0, 1][target[:, 0, 0] == 0] == 0).all()  # no interior outside extent

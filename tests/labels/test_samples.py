"""Crops to learn from and to validate on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hybridseg.labels.images import LabelledImage, depth, recolour
from hybridseg.labels.labelled import on_grid, read_labelled
from hybridseg.labels.samples import (
    ClassifierSamples,
    FocusedSamples,
    pool,
    stream_seed,
    targets_of,
    validation_batches,
)
from hybridseg.labels.split import SplitBlocks
from hybridseg.read.scene import Scene
from tests.labels.drawn import box, layer
from townscape import render_town


def labelled_image(scene: Scene, labels: str, **more) -> LabelledImage:
    return on_grid(read_labelled(scene, labels, {"building": None}, **more), ["building"], 1.0, 32).image


def test_validation_crops_hold_every_validation_pixel_once_and_training_ones_none(scene: Scene, tmp_path: Path):
    image = labelled_image(
        scene, layer(tmp_path / "l.gpkg", [box(10, 10, 8, 8), box(100, 70, 8, 8), box(60, 30, 8, 8)])
    )
    split = SplitBlocks()(image.instances, image.valid)
    batches = validation_batches([image], [split], ["building"], 64, batch=2)
    assert sum(t[:, 0, 2].sum() for _, t in batches) == split.validation.sum()
    assert all(i.shape[1:] == (3, 64, 64) for i, _ in batches)
    targets = targets_of(image, ["building"], split.train)
    assert targets[0, 1].max() == 1
    assert not (targets[0, 2].astype(bool) & split.validation).any()


def test_focused_crops_hold_objects_that_random_ones_miss(scene: Scene, tmp_path: Path):
    image = labelled_image(scene, layer(tmp_path / "l.gpkg", [box(100, 80, 6, 6)]))
    ready = [pool([image], 1.0, zoom=(0.9, 1.1))]
    _, targets = next(FocusedSamples(ready, ["building"], size_px=32, focus=1.0).batches(6, seed=0))
    assert (targets[:, 0, 0].max((1, 2)) > 0.5).all()
    _, targets = next(ClassifierSamples(ready, ["building"], size_px=32).batches(6, seed=0))
    assert not (targets[:, 0, 0].max((1, 2)) > 0.5).all()


def test_crops_look_at_labelled_ground_however_little_there_is(scene: Scene, tmp_path: Path):
    drawn, within = layer(tmp_path / "l.gpkg", [box(100, 80, 6, 6)]), layer(tmp_path / "w.gpkg", [box(92, 72, 20, 20)])
    image = labelled_image(scene, drawn, complete_within=within)
    assert image.valid.mean() < 0.05
    samples = FocusedSamples([pool([image], 1.0, zoom=(0.9, 1.1))], ["building"], size_px=32, focus=0.0)
    _, targets = next(samples.batches(6, seed=0))
    assert (targets[:, 0, 2].max((1, 2)) == 1).all()


def test_a_resumed_stream_is_another_one_and_always_the_same():
    assert stream_seed(5, 0) == 5
    first, again, later = (np.random.default_rng(stream_seed(5, step)).random() for step in (100, 100, 200))
    assert stream_seed(5, 100, worker=1) != stream_seed(5, 100)
    assert first == again != later
    assert first != np.random.default_rng(5).random()


@pytest.fixture(scope="module")
def town() -> LabelledImage:
    town = render_town(256, 0.3, seed=1, density=0.8)
    image = np.ascontiguousarray(town.image.transpose(1, 2, 0))
    return LabelledImage(image, {"building": town.instances()}, np.ones(image.shape[:2], bool), 0.3, "town", "town-1")


def test_classifier_samples_know_only_what_the_labels_say(town: LabelledImage):
    ready = pool([replace(town, objects={**town.objects, "solar": np.zeros_like(town.instances)})], 0.3)
    samples = ClassifierSamples([ready], ["building", "road", "solar"], size_px=64)
    images, wanted = next(samples.batches(3, seed=0))
    assert images.shape == (3, 3, 64, 64)
    assert images.dtype == np.uint8
    assert wanted.shape == (3, 3, 3, 64, 64)
    assert 0 <= wanted.min() <= wanted.max() <= 1
    assert wanted[:, 0].any((0, 2, 3)).all()
    assert not wanted[:, 1].any()  # nothing is known of roads
    assert wanted[:, 2, 2].any()  # but it is of solar: there is none
    assert not wanted[:, 2, :2].any()
    again = next(samples.batches(3, seed=0))
    assert np.array_equal(images, again[0])


def test_depth_is_nothing_at_borders_and_one_in_the_middle():
    labels = np.zeros((20, 20), np.int32)
    labels[2:11, 2:11], labels[2:11, 11:18] = 1, 2
    deep = depth(labels)
    assert deep[6, 6] == 1
    assert deep[labels == 0].max() == 0
    assert deep[6, 10] < 0.3  # where two objects touch
    assert deep[6, 11] < 0.3


def test_crops_of_measured_bands_keep_their_values():
    rows, cols = np.mgrid[:96, :96]
    pixels = np.stack([1000.0 + 0 * rows, 3000 + 10.0 * cols, 10.0 * rows, 0 * rows], axis=2).astype(np.float32)
    objects = {"a": ((rows > 30) & (rows < 60)).astype(np.int32)}
    image = LabelledImage(pixels, objects, np.ones((96, 96), bool), 10.0, "d", "n")
    half = image.at_gsd(20.0)
    assert (half.image.shape, half.image.dtype) == ((48, 48, 4), np.float32)
    np.testing.assert_allclose(half.image[4:-4, 4:-4, 1], 3000 + 10 * (2 * cols[4:44, 4:44] + 0.5), rtol=1e-4)
    images, targets = next(ClassifierSamples([pool([image], 10.0)], ["a"], size_px=64).batches(3, seed=0))
    assert (images.shape, images.dtype, targets.shape) == ((3, 4, 64, 64), np.float32, (3, 1, 3, 64, 64))
    seen = images[:, 0][images[:, 0] > 990 * 0.95]
    assert len(seen) > 3000
    assert seen.max() < 1051
    assert not images[:, 3].any()


def test_measured_bands_are_recoloured_by_a_mild_gain_each():
    image = np.random.default_rng(0).uniform(100, 9000, (8, 8, 6)).astype(np.float32)
    gain = recolour(image, np.random.default_rng(1)) / image
    assert gain.dtype == np.float32
    np.testing.assert_allclose(gain, np.broadcast_to(gain[:1, :1], gain.shape), rtol=1e-5)
    assert len(np.unique(gain[0, 0].round(4))) == 6
    assert (np.abs(gain - 1) <= 0.0501).all()

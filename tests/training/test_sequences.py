from __future__ import annotations

import numpy as np
import pytest

from hybridseg.labels.images import LabelledImage
from hybridseg.training.refiner import BoxedImage, boxed
from hybridseg.training.sequences import MARGIN, SequenceSamples, _cover_up, _missing, _move, change_season


@pytest.fixture(scope="module")
def place() -> BoxedImage:
    """Bright blocks, 26 px wide and 30 px apart, on dark ground."""
    labels = np.zeros((240, 240), np.int32)
    for k, (y, x) in enumerate((y, x) for y in range(20, 200, 56) for x in range(20, 200, 56)):
        labels[y : y + 26, x : x + 26] = k + 1
    image = np.where(labels[..., None] > 0, 230, 50).repeat(3, 2).astype(np.uint8)
    return boxed(LabelledImage(image, {"building": labels}, np.ones(labels.shape, bool), 0.3, "d", "blocks"))


def samples(place: BoxedImage, vanish: float) -> SequenceSamples:
    return SequenceSamples({"d": [place]}, {"d": 1.0}, size_px=64, vanish=vanish)


def test_a_batch_has_its_arrays_and_the_same_seed_draws_the_same(place: BoxedImage):
    batch, again = (next(samples(place, 0.2).batches(3, seed=4)) for _ in range(2))
    count = len(batch["masks"])
    assert batch["images"].shape == (3, 3, 3, 64, 64)
    assert batch["images"].dtype == np.uint8
    assert batch["masks"].shape == (count, 3, 64, 64)
    assert batch["masks"].dtype == bool
    assert set(batch["image_of"].tolist()) == {0, 1, 2}
    assert np.bincount(batch["image_of"]).max() <= 4
    assert all(np.array_equal(batch[key], again[key]) for key in batch)


def test_nothing_vanishes_unless_asked_and_dates_differ(place: BoxedImage):
    batch = next(samples(place, 0.0).batches(6, seed=0))
    assert batch["masks"].any((2, 3)).all()
    first, last = batch["masks"][:, 0], batch["masks"][:, 2]
    iou = (first & last).sum((1, 2)) / (first | last).sum((1, 2))
    assert iou.min() > 0.1
    assert iou.max() < 1
    assert np.abs(batch["images"][:, 0].astype(int) - batch["images"][:, 1]).mean() > 3


def test_what_vanishes_is_painted_over_and_stays_away(place: BoxedImage):
    rng = np.random.default_rng(0)
    many = samples(place, 1.0)
    gone = late = 0
    for _ in range(8):
        drawn = many.draw(rng)
        there = drawn["masks"].any((2, 3))
        assert there.any(1).all()
        for states in there:
            assert np.count_nonzero(np.diff(states)) <= 1  # never comes and goes
            gone, late = gone + states[0] * (not states[2]), late + states[2] * (not states[0])
    assert gone > late > 0


def test_bare_ground_lies_where_an_object_was(place: BoxedImage):
    image, labels = place.image.image.astype(np.float32), place.image.instances
    mask = labels == 6
    bare, share = _cover_up(image, mask, labels == 0, np.random.default_rng(0))
    covered = image + share * (bare - image)
    assert covered[mask].max() < 60
    assert (covered[(labels > 0) & ~mask] == 230).all()
    assert _cover_up(image, mask, np.zeros_like(mask), np.random.default_rng(0)) is None


def test_prompts_point_at_the_first_date_that_has_the_object(place: BoxedImage):
    batch = next(samples(place, 0.5).batches(12, seed=1))
    boxed, clicked = (batch["labels"] == 2).any(1), (batch["labels"] == 1).any(1)
    assert boxed.any()
    assert clicked.any()
    assert (~boxed & ~clicked).any()
    for dates, points, labels in zip(batch["masks"], batch["points"], batch["labels"], strict=True):
        mask = dates[0] if dates[0].any() else dates[-1]
        if labels[0] == 1:
            assert mask[int(points[0, 1]), int(points[0, 0])]
        if labels[0] == 2:
            inside = mask[int(points[0, 1]) : int(points[1, 1]) + 1, int(points[0, 0]) : int(points[1, 0]) + 1]
            assert inside.sum() > 0.7 * mask.sum()


def test_no_move_leaves_the_margin():
    rng, side = np.random.default_rng(0), 256
    wide = round(side * (1 + 2 * MARGIN))
    for _ in range(500):
        a, b, c, d, e, f = _move(side, wide, rng)
        corners = np.array([(a * x + b * y + c, d * x + e * y + f) for x in (0, side) for y in (0, side)])
        assert corners.min() >= 0
        assert corners.max() <= wide


def test_missing_is_a_beginning_or_an_end():
    seen = {tuple(_missing(3, np.random.default_rng(seed)).tolist()) for seed in range(60)}
    assert seen == {(False, True, True), (False, False, True), (True, False, False), (True, True, False)}


def test_seasons_change_green_ground_most():
    green, grey = np.full((16, 16, 3), (60, 140, 60), np.uint8), np.full((16, 16, 3), 100, np.uint8)
    changes = {"green": 0.0, "grey": 0.0}
    for seed in range(30):
        for name, image in (("green", green), ("grey", grey)):
            changed = change_season(image, np.random.default_rng(seed)).astype(float)
            changes[name] += np.ptp(changed.mean((0, 1)) - image.mean((0, 1)))
    assert changes["green"] > 1.5 * changes["grey"] > 0

from __future__ import annotations

import numpy as np
import pytest
import torch
from affine import Affine
from odc.geo.geobox import GeoBox

from hybridseg.nn.sam2.lite import build_sam2_lite
from hybridseg.nn.sam2.memory import Follower, track
from hybridseg.nn.sam2.promptable import Promptable
from hybridseg.types import Chip

SIDE = 64


@pytest.fixture(scope="module")
def model() -> Promptable:
    torch.manual_seed(0)
    return Promptable(build_sam2_lite(SIDE, SIDE).eval(), "random", "0" * 64)


@pytest.fixture(scope="module")
def embeddings(model):
    grid = GeoBox((SIDE, SIDE), Affine(1, 0, 0, 0, -1, 0), "EPSG:32633")
    pixels = np.random.default_rng(0).integers(0, 255, (45, 3, SIDE, SIDE)).astype(np.uint8)
    return [model.encode(Chip(image, np.ones((SIDE, SIDE), bool), grid)) for image in pixels]


@pytest.fixture(scope="module")
def masks():
    shown = np.zeros((2, SIDE, SIDE), bool)
    shown[0, 8:30, 8:30] = shown[1, 40:60, 20:50] = True
    return shown


def test_three_images_give_what_a_whole_series_gives(model, embeddings, masks):
    follower = Follower(model.model)
    found = [follower.step(embeddings[0], masks), *(follower.step(image) for image in embeddings[1:3])]
    logits, presence = track(model.model, embeddings[:3], masks)
    # the second image does not know yet that a third will come, which only scales the pointers' places in time
    assert np.allclose(found[0][0], logits[:, 0], atol=1e-4)
    assert np.allclose(found[1][0], logits[:, 1], atol=0.05)
    assert found[2][1].shape == presence[:, 2].shape


def test_what_is_remembered_does_not_grow(model, embeddings, masks):
    follower, sizes = Follower(model.model), []
    follower.step(embeddings[0], masks)
    for image in embeddings[1:]:
        follower.step(image)
        sizes.append(follower.bytes)
    assert max(sizes[20:]) == sizes[-1] == sizes[20]
    assert sizes[-1] < 10 * sizes[0]


def test_shown_masks_are_taken_as_they_are(model, embeddings, masks):
    follower = Follower(model.model)
    follower.step(embeddings[0], masks)
    logits, _ = follower.step(embeddings[1], masks[::-1].copy())
    inside = logits[1] > 0
    assert inside[4:6, 4:6].all()
    assert not inside[12:].any()


def test_nothing_is_recalled_before_it_was_shown(model, embeddings):
    with pytest.raises(ValueError, match="must be shown"):
        Follower(model.model).step(embeddings[0])

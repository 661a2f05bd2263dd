"""Several looks at an image: what is told is turned with it, and what should make no difference makes less."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybridseg.nn.models import Models
from hybridseg.nn.sam2.embedding import EmbeddingFolder
from hybridseg.nn.sam2.looks import Looks
from hybridseg.nn.sam2.official import load_refiner
from hybridseg.nn.sam2.promptable import Promptable
from hybridseg.nn.sam2.shared_encoder import CachedRefiner
from hybridseg.types import Chip
from tests.doubles import Bright, Threshold
from tests.nn.chips import blocks_chip, random_chip


@pytest.fixture(scope="module")
def lite() -> Promptable:
    return load_refiner("sam2-lite", "cpu")


POINTS = np.array([[[20, 40], [90, 100], [30, 60], [110, 20]], [[70, 30], [0, 0], [0, 0], [0, 0]]], np.float32)
LABELS = np.array([[2, 3, 1, 0], [1, -1, -1, -1]], np.int32)


@dataclass(frozen=True)
class Painter(Threshold):
    """Paints what it is told over what it sees: the same on a turned image, but for a slope from left to right.

    Its readings are brighter each by one, and it is surest of the third.
    """

    slope: float = 0.0

    def readings(
        self, embedding: np.ndarray, points: np.ndarray, labels: np.ndarray, hints: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        y, x = np.mgrid[: self.mask_px, : self.mask_px] * 4.0 + 2
        painted = []
        for i, (at, kinds) in enumerate(zip(points, labels, strict=True)):
            mask = embedding + self.slope * x
            for (px, py), kind in zip(at, kinds, strict=True):
                mask = mask + {1: 50, 0: -50}.get(int(kind), 0) * np.exp(-np.hypot(x - px, y - py) / 9)
            if kinds[0] == 2:
                (x0, y0), (x1, y1) = at[:2]
                mask = mask + 10 * ((x0 < x) & (x < x1) & (y0 < y) & (y < y1))
            painted.append(mask if hints is None else mask + hints[i])
        masks = np.stack(painted)[:, None] + np.arange(4)[None, :, None, None]
        return masks.astype(np.float32), np.tile(np.float32([0.5, 0.2, 0.6, 0.9]), (len(points), 1))


def asked(refiner: Any, chip: Chip, hints: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    return refiner.readings(refiner.encode(chip), POINTS, LABELS, hints)


@pytest.fixture
def chip() -> Chip:
    whole = random_chip()
    return Chip(whole.pixels[:, :128, :128], whole.valid[:128, :128], whole.geobox[:128, :128])


@pytest.mark.parametrize("count", [2, 4, 8])
@pytest.mark.parametrize("hinted", [False, True])
def test_image_points_box_and_hint_are_turned_alike(count: int, hinted: bool, chip: Chip):
    hints = np.random.default_rng(0).normal(size=(2, 32, 32)).astype(np.float32) if hinted else None
    for made, plain in zip(asked(Looks(Painter(), count), chip, hints), asked(Painter(), chip, hints), strict=True):
        np.testing.assert_allclose(made, plain, rtol=1e-4, atol=1e-4)


def test_what_leans_to_one_side_is_evened_out(chip: Chip):
    leaning, upright = Painter(slope=0.3), asked(Painter(), chip)[0]
    assert np.ptp(asked(leaning, chip)[0] - upright) > 30
    assert np.ptp(asked(Looks(leaning, 4), chip)[0] - upright) < 1e-3


def test_a_lone_click_gets_the_reading_that_is_surest_on_average(chip: Chip):
    looks = Looks(Painter(), 4)
    embedding = looks.encode(chip)
    masks, iou = looks.decode(embedding, POINTS, LABELS, None)
    readings, _ = looks.readings(embedding, POINTS, LABELS, None)
    np.testing.assert_array_equal(masks[0], readings[0, 0])
    np.testing.assert_array_equal(masks[1], readings[1, 3])
    np.testing.assert_allclose(iou, [0.5, 0.9])


def test_large_encoders_and_shared_ones_look_once():
    refiner = Threshold()
    assert Models(Bright(), refiner).looking(1) is refiner
    assert isinstance(Models(Bright(), refiner).looking(4), Looks)
    assert Models(Bright(), refiner, shared=True).looking(4) is refiner
    large = replace(refiner, large=True)
    assert Models(Bright(), large).looking(4) is large
    assert Models(Bright()).looking(4) is None


def test_sam2_lite_gives_nearly_the_same_mask_of_a_turned_image(lite: Promptable):
    """Closer to each other by eight looks than by one: that is what they are for."""
    chip, box = blocks_chip(512), np.array([[[100, 100], [300, 280]]], np.float32)
    turned = replace(chip, pixels=np.ascontiguousarray(chip.pixels[..., ::-1]))
    across = np.array([[[512 - 300, 100], [512 - 100, 280]]], np.float32)

    def apart(refiner: Any) -> float:
        one, _ = refiner.decode(refiner.encode(chip), box, np.array([[2, 3]], np.int32), None)
        other, _ = refiner.decode(refiner.encode(turned), across, np.array([[2, 3]], np.int32), None)
        return float(np.abs(one - other[..., ::-1]).max())

    assert apart(lite) > 0.1
    assert apart(Looks(lite, 8)) < 1e-2


def test_each_look_is_kept_in_the_cache(tmp_path: Path, lite: Promptable):
    looks = Looks(CachedRefiner(lite, EmbeddingFolder(tmp_path)), 4)
    first = asked(looks, random_chip())
    assert len(list(tmp_path.glob("*.safetensors"))) == 4
    np.testing.assert_array_equal(asked(looks, random_chip())[0], first[0])
    assert len(list(tmp_path.glob("*.safetensors"))) == 4


def test_it_is_pickled_by_name():
    looks = Looks(load_refiner("sam2-lite", "cpu"), 4)
    again = pickle.loads(pickle.dumps(looks))
    assert again.refiner is looks.refiner
    assert again.count == 4

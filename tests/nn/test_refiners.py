"""What every refiner must do, by whatever name it came, and what may go wrong on the way. Weights are random."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from hybridseg.nn.cards import sha256
from hybridseg.nn.sam2.embedding import Embedding
from hybridseg.nn.sam2.official import load_refiner
from hybridseg.nn.sam2.promptable import Promptable
from tests.nn.chips import chip_of


@dataclass(frozen=True)
class Case:
    refiner: Promptable
    pixels: np.ndarray
    embedding: Embedding

    @property
    def side(self) -> int:
        return self.refiner.size_px


@pytest.fixture(scope="module", params=["lite", "official"])
def case(request: pytest.FixtureRequest) -> Case:
    """A refiner, an image and its embedding: encoded once for all tests, as in a run."""
    source = (
        request.getfixturevalue("models") / "sam2-lite"
        if request.param == "lite"
        else request.getfixturevalue("checkpoint")
    )
    refiner = load_refiner(source, "cpu")
    pixels = np.random.default_rng(0).integers(0, 255, (3, refiner.size_px, refiner.size_px), np.uint8)
    return Case(refiner, pixels, refiner.encode(chip_of(pixels)))


BOXES = [[(0.1, 0.1), (0.4, 0.3)], [(0.5, 0.2), (0.9, 0.9)], [(0.0, 0.0), (1.0, 1.0)]]
POINTS = [[(0.2, 0.2)], [(0.7, 0.5)], [(0.5, 0.9)]]
MANY = [[(0.2, 0.2)], [(0.7, 0.5), (0.6, 0.4), (0.1, 0.9)], [(0.5, 0.9), (0.5, 0.1)]]
LABELS = {
    "box": (BOXES, [[2, 3]] * 3),
    "points": (POINTS, [[1]] * 3),
    "differing": (MANY, [[1, -1, -1], [1, 1, 0], [1, 0, -1]]),
}


def prompts(kind: str, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Three prompts: points (3, P, 2) in pixels and labels (3, P)."""
    shares, labels = LABELS[kind]
    width = len(labels[0])
    padded = [row + [(0.0, 0.0)] * (width - len(row)) for row in shares]
    return np.array(padded, np.float32) * side, np.array(labels, np.int32)


def hints(mask_px: int) -> np.ndarray:
    """Three different rectangles as logits."""
    logits = np.full((3, mask_px, mask_px), -6, np.float32)
    for i, part in enumerate((slice(5, 20), slice(30, 60), slice(60, 100))):
        logits[i, part, part] = 6
    return logits


@pytest.mark.parametrize("hinted", [False, True])
@pytest.mark.parametrize("kind", LABELS)
def test_prompts_are_decoded_together_as_each_alone(case: Case, kind: str, hinted: bool):
    points, labels = prompts(kind, case.side)
    hint = hints(case.refiner.mask_px) if hinted else None
    logits, iou = case.refiner.decode(case.embedding, points, labels, hint)
    assert logits.shape == (3, case.side // 4, case.side // 4)
    assert iou.shape == (3,)
    assert logits.dtype == iou.dtype == np.float32
    assert np.isfinite(logits).all()
    assert ((iou >= 0) & (iou <= 1)).all()
    assert np.abs(logits[0] - logits[1]).max() > 1e-2, "prompts do not matter"
    for i in range(3):
        one = slice(i, i + 1)
        mask, sure = case.refiner.decode(case.embedding, points[one], labels[one], None if hint is None else hint[one])
        assert mask.shape == logits[one].shape
        assert sure.shape == (1,)
        np.testing.assert_allclose(mask, logits[one], atol=1e-3)
        np.testing.assert_allclose(sure, iou[one], atol=1e-3)


def test_where_padding_lies_does_not_matter(case: Case):
    # how much of it there is does, a little: each is a "not a point" token to SAM2, so Refine must pad all alike
    points, _ = prompts("points", case.side)
    both = np.concatenate([points[:1], points[1:2]], axis=1)
    last, _ = case.refiner.decode(case.embedding, both, np.array([[1, -1]], np.int32), None)
    first, _ = case.refiner.decode(case.embedding, both[:, ::-1].copy(), np.array([[-1, 1]], np.int32), None)
    elsewhere, _ = case.refiner.decode(
        case.embedding, both + np.float32([[[0], [9]]]), np.array([[1, -1]], np.int32), None
    )
    np.testing.assert_allclose(first, last, atol=1e-3)
    np.testing.assert_allclose(elsewhere, last, atol=1e-3)


def test_hints_matter(case: Case):
    points, labels = prompts("box", case.side)
    bare, _ = case.refiner.decode(case.embedding, points[:1], labels[:1], None)
    hinted, _ = case.refiner.decode(case.embedding, points[:1], labels[:1], hints(case.refiner.mask_px)[:1])
    assert np.abs(bare - hinted).max() > 1e-2


def test_the_same_pixels_give_the_same_embedding(case: Case):
    again = case.refiner.encode(chip_of(case.pixels))
    assert torch.equal(again.coarse, case.embedding.coarse)
    assert all(torch.equal(a, b) for a, b in zip(again.fine, case.embedding.fine, strict=True))


def test_a_refiner_knows_its_weights(case: Case, checkpoint: Path, models: Path):
    weights = {"tiny": checkpoint, "sam2-lite": models / "sam2-lite" / "weights.safetensors"}[case.refiner.name]
    assert case.refiner.sha256 == sha256(weights)
    assert not case.refiner.model.training

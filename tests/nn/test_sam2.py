from __future__ import annotations

import pytest
import torch
from sam2.modeling.sam2_base import SAM2Base

from hybridseg.nn.backbones.base import normalise
from hybridseg.nn.sam2.lite import build_sam2_lite
from hybridseg.nn.sam2.promptable import choose, decode_masks, split_features, without_memory

SIDE = 512


@pytest.fixture(scope="module")
def model() -> SAM2Base:
    torch.manual_seed(0)
    return build_sam2_lite(SIDE, SIDE).eval()


@torch.inference_mode()
def test_many_prompts_at_once_give_what_each_gives_alone(model: SAM2Base):
    torch.manual_seed(1)
    labels = torch.tensor([[2, 3, 1], [1, 0, -1], [1, -1, -1]], dtype=torch.int32)
    points, hints = torch.rand(3, 3, 2) * SIDE, torch.randn(3, 1, SIDE // 4, SIDE // 4) * 4
    pixels = torch.randint(0, 255, (1, 3, SIDE, SIDE), dtype=torch.uint8)
    embedding, fine = split_features(model, normalise(pixels))
    embedding = without_memory(model, embedding)
    masks, iou = decode_masks(model, embedding, fine, points, labels, hints)
    assert masks.shape == (3, 4, SIDE // 4, SIDE // 4)
    assert iou.shape == (3, 4)
    for k in range(3):
        one, _ = decode_masks(model, embedding, fine, points[k, None], labels[k, None], hints[k, None])
        torch.testing.assert_close(one[0], masks[k], atol=1e-3, rtol=1e-3)


def test_a_lone_click_gets_its_likeliest_reading_and_all_else_the_first_mask():
    masks = torch.arange(4.0).view(1, 4, 1, 1).expand(3, 4, 2, 2)
    iou = torch.tensor([[0.9, 0.1, 0.8, 0.2]] * 3)
    labels = torch.tensor([[1, -1, -1], [1, 0, -1], [2, 3, -1]])
    chosen, confidence = choose(masks, iou, labels, hinted=False)
    assert chosen[:, 0, 0].tolist() == [2, 0, 0]
    torch.testing.assert_close(confidence, torch.tensor([0.8, 0.9, 0.9]))
    assert choose(masks, iou, labels, hinted=True)[0][:, 0, 0].tolist() == [0, 0, 0]


@torch.inference_mode()
def test_features_of_lite_have_the_sizes_that_the_decoder_wants(model: SAM2Base):
    pixels = torch.randint(0, 255, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    coarse, fine = split_features(model, normalise(pixels))
    assert coarse.shape == (2, 128, 32, 32)
    assert [tuple(level.shape) for level in fine] == [(2, 16, 128, 128), (2, 32, 64, 64)]
    alone, _ = split_features(model, normalise(pixels[1:]))
    torch.testing.assert_close(alone, coarse[1:], atol=1e-4, rtol=1e-4)


def test_pixels_are_normalised_as_sam2_does():
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    low, high = normalise(pixels)[0, :, 0].T
    torch.testing.assert_close(low, torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]))
    torch.testing.assert_close(high, torch.tensor([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]))

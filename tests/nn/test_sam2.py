from __future__ import annotations

import pytest
import torch
from sam2.modeling.sam2_base import SAM2Base

from hybridseg.nn.lite import build_sam2_lite
from hybridseg.nn.sam2 import normalise, prompt_embeddings, split_features

SIDE = 512


@pytest.fixture(scope="module")
def model() -> SAM2Base:
    torch.manual_seed(0)
    return build_sam2_lite().eval()


def prompts() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points (4, 3, 2), labels (4, 3) of all kinds, hints (4, 1, 128, 128)."""
    torch.manual_seed(1)
    labels = torch.tensor([[2, 3, 1], [1, 0, -1], [1, -1, -1], [2, 3, -1]], dtype=torch.int32)
    return torch.rand(4, 3, 2) * SIDE, labels, torch.randn(4, 1, SIDE // 4, SIDE // 4) * 4


@torch.inference_mode()
def test_hinted_and_bare_prompts_go_together_as_sam2_encodes_each(model: SAM2Base):
    points, labels, hints = prompts()
    encoder = model.sam_prompt_encoder
    hinted_sparse, hinted = encoder(points=(points, labels), boxes=None, masks=hints)
    bare_sparse, bare = encoder(points=(points, labels), boxes=None, masks=None)
    assert not torch.allclose(hinted, bare)

    for has in ([True] * 4, [False] * 4, [True, False, False, True]):
        sparse, dense = prompt_embeddings(model, points, labels, hints, torch.tensor(has))
        assert torch.equal(sparse, hinted_sparse)
        assert torch.equal(sparse, bare_sparse)
        for i, own in enumerate(has):
            assert torch.equal(dense[i], hinted[i] if own else bare[i])


@torch.inference_mode()
def test_a_bare_prompts_hint_is_not_looked_at(model: SAM2Base):
    points, labels, hints = prompts()
    none = torch.zeros(4, dtype=torch.bool)
    _, dense = prompt_embeddings(model, points, labels, hints, none)
    _, other = prompt_embeddings(model, points, labels, hints + 5, none)
    assert torch.equal(dense, other)


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

from __future__ import annotations

import pytest
import torch

from hybridseg.nn.sam2.lite import CLICK, FAR, INSIDE, NEAR, OUTSIDE, DrawingPromptEncoder

SIDE, M = 64, 16


@pytest.fixture(scope="module")
def encoder() -> DrawingPromptEncoder:
    torch.manual_seed(0)
    return DrawingPromptEncoder(32, (SIDE // 16, SIDE // 16), (SIDE, SIDE), mask_in_chans=16)


def draw(encoder: DrawingPromptEncoder, points: list, labels: list, mask: float = 0.0) -> torch.Tensor:
    canvas = torch.full((1, 1, M, M), mask)
    return encoder.draw(torch.tensor([points], dtype=torch.float32), torch.tensor([labels]), canvas)[0, 0]


def test_a_box_is_drawn_where_the_mask_input_says_nothing(encoder: DrawingPromptEncoder):
    drawn = draw(encoder, [(16, 8), (32, 40)], [2, 3])
    assert (drawn[2:10, 4:8] == INSIDE).all()
    assert int((drawn == INSIDE).sum()) == 8 * 4
    assert int((drawn == OUTSIDE).sum()) == M * M - 8 * 4
    assert (draw(encoder, [(16, 8), (32, 40)], [2, 3], mask=5.0) == 5).all()


def test_clicks_are_discs_on_whatever_is_there(encoder: DrawingPromptEncoder):
    drawn = draw(encoder, [(32, 32), (8, 8), (0, 0)], [1, 0, -1], mask=2.0)
    assert drawn[7, 7] == CLICK
    assert drawn[1, 1] == -CLICK
    assert drawn[15, 15] == 2
    assert int((drawn == CLICK).sum()) == int((drawn == -CLICK).sum()) > 3


def test_positive_clicks_alone_fall_off_with_distance(encoder: DrawingPromptEncoder):
    drawn = draw(encoder, [(2, 32), (62, 62)], [1, 0])
    row = drawn[7, 3:]
    assert (row.diff() < 0).all()
    assert row[0] < NEAR
    assert row[-1] == pytest.approx(NEAR + (FAR - NEAR) * 60 / 96, abs=0.1)
    assert not draw(encoder, [(62, 62)], [0])[:10, :10].any()  # a negative click alone says nothing of elsewhere


def test_the_box_of_the_other_argument_is_drawn_alike(encoder: DrawingPromptEncoder):
    box = torch.tensor([[16.0, 8, 32, 40]])
    _, dense = encoder(points=None, boxes=box, masks=None)
    _, same = encoder(points=(box.reshape(1, 2, 2), torch.tensor([[2, 3]])), boxes=None, masks=None)
    torch.testing.assert_close(dense, same)
    _, nothing = encoder(points=None, boxes=None, masks=None)
    assert not torch.allclose(dense, nothing)


def test_an_empty_mask_input_is_none(encoder: DrawingPromptEncoder):
    points = (torch.tensor([[[20.0, 20.0]]]), torch.tensor([[1]]))
    _, without = encoder(points=points, boxes=None, masks=None)
    _, empty = encoder(points=points, boxes=None, masks=torch.zeros(1, 1, M, M))
    assert torch.equal(without, empty)

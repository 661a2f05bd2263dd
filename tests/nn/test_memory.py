from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from hybridseg.nn.sam2.lite import build_sam2_lite
from hybridseg.nn.sam2.memory import MEMORY, Memory, track
from hybridseg.nn.sam2.official import load_refiner
from hybridseg.nn.training.learners import LONGEST, MemoryLearner, _forwards_in_time, _numbers, start_memory
from hybridseg.types import MAX_POINTS
from hybridseg.where.refine import hint_logits
from tests.nn.chips import chip_of

SIDE = 64


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Three objects on two places: one stays, one goes, one comes; shown as a mask, a box and a click."""
    torch.manual_seed(0)
    masks = torch.zeros(3, 3, SIDE, SIDE, dtype=torch.bool)
    masks[0, :, 10:40, 10:40] = True
    masks[1, 0, 20:50, 5:30] = True
    masks[2, 1:, 30:60, 30:60] = True
    points, labels = torch.zeros(3, MAX_POINTS, 2), torch.full((3, MAX_POINTS), -1, dtype=torch.int32)
    points[1, :2], labels[1, :2] = torch.tensor([[5.0, 20], [30, 50]]), torch.tensor([2, 3], dtype=torch.int32)
    points[2, 0], labels[2, 0] = 45.0, 1
    images = torch.randint(0, 255, (2, 3, 3, SIDE, SIDE), dtype=torch.uint8)
    image_of = torch.tensor([0, 0, 1])
    return {"images": images, "masks": masks, "image_of": image_of, "points": points, "labels": labels}


def test_a_step_moves_the_memory_and_nothing_else(batch: dict[str, torch.Tensor]):
    torch.manual_seed(0)
    net = build_sam2_lite(SIDE, SIDE)
    learner = MemoryLearner(net, steps=10)
    learner.log = lambda *_, **__: None
    before = {key: value.clone() for key, value in net.state_dict().items()}
    learner.train()
    learner.on_train_epoch_start()
    loss = learner.training_step(batch, 0)
    assert torch.isfinite(loss)
    loss.backward()
    graded = {name for name, p in net.named_parameters() if p.grad is not None}
    assert graded
    assert all(name.startswith(MEMORY) for name in graded)
    setup = learner.configure_optimizers()
    setup["optimizer"].step()
    after = net.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved
    assert all(name.startswith(MEMORY) for name in moved)
    for part in MEMORY:  # each part learns from a batch in which objects stay, come and go
        assert any(name.startswith(part) for name in graded), part


def test_the_step_is_that_of_sam2(batch: dict[str, torch.Tensor]):
    net = build_sam2_lite(SIDE, SIDE).eval()
    memory, masks, which = Memory(net), batch["masks"][:, 0], batch["image_of"]
    masks[2, 30:60, 30:60] = True
    pads = {
        "point_coords": torch.zeros(3, MAX_POINTS, 2),
        "point_labels": torch.full((3, MAX_POINTS), -1, dtype=torch.int32),
    }
    ours, theirs = [], {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    with torch.inference_mode():
        for now in range(3):
            frames = memory.encode(batch["images"][:, now]).of(which)
            seen = memory.recall(frames, ours, now, 3) if now else memory.from_masks(frames, masks)
            ours.append((now, seen))
            levels = [frames.quarter, frames.eighth, frames.coarse]
            out = net.track_step(
                frame_idx=now,
                is_init_cond_frame=now == 0,
                current_vision_feats=[level.flatten(2).permute(2, 0, 1) for level in levels],
                current_vision_pos_embeds=[frames.position.flatten(2).permute(2, 0, 1)],
                feat_sizes=[level.shape[-2:] for level in levels],
                point_inputs=pads if now else None,
                mask_inputs=None if now else masks[:, None],
                output_dict=theirs,
                num_frames=3,
            )
            theirs["non_cond_frame_outputs" if now else "cond_frame_outputs"][now] = out
            assert torch.allclose(seen.memory, out["maskmem_features"], atol=1e-5)
            assert torch.allclose(seen.pointer, out["obj_ptr"], atol=1e-5)
            shown = torch.where((seen.presence > 0)[..., None, None] | (now == 0), seen.logits, -1024.0)
            assert torch.allclose(shown, out["pred_masks"], atol=1e-4)


def test_what_appears_late_is_followed_backwards(batch: dict[str, torch.Tensor]):
    masks, order = _forwards_in_time(batch["masks"])
    assert order.tolist() == [[0, 1, 2], [0, 1, 2], [2, 1, 0]]
    assert masks.flatten(2).any(2).tolist() == [[True] * 3, [True, False, False], [True, True, False]]


def test_all_temporal_encodings_are_met():
    drawn = [_numbers(3) for _ in range(200)]
    assert all(0 < a < b < length <= LONGEST for (_, a, b), length in drawn)
    assert {b - a for (_, a, b), _ in drawn} == {1, 2, 3, 4, 5, 6}


def test_a_fresh_memory_leaves_the_decoder_what_it_knows(batch: dict[str, torch.Tensor]):
    torch.manual_seed(0)
    net = build_sam2_lite(SIDE, SIDE).eval()
    images = batch["images"].flatten(0, 1)
    start_memory(net, images)
    with torch.no_grad():
        coarse = Memory(net).encode(images).coarse
        wanted = coarse + net.no_mem_embed.reshape(1, -1, 1, 1)
        plain = net.memory_attention.norm(coarse.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        spread = (wanted - wanted.mean((0, 2, 3), keepdim=True)).square().mean()
        assert (plain - wanted).square().mean() < spread  # nearer than a constant
        cover = torch.zeros(1, 1, SIDE, SIDE)
        cover[..., 8:32, 6:40] = 1
        small = torch.nn.functional.avg_pool2d(cover, 4).numpy()
        assert np.allclose(net.mask_downsample(cover).numpy(), hint_logits(small), atol=1e-5)


def test_tracking_gives_masks_and_presence_for_every_date(batch: dict[str, torch.Tensor]):
    net = build_sam2_lite(SIDE, SIDE).eval()
    masks = batch["masks"][:2, 0].numpy()
    logits, presence = track(net, batch["images"][0].numpy(), masks)
    assert logits.shape == (2, 3, SIDE // 4, SIDE // 4)
    assert presence.shape == (2, 3)
    assert (logits[0, 0, 3:9, 3:9] > 0).all()  # the first date is as it was shown


def test_tracking_takes_embeddings_as_a_cache_keeps_them():
    refiner = load_refiner("sam2-lite", "cpu", decode_px=512)
    rng = np.random.default_rng(0)
    image = np.full((3, 512, 512), 60, np.uint8)
    image[:, 100:260, 140:300] = 200
    images = np.stack([np.clip(image + rng.integers(0, 30, image.shape), 0, 255).astype(np.uint8) for _ in range(3)])
    masks = np.zeros((1, 512, 512), bool)
    masks[0, 100:260, 140:300] = True
    direct, there = track(refiner.model, images, masks)
    embeddings = [refiner.encode(chip_of(image)) for image in images]
    kept = [type(e).from_arrays(e.to_arrays(), e.geobox) for e in embeddings]
    for frames, tolerance in ((embeddings, 0.05), (kept, 0.05)):  # encoded in bf16, and then kept in fp16
        logits, presence = track(refiner.model, frames, masks)
        assert logits.shape == direct.shape
        assert ((logits > 0) != (direct > 0)).mean() < 0.002
        assert np.abs(presence - there).max() < max(tolerance * np.abs(there).max(), 0.2)


def test_frames_of_embeddings_have_the_position_encoding_of_encoded_ones():
    refiner = load_refiner("sam2-lite", "cpu")
    memory = Memory(refiner.model)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 512, 512), np.uint8)
    with torch.inference_mode():
        encoded = memory.encode(torch.from_numpy(pixels)[None])
    frames = memory.frames([refiner.encode(chip_of(pixels))] * 2)
    assert frames.coarse.shape == (2, *encoded.coarse.shape[1:])
    assert torch.equal(frames.position[:1], encoded.position)
    for own, other in zip(frames, encoded, strict=True):
        assert torch.allclose(own[:1], other, atol=0.05 * float(other.abs().max()))

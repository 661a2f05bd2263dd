"""EdgeTAM as a refiner: its own names and shapes of weights, with random values."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from hybridseg.errors import HybridsegError, WeightsError
from hybridseg.nn.sam2 import official
from hybridseg.nn.sam2.edgetam import PATCH, build_edgetam
from hybridseg.nn.sam2.memory import Memory
from hybridseg.nn.sam2.official import load_refiner
from tests.nn.chips import chip_of
from tests.nn.hub import serve

NAMES = {
    "image_encoder.trunk.body.stem.conv1.c.weight": (24, 3, 3, 3),
    "image_encoder.trunk.body.stages_0.blocks.0.token_mixer.conv.bn.weight": (48,),
    "image_encoder.trunk.body.stages_0.blocks.0.se.fc1.weight": (16, 48, 1, 1),
    "image_encoder.trunk.body.stages_1.downsample.pre_block.channel_mixer.conv1.c.weight": (96, 48, 1, 1),
    "image_encoder.trunk.body.stages_2.blocks.13.channel_mixer.conv2.c.weight": (192, 384, 1, 1),
    "image_encoder.neck.convs.0.conv.weight": (256, 384, 1, 1),
    "memory_attention.layers.1.cross_attn_image.k_proj.weight": (256, 64),
    "memory_attention.layers.1.linear1.weight": (2048, 256),
    "maskmem_tpos_enc": (7, 1, 1, 64),
}
"""Of facebookresearch/EdgeTAM's checkpoint: timm's names of RepViT-M1 under `body`, SAM2's own for the rest."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    state = build_edgetam().state_dict()
    state["spatial_perceiver.latents"] = torch.randn(256, 64)
    state["spatial_perceiver.layers.0.attn.to_q.weight"] = torch.randn(64, 64)
    path = tmp_path_factory.mktemp("edgetam") / "edgetam.pt"
    torch.save({"model": state}, path)
    return path


def test_the_weights_have_edgetams_names_and_shapes():
    state = build_edgetam().state_dict()
    assert {name: tuple(state[name].shape) for name in NAMES} == NAMES
    assert "obj_ptr_tpos_proj.weight" not in state
    assert "no_obj_embed_spatial" not in state
    assert 13.5e6 < sum(value.numel() for value in state.values()) < 13.9e6  # 13.9 M with the perceiver


def test_it_encodes_and_decodes_as_any_refiner(checkpoint: Path):
    refiner = load_refiner(checkpoint, "cpu")
    assert (refiner.name, refiner.size_px) == ("edgetam", 1024)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 1024, 1024), np.uint8)
    embedding = refiner.encode(chip_of(pixels))
    assert tuple(embedding.coarse.shape) == (1, 256, 64, 64)
    box = np.array([[[100, 100], [400, 300]], [[500, 200], [900, 900]]], np.float32)
    logits, iou = refiner.decode(embedding, box, np.array([[2, 3]] * 2, np.int32), None)
    assert logits.shape == (2, 256, 256)
    assert np.isfinite(logits).all()
    assert ((iou >= 0) & (iou <= 1)).all()
    assert np.abs(logits[0] - logits[1]).max() > 1e-2
    assert pickle.loads(pickle.dumps(refiner)).sha256 == refiner.sha256
    with pytest.raises(HybridsegError, match="single images"):
        Memory(refiner.model)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path):
    torch.save({"model": {PATCH: torch.zeros(24, 3, 3, 3)}}, tmp_path / "part.pt")
    with pytest.raises(WeightsError, match="does not fit EdgeTAM") as caught:
        load_refiner(tmp_path / "part.pt", "cpu")
    assert "\n" not in str(caught.value)


def test_it_is_fetched_by_name_and_says_so_first(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with serve({"facebookresearch/EdgeTAM/edgetam.pt": checkpoint}) as hub:
        monkeypatch.setattr(official, "EDGETAM_URL", f"{hub.url}/facebookresearch/EdgeTAM/resolve/main/edgetam.pt")
        with pytest.warns(match=r"fetching.* edgetam: about 56 MB, licence Apache-2\.0 \(github.com/"):
            fetched = load_refiner("edgetam", "cpu")
    assert load_refiner("edgetam", "cpu") is fetched  # the server is gone
    (tmp_path / "checkpoints" / "edgetam.pt").unlink()
    with pytest.raises(WeightsError, match="give its path to --refiner") as caught:
        load_refiner("edgetam", "cpu")
    assert "\n" not in str(caught.value)

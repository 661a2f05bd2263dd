from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest
import torch

from hybridseg.errors import MissingExtra, WeightsError
from hybridseg.nn.backbones import build_backbone

MODULE = "hybridseg.nn.backbones.terratorch"


def test_terratorch_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    monkeypatch.setitem(sys.modules, "terratorch.registry", None)
    with pytest.raises(MissingExtra, match="--extra geofm"):
        build_backbone("terratorch:clay_v15")


@pytest.fixture
def terra() -> ModuleType:
    """The module of its backbones; terratorch imports much that warns."""
    pytest.importorskip("terratorch", reason="needs the extra geofm")
    precision = torch.get_float32_matmul_precision()
    module = importlib.import_module(MODULE)
    assert torch.get_float32_matmul_precision() == precision
    return module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("terra")
@pytest.mark.parametrize(
    ("name", "bands", "channels", "stride"),
    [("clay_v15", 3, 1024, 8), ("prithvi_eo_v2_tiny_tl", 6, 192, 16)],
)
def test_the_real_architectures_give_maps(name: str, bands: int, channels: int, stride: int) -> None:
    trunk = build_backbone(f"terratorch:{name}").eval()
    assert len(trunk.inputs.bands) == bands
    x = torch.zeros(1, bands, 128, 128)
    x[..., 64:] = 2.0
    with torch.inference_mode():
        (found,) = trunk(x)
    side = 128 // stride
    assert found.shape == (1, channels, side, side)
    # what it says of one half is not what it says of the other: the map is the right way round
    left, right = found[..., : side // 2].mean((2, 3)), found[..., side // 2 :].mean((2, 3))
    assert (left - right).abs().max() > 0.05


@pytest.mark.filterwarnings("ignore")
def test_clay_takes_its_checkpoint_from_the_cache(terra: ModuleType, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(terra, "CLAY_LARGE", {"dim": 32, "depth": 1, "heads": 2, "dim_head": 8, "mlp_ratio": 2})
    made = terra._Clay(pretrained=False)
    state = {f"model.encoder.{key}": value for key, value in made.encoder.state_dict().items()}
    torch.save({"state_dict": {**state, "model.decoder.x": torch.zeros(1)}}, tmp_path / "clay.ckpt")
    monkeypatch.setattr(terra, "hf_hub_download", lambda repo, name: tmp_path / "clay.ckpt")
    again = terra._Clay(pretrained=True)
    assert all(torch.equal(v, again.encoder.state_dict()[k]) for k, v in made.encoder.state_dict().items())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("terra")
def test_unknown_names_are_answered_with_those_there_are() -> None:
    with pytest.raises(WeightsError, match=r"no backbone 'clay_v9' here; there are clay_v15, .*prithvi_eo_v2_300"):
        build_backbone("terratorch:clay_v9")

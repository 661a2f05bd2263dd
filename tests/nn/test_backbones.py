from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from hybridseg.errors import BandsMissing, WeightsError
from hybridseg.nn.backbones import KINDS, build_backbone
from hybridseg.nn.backbones.base import Body, BodyBackbone, InputSpec, freeze, normalise, prepare, stages
from hybridseg.nn.backbones.lite0 import Lite0
from hybridseg.nn.classify.classifier import load_classifier
from hybridseg.nn.classify.heads import Segmenter, network_for, start_segmenter
from hybridseg.nn.sam2.official import load_refiner
from hybridseg.nn.weights import save_weights

MOCO = "torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO"
SATLAS = "torchgeo:Swin_V2_T_Weights.SENTINEL2_SI_RGB_SATLAS"


@pytest.mark.parametrize(
    ("name", "strides", "snap"),
    [
        ("lite0", [2, 4, 8, 16, 32], 32),
        ("sam2", [4, 8, 16, 32], 320),
        ("sam2:sam2.1-hiera-tiny", [4, 8, 16, 32], 640),
        ("timm:resnet18", [2, 4, 8, 16, 32], 32),
        ("timm:vit_tiny_patch16_224", [16], 128),
        ("torchgeo:ResNet18_Weights.SENTINEL2_RGB_MOCO", [2, 4, 8, 16, 32], 32),
        (SATLAS, [4, 8, 16, 32], 128),
    ],
)
def test_a_segmenter_takes_any_backbone(name: str, strides: list[int], snap: int):
    trunk = build_backbone(name)
    assert (trunk.strides, trunk.snap_px) == (strides, snap)
    net = Segmenter(2, trunk).eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 128, 128)).shape == (1, 4, 64, 64)


def test_features_of_a_backbone_in_cells_do_not_depend_on_the_window():
    trunk = build_backbone("timm:vit_tiny_patch16_224").eval()
    x = torch.randn(1, 3, 384, 256)
    with torch.no_grad():
        whole, part = trunk(x)[0], trunk(x[:, :, 128:])[0]
    assert whole.shape[-2:] == (24, 16)
    assert torch.allclose(whole[:, :, 16:], part[:, :, 8:], atol=1e-4)


def test_bands_and_scaling_of_the_weights_are_known():
    moco = build_backbone(MOCO).inputs
    assert len(moco.bands) == 13
    assert moco.std == (10000,) * 13
    assert str(moco).startswith("13 bands (B1 B2")
    assert str(moco).endswith("as reflectance x 10000")
    rgb = build_backbone("torchgeo:ResNet18_Weights.SENTINEL2_RGB_MOCO").inputs
    assert (rgb.rgb, moco.rgb, InputSpec().rgb) == (False, False, True)
    with pytest.raises(BandsMissing, match="3 bands, 4 came"):
        build_backbone("timm:resnet18")(torch.zeros(1, 4, 64, 64))


def test_normalised_images_reach_a_backbone_as_its_weights_were_trained():
    satlas = build_backbone(SATLAS)
    seen = normalise(torch.full((1, 3, 2, 2), 51, dtype=torch.uint8)) * satlas.scale + satlas.shift
    assert torch.allclose(seen, torch.full_like(seen, 51 / 255), atol=1e-5)


def test_other_bands_reach_body_and_stem_by_the_mean_and_deviation_of_the_weights():
    trunk = build_backbone(MOCO)
    seen = prepare(trunk, torch.full((1, 13, 2, 2), 2500.0))
    assert torch.allclose(seen, torch.full_like(seen, 0.25))
    assert torch.allclose(seen * trunk.scale + trunk.shift, seen)
    inputs = InputSpec(("a", "b"), "reflectance x 10000", (1000.0, 3000.0), (500.0, 1000.0))
    body = BodyBackbone(Body(torch.nn.Identity(), [2], [2], inputs))
    seen = prepare(body, torch.tensor([2000.0, 2000.0]).view(1, 2, 1, 1))
    assert seen.flatten().tolist() == [2.0, -1.0]
    with pytest.raises(BandsMissing, match=r"13 bands .* 3 came"):
        prepare(trunk, torch.zeros(1, 3, 2, 2))


def test_a_stem_beside_a_backbone_of_other_bands_takes_them_too():
    name = "torchgeo:Swin_V2_T_Weights.SENTINEL2_SI_MS_SATLAS"
    trunk = build_backbone(name)
    net = start_segmenter(trunk, ["a"], None).eval()
    with torch.no_grad():
        assert net(prepare(trunk, torch.zeros(1, 9, 128, 128))).shape == (1, 2, 64, 64)
    assert network_for({"classes": ["a"], "backbone": name}).stem[0].in_channels == 9


def test_only_the_last_stages_are_freed():
    trunk = build_backbone("lite0")
    parts = stages(trunk)
    assert len(parts) == 7
    freeze(trunk, free=1)
    free = {id(p) for p in trunk.parameters() if p.requires_grad}
    assert free == {id(p) for p in parts[-1].parameters()}


def test_training_a_refiners_encoder_leaves_the_refiner_as_it_is():
    refiner = load_refiner("sam2-lite", "cpu")
    trunk = build_backbone("sam2", pretrained=True)
    own, other = trunk.body.state_dict(), refiner.model.image_encoder.trunk.state_dict()
    assert all(torch.equal(own[key], other[key]) for key in other)
    with torch.no_grad():
        for parameter in trunk.parameters():
            assert parameter.requires_grad
            parameter.add_(1)
    assert not any(p.requires_grad for p in refiner.model.parameters())
    assert not torch.equal(next(trunk.body.parameters()), next(refiner.model.image_encoder.trunk.parameters()))


@pytest.mark.parametrize("name", ["resnet18", "lite0:foo", "timm:", "timm:nothing_of_the_kind", "torchgeo:Nothing"])
def test_unknown_backbones_are_named(name: str):
    with pytest.raises(WeightsError, match=name.split(":")[-1] or "timm") as error:
        build_backbone(name)
    assert "\n" not in str(error.value)


def test_the_message_lists_every_kind():
    with pytest.raises(WeightsError) as error:
        build_backbone("resnet18")
    assert all(kind in str(error.value) for kind in KINDS)


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*args: object) -> None:
        raise AssertionError(f"asked the network: {args[1:]}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)


@pytest.mark.usefixtures("_offline")
@pytest.mark.parametrize(
    "name", ["hf-hub:someone/anything", "hf_hub:someone/anything", "local-dir:/tmp", "someone/anything", "resnet18:x"]
)
def test_a_model_folder_cannot_make_timm_ask_the_hub(name: str, tmp_path: Path):
    card = {"classes": ["a"], "gsd_m": 0.3, "gsd_range_m": [0.1, 1.0], "backbone": f"timm:{name}"}
    save_weights(torch.nn.Linear(1, 1), tmp_path / "m", card)
    with pytest.raises(WeightsError, match="names of repositories and folders are not taken") as error:
        load_classifier(tmp_path / "m", "cpu")
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("_offline")
@pytest.mark.parametrize("name", ["lite0", "sam2", "sam2:sam2.1-hiera-tiny", "timm:resnet18.a1_in1k", MOCO, SATLAS])
def test_opening_a_model_folder_needs_no_network(name: str, tmp_path: Path):
    card = {
        "classes": ["a"],
        "gsd_m": 0.3,
        "gsd_range_m": [0.1, 1.0],
        "backbone": name,
        "source_bands": [*range(1, 14)],
    }
    net = network_for(card)
    if not net.trunk.inputs.rgb:
        card["source_bands"] = list(range(1, len(net.trunk.inputs.bands) + 1))
    save_weights(net, tmp_path / "m", card)
    classifier = load_classifier(tmp_path / "m", "cpu")
    bands = len(net.trunk.inputs.bands)
    pixels = np.zeros((bands, 128, 128), np.uint8 if net.trunk.inputs.rgb else np.float32)
    assert np.isfinite(classifier.predict(pixels)).all()


@pytest.mark.parametrize(("first", "side"), [(0, 64), (1, 96), (0, 75)])
def test_the_light_trunk_is_that_of_timm(first: int, side: int):
    theirs = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=tuple(range(first, 5))).eval()
    ours = Lite0(first).eval()
    assert list(ours.body.state_dict()) == list(theirs.state_dict())
    assert ours.channels == theirs.feature_info.channels()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    ours.body.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, side, side + 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for one, other in zip(ours.body(x), theirs(x), strict=True):
            assert torch.allclose(one, other, atol=1e-5, rtol=1e-5)


def test_its_first_weights_are_as_large_as_those_of_timm():
    ours, theirs = Lite0(), timm.create_model("tf_efficientnet_lite0", features_only=True)
    for name, weight in theirs.state_dict().items():
        if weight.ndim == 4 and weight.numel() > 1000:
            assert ours.body.state_dict()[name].std().item() == pytest.approx(weight.std().item(), rel=0.15)

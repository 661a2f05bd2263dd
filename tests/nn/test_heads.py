from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hybridseg.errors import BandsMissing, ThemeError, WeightsError
from hybridseg.nn.backbones import build_backbone
from hybridseg.nn.backbones.base import Body, BodyBackbone, InputSpec, freeze, normalise, prepare, stages
from hybridseg.nn.backbones.pyramid import pyramid_of
from hybridseg.nn.cards import model_folder
from hybridseg.nn.classify.heads import LinearSegmenter, network_for, start_segmenter
from hybridseg.nn.classify.segmenter import Segmenter
from hybridseg.nn.training.linear import Row, Samples, fit_linear, start_rows
from hybridseg.nn.weights import load_weights


def test_the_linear_head_is_a_1x1_convolution_of_all_levels_at_stride_2():
    net = LinearSegmenter(1, build_backbone("lite0-pyramid")).eval()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        levels = [
            level if s == 2 else F.interpolate(level, scale_factor=s / 2, mode="bilinear")
            for level, s in zip(net.trunk(x), net.trunk.strides, strict=True)
        ]
        assert torch.allclose(net(x), net.head(torch.cat(levels, 1)), atol=1e-4)


def test_one_sided_labels_are_refused():
    net = LinearSegmenter(1, build_backbone("lite0"))
    features = np.zeros((4, sum(net.trunk.channels)), np.float32)
    lone = Samples(features, np.ones(4, bool), np.ones(4, np.float32), np.ones(4, np.float32))
    with pytest.raises(ThemeError, match="inside its objects only"):
        fit_linear(net, [[lone]])


def _drawn(net: LinearSegmenter, truth: Row, count: int, seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 1, (count, net.head.in_channels)).astype(np.float32)
    chance = 1 / (1 + np.exp(-truth(features)))
    return Samples(features, rng.random(count) < chance, chance.astype(np.float32), np.ones(count, np.float32))


def test_a_few_labels_correct_a_start_and_do_not_forget_it():
    net = LinearSegmenter(1, build_backbone("lite0"))
    rng = np.random.default_rng(0)
    good = Row(rng.normal(0, 0.3, net.head.in_channels), 0.0)
    moved = Row(good.weight, 1.5)  # the same objects, in another place: more of them
    few, other, far = (_drawn(net, moved, n, seed) for n, seed in ((60, 1), (60, 2), (2000, 3)))

    def right(starts: list | None) -> float:
        fit_linear(net, [[few]], [[other]], starts)
        logits = Row(net.head.weight[0, :, 0, 0].detach().double().numpy(), net.head.bias[0].item())(far.features)
        return float(((logits > 0) == (moved(far.features) > 0)).mean())

    assert right([(good, good)]) > 0.9
    assert right([(good, good)]) > right(None) + 0.1


def test_starts_come_from_a_models_last_layer():
    folder = model_folder("buildings-lite0")
    net = Segmenter(1).eval()
    load_weights(net, folder)
    rows = start_rows(net, ["building"], 576)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = net(x)[0].flatten(1)
        features = pyramid_of(net).eval()(x)[0][0].flatten(1).T
    padded = np.pad(features.numpy(), [(0, 0), (0, 576 - 64)])
    for row, logits in zip(rows["building"], expected, strict=True):
        assert np.allclose(row(padded), logits.numpy(), atol=1e-3)


def test_cards_without_entries_mean_the_first_classifiers():
    assert set(network_for({"classes": ["a"]}).state_dict()) == set(Segmenter(1).state_dict())
    assert isinstance(network_for({"classes": ["a"], "head": "linear", "backbone": "lite0"}), LinearSegmenter)
    with pytest.raises(WeightsError, match="linear and pyramid"):
        network_for({"classes": ["a"], "head": "tree"})


@pytest.mark.parametrize(
    ("name", "strides", "snap"),
    [
        ("sam2", [4, 8, 16, 32], 320),
        ("sam2:sam2.1-hiera-tiny", [4, 8, 16, 32], 640),
        ("timm:resnet18", [2, 4, 8, 16, 32], 32),
        ("timm:vit_tiny_patch16_224", [16], 128),
        ("torchgeo:ResNet18_Weights.SENTINEL2_RGB_MOCO", [2, 4, 8, 16, 32], 32),
        ("torchgeo:Swin_V2_T_Weights.SENTINEL2_SI_RGB_SATLAS", [4, 8, 16, 32], 128),
    ],
)
def test_a_segmenter_takes_any_backbone(name: str, strides: list[int], snap: int):
    trunk = build_backbone(name)
    assert (trunk.strides, trunk.snap_px) == (strides, snap)
    net = Segmenter(2, trunk).eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 128, 128)).shape == (1, 4, 64, 64)


def test_what_a_backbone_in_cells_says_does_not_depend_on_the_window():
    trunk = build_backbone("timm:vit_tiny_patch16_224").eval()
    x = torch.randn(1, 3, 384, 256)
    with torch.no_grad():
        whole, part = trunk(x)[0], trunk(x[:, :, 128:])[0]
    assert whole.shape[-2:] == (24, 16)
    assert torch.allclose(whole[:, :, 16:], part[:, :, 8:], atol=1e-4)


def test_bands_and_scaling_of_the_weights_are_known():
    moco = build_backbone("torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO").inputs
    assert len(moco.bands) == 13
    assert moco.std == (10000,) * 13
    assert str(moco).startswith("13 bands (B1 B2")
    assert str(moco).endswith("as reflectance x 10000")
    rgb = build_backbone("torchgeo:ResNet18_Weights.SENTINEL2_RGB_MOCO").inputs
    assert (rgb.rgb, moco.rgb, InputSpec().rgb) == (False, False, True)
    with pytest.raises(BandsMissing, match="3 bands, 4 came"):
        build_backbone("timm:resnet18")(torch.zeros(1, 4, 64, 64))


def test_normalised_images_reach_a_backbone_as_its_weights_want_them():
    satlas = build_backbone("torchgeo:Swin_V2_T_Weights.SENTINEL2_SI_RGB_SATLAS")
    seen = normalise(torch.full((1, 3, 2, 2), 51, dtype=torch.uint8)) * satlas.scale + satlas.shift
    assert torch.allclose(seen, torch.full_like(seen, 51 / 255), atol=1e-5)


def test_other_bands_reach_body_and_stem_by_the_mean_and_deviation_of_the_weights():
    trunk = build_backbone("torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO")
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
    trunk = build_backbone("torchgeo:Swin_V2_T_Weights.SENTINEL2_SI_MS_SATLAS")
    net = start_segmenter(trunk, ["a"], None).eval()
    with torch.no_grad():
        assert net(prepare(trunk, torch.zeros(1, 9, 128, 128))).shape == (1, 2, 64, 64)
    card = {"classes": ["a"], "backbone": "torchgeo:Swin_V2_T_Weights.SENTINEL2_SI_MS_SATLAS"}
    assert network_for(card).stem[0].in_channels == 9


def test_only_the_last_stages_are_freed():
    trunk = build_backbone("lite0")
    parts = stages(trunk)
    assert len(parts) == 7
    freeze(trunk, free=1)
    free = {id(p) for p in trunk.parameters() if p.requires_grad}
    assert free == {id(p) for p in parts[-1].parameters()}


@pytest.mark.parametrize("name", ["resnet18", "timm:", "timm:nothing_of_the_kind", "torchgeo:Nothing"])
def test_unknown_backbones_are_named(name: str):
    with pytest.raises(WeightsError, match=name.split(":")[-1] or "timm"):
        build_backbone(name)

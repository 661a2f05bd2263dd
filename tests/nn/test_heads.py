from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hybridseg.errors import BandsMissing, MissingExtra, ThemeError, WeightsError
from hybridseg.nn.backbones import build_backbone
from hybridseg.nn.bodies import Wants, freeze, snap_px, stages, wants_of
from hybridseg.nn.heads import LinearSegmenter, Samples, fit_linear, network_for, sample_features
from hybridseg.nn.segmenter import Segmenter

RGB8 = (("red", "green", "blue"), "8-bit, 0 to 255")


def test_the_linear_head_is_a_1x1_convolution_of_all_levels_at_stride_2():
    net = LinearSegmenter(1, build_backbone("lite0-pyramid")).eval()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        levels = [
            level if s == 2 else F.interpolate(level, scale_factor=s / 2, mode="bilinear")
            for level, s in zip(net.trunk(x), net.trunk.strides, strict=True)
        ]
        assert torch.allclose(net(x), net.head(torch.cat(levels, 1)), atol=1e-4)


def test_features_sampled_are_those_that_the_head_sees():
    trunk = build_backbone("lite0").eval()
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)
    image[20:60, 30:80] = 250
    targets = np.zeros((1, 3, 96, 128), np.float32)
    targets[0, :2, 20:60, 30:80] = 0.9
    targets[0, 2, :, 10:] = 1
    (samples,) = sample_features(trunk, image, targets, 50, rng)
    assert samples.extent.sum() == 50
    assert len(samples.features) == 100
    net = LinearSegmenter(1, trunk).eval()
    fit_linear(net, [[samples]])
    x = torch.from_numpy(samples.features)
    direct = x @ net.head.weight[:, :, 0, 0].T + net.head.bias
    with torch.no_grad():
        from hybridseg.nn.sam2 import normalise

        heatmap = net(normalise(torch.from_numpy(image.transpose(2, 0, 1).copy())[None]))[0]
    assert heatmap.shape == (2, 48, 64)
    for value in direct[:5, 0].tolist():
        assert (heatmap[0] - value).abs().min() < 1e-3
    assert ((direct[:, 0] > 0).numpy() == samples.extent).mean() > 0.9


def test_one_sided_labels_are_refused():
    net = LinearSegmenter(1, build_backbone("lite0"))
    lone = Samples(np.zeros((4, sum(net.trunk.channels)), np.float32), np.ones(4, bool), np.ones(4, np.float32))
    with pytest.raises(ThemeError, match="inside its objects only"):
        fit_linear(net, [[lone]])


def test_cards_without_entries_mean_the_first_classifiers():
    assert set(network_for({"classes": ["a"]}).state_dict()) == set(Segmenter(1).state_dict())
    assert isinstance(network_for({"classes": ["a"], "head": "linear", "backbone": "lite0"}), LinearSegmenter)
    with pytest.raises(WeightsError, match="linear and pyramid"):
        network_for({"classes": ["a"], "head": "tree"})


@pytest.mark.parametrize(
    ("name", "strides", "snap"),
    [
        ("sam2", [4, 8, 16, 32], 32),
        ("timm:resnet18", [2, 4, 8, 16, 32], 32),
        ("timm:vit_tiny_patch16_224", [16], 128),
        ("torchgeo:ResNet18_Weights.SENTINEL2_RGB_MOCO", [2, 4, 8, 16, 32], 32),
        ("torchgeo:Swin_V2_T_Weights.SENTINEL2_SI_RGB_SATLAS", [4, 8, 16, 32], 128),
    ],
)
def test_a_segmenter_takes_any_backbone(name: str, strides: list[int], snap: int):
    trunk = build_backbone(name)
    assert (trunk.strides, snap_px(trunk)) == (strides, snap)
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


def test_bands_and_scaling_of_the_weights_are_asked_for():
    moco = wants_of(build_backbone("torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO"))
    assert len(moco.bands) == 13
    assert moco.std == (10000,) * 13
    with pytest.raises(BandsMissing, match=r"13 bands \(B1 B2.*\) as reflectance x 10000; it would be given red"):
        moco.check("moco", *RGB8)
    rgb = wants_of(build_backbone("torchgeo:ResNet18_Weights.SENTINEL2_RGB_MOCO"))
    with pytest.raises(BandsMissing, match="reflectance"):
        rgb.check("moco", *RGB8)
    Wants().check("lite0", *RGB8)
    with pytest.raises(BandsMissing, match="3 bands, 4 came"):
        build_backbone("timm:resnet18")(torch.zeros(1, 4, 64, 64))


def test_normalised_images_reach_a_backbone_as_its_weights_want_them():
    satlas = build_backbone("torchgeo:Swin_V2_T_Weights.SENTINEL2_SI_RGB_SATLAS")
    from hybridseg.nn.sam2 import normalise

    seen = normalise(torch.full((1, 3, 2, 2), 51, dtype=torch.uint8)) * satlas.scale + satlas.shift
    assert torch.allclose(seen, torch.full_like(seen, 51 / 255), atol=1e-5)


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


def test_terratorch_is_an_extra():
    with pytest.raises(MissingExtra, match="--extra geofm"):
        build_backbone("terratorch:clay_v15")

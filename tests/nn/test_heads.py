from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hybridseg.errors import ThemeError, WeightsError
from hybridseg.nn.backbones import build_backbone
from hybridseg.nn.backbones.base import prepare
from hybridseg.nn.cards import model_folder, read_card
from hybridseg.nn.classify.heads import LinearSegmenter, Segmenter, features_of, network_for, pyramid_of
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


@pytest.mark.parametrize("name", ["lite0", "sam2", "timm:vit_tiny_patch16_224"])
def test_features_at_a_pixel_are_those_that_the_linear_head_has_there(name: str):
    net = LinearSegmenter(2, build_backbone(name)).eval()
    side = net.trunk.image_px or 256
    pixels = np.random.default_rng(0).integers(0, 255, (3, side, side), np.uint8)
    at = np.random.default_rng(1).integers(0, side // 2, (200, 2))
    at[:4] = [(0, 0), (0, side // 2 - 1), (side // 2 - 1, 0), (side // 2 - 1, side // 2 - 1)]
    features = features_of(net.trunk, pixels).at(at)
    assert features.shape == (200, sum(net.trunk.channels))
    with torch.no_grad():
        heat = net(prepare(net.trunk, torch.from_numpy(pixels)[None]))[0].numpy()
        direct = F.conv2d(torch.from_numpy(features)[:, :, None, None], net.head.weight, net.head.bias)[
            ..., 0, 0
        ].numpy()
    np.testing.assert_allclose(direct, heat[:, at[:, 0], at[:, 1]].T, atol=1e-3)


def samples_of(features: np.ndarray, extent: np.ndarray, interior: np.ndarray | None = None) -> Samples:
    interior = extent.astype(np.float32) if interior is None else interior.astype(np.float32)
    return Samples(features.astype(np.float32), extent, interior, np.ones(len(extent), np.float32))


def test_a_head_is_learnt_from_samples():
    trunk = build_backbone("lite0").eval()
    pixels = np.random.default_rng(0).integers(0, 90, (3, 96, 128), np.uint8)
    pixels[:, 20:60, 30:80] = 250
    rows, cols = np.mgrid[:48, :64].reshape(2, -1)
    inside = (rows >= 10) & (rows < 30) & (cols >= 15) & (cols < 40)
    features = features_of(trunk, pixels).at(np.stack([rows, cols], 1))
    net = LinearSegmenter(1, trunk).eval()
    fit_linear(net, [[samples_of(features, inside)]])
    with torch.no_grad():
        heat = net(prepare(trunk, torch.from_numpy(pixels)[None]))[0, 0].numpy().ravel()
    assert ((heat > 0) == inside).mean() > 0.9


def test_one_sided_labels_are_refused():
    net = LinearSegmenter(1, build_backbone("lite0"))
    features = np.zeros((4, sum(net.trunk.channels)), np.float32)
    with pytest.raises(ThemeError, match="inside its objects only"):
        fit_linear(net, [[samples_of(features, np.ones(4, bool))]])


def _drawn(net: LinearSegmenter, truth: Row, count: int, seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 1, (count, net.head.in_channels)).astype(np.float32)
    chance = 1 / (1 + np.exp(-truth(features)))
    return samples_of(features, rng.random(count) < chance, chance)


def test_a_few_labels_correct_a_start_and_do_not_lose_it():
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
    classes = read_card(folder)["classes"]
    net = Segmenter(len(classes)).eval()
    load_weights(net, folder)
    rows = start_rows(net, classes, 576)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = net(x)[0].flatten(1)
        features = pyramid_of(net).eval()(x)[0][0].flatten(1).T
    padded = np.pad(features.numpy(), [(0, 0), (0, 576 - 64)])
    flat = [row for name in classes for row in rows[name]]
    for row, logits in zip(flat, expected, strict=True):
        assert np.allclose(row(padded), logits.numpy(), atol=1e-3)


def test_cards_without_entries_mean_the_first_classifiers():
    assert set(network_for({"classes": ["a"]}).state_dict()) == set(Segmenter(1).state_dict())
    assert isinstance(network_for({"classes": ["a"], "head": "linear", "backbone": "lite0"}), LinearSegmenter)
    with pytest.raises(WeightsError, match="linear and pyramid"):
        network_for({"classes": ["a"], "head": "tree"})

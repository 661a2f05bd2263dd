"""Which pixels a linear head learns from, and that it learns from what it will see."""

from __future__ import annotations

import numpy as np
import torch

from hybridseg.finetuning.features import HALO_PX, sample_features
from hybridseg.nn.backbones import build_backbone
from hybridseg.nn.backbones.base import normalise
from hybridseg.nn.classify.heads import LinearSegmenter
from hybridseg.nn.training.linear import fit_linear


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
    direct = (torch.from_numpy(samples.features) @ net.head.weight[:, :, 0, 0].T + net.head.bias).detach()
    # as much empty ground around as the features were computed with
    shown = np.pad(image, [(HALO_PX, HALO_PX), (HALO_PX, HALO_PX), (0, 0)]).transpose(2, 0, 1)
    with torch.no_grad():
        heatmap = net(normalise(torch.from_numpy(shown.copy())[None]))[0, :, *[slice(HALO_PX // 2, -HALO_PX // 2)] * 2]
    assert heatmap.shape == (2, 48, 64)
    inside = np.zeros((48, 64), bool)
    inside[10:30, 15:40] = True
    for value, extent in zip(direct, samples.extent, strict=True):
        near = (heatmap - value[:, None, None]).abs().amax(0)[torch.from_numpy(inside == extent)]
        assert near.min() < 1e-3  # both logits of one pixel on that side
    assert ((direct[:, 0] > 0).numpy() == samples.extent).mean() > 0.9

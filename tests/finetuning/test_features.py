"""Which pixels a linear head learns from, and that their features are those that the sweep computes."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
import torch

from hybridseg.finetuning.features import sample_features
from hybridseg.labels.labelled import Labelled, LabelledGrid, on_grid
from hybridseg.labels.samples import targets_of
from hybridseg.nn.backbones import build_backbone
from hybridseg.nn.classify.classifier import Classifier
from hybridseg.nn.classify.heads import LinearSegmenter
from hybridseg.nn.training.linear import fit_linear
from hybridseg.read.opening import open_scene
from hybridseg.types import Window
from hybridseg.what.classify import Classify
from tests.rasters import EAST, NORTH, utm_affine, write


def bright_square(folder: Path) -> LabelledGrid:
    """Dark ground of 1 m with a bright square of 40 m, all of it labelled but a strip."""
    image = np.random.default_rng(0).integers(0, 90, (3, 192, 256), np.uint8)
    image[:, 60:100, 80:120] = 250
    scene = open_scene(write(folder / "a.tif", image, utm_affine(1.0), photometric="rgb"))
    square = shapely.box(EAST + 80, NORTH - 100, EAST + 120, NORTH - 60)
    truth = gpd.GeoDataFrame({"class": ["a"]}, geometry=[square], crs=scene.crs)
    area = shapely.box(EAST + 20, NORTH - 192, EAST + 256, NORTH)
    return on_grid(Labelled(scene, truth, area), ["a"], 1.0, 32)


def test_as_many_pixels_inside_as_outside_with_the_features_of_the_sweep(tmp_path: Path):
    torch.manual_seed(0)
    grid, trunk = bright_square(tmp_path), build_backbone("lite0").eval()
    targets = targets_of(grid.image, ["a"], grid.image.valid)
    (samples,) = sample_features(trunk, grid, targets, 50, np.random.default_rng(0))
    assert samples.extent.sum() == 50
    assert len(samples.features) == 100
    assert samples.weight[samples.extent].sum() < samples.weight[~samples.extent].sum()
    net = LinearSegmenter(1, trunk).eval()
    fit_linear(net, [[samples]])
    weight, bias = net.head.weight.detach().numpy()[0, :, 0, 0], net.head.bias[0].item()
    learnt = 1 / (1 + np.exp(-(samples.features @ weight + bias)))
    card = {"classes": ["a"], "gsd_m": 1.0, "gsd_range_m": [0.5, 2.0]}
    whole = Window(0, 0, grid.grid.width, grid.grid.height)
    heat = Classify(Classifier(net, card, tmp_path, ""))(grid.view, grid.grid, whole, whole).values[0]
    extent = targets[0, 0].reshape(heat.shape[0], 2, heat.shape[1], 2).mean((1, 3)) > 0.5
    for value, inside in zip(learnt, samples.extent, strict=True):
        assert np.abs(heat[extent == inside] - value).min() < 1e-4
    assert ((learnt > 0.5) == samples.extent).mean() > 0.8

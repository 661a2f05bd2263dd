"""Training pixels of a linear head are seen as the sweep of an extraction sees them."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
import torch
from affine import Affine

from hybridseg.finetuning.features import sample_features
from hybridseg.labels.labelled import Labelled, LabelledGrid, on_grid
from hybridseg.labels.samples import targets_of
from hybridseg.nn.backbones import build_backbone
from hybridseg.nn.backbones.base import Backbone
from hybridseg.nn.classify.heads import LinearSegmenter, features_of
from hybridseg.nn.training.linear import fit_linear
from hybridseg.read.opening import open_scene
from hybridseg.types import Window
from hybridseg.what.classify import BEYOND_SNAPS, SweepWindows, crop
from tests.rasters import write

SNAP_PX = 32
BEYOND_PX = BEYOND_SNAPS * SNAP_PX
HEIGHT, WIDTH = 320, 384
BLOCK = (slice(100, 180), slice(150, 260))


@pytest.fixture(scope="module")
def trunk() -> Backbone:
    torch.manual_seed(0)
    return build_backbone("lite0").eval()


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Labelled:
    """A scene of noise with a bright block, whose pixels are those of the working grid."""
    image = np.random.default_rng(0).integers(1, 200, (3, HEIGHT, WIDTH), dtype=np.uint8)
    image[:, *BLOCK] = 250
    place = Affine(1, 0, 64_000, 0, -1, 320_000)
    scene = open_scene(write(tmp_path_factory.mktemp("noise") / "a.tif", image, place, photometric="rgb"))
    rows, cols = BLOCK
    block = shapely.box(64_000 + cols.start, 320_000 - rows.stop, 64_000 + cols.stop, 320_000 - rows.start)
    truth = gpd.GeoDataFrame({"class": ["building"]}, geometry=[block], crs=scene.crs)
    return Labelled(scene, truth, shapely.box(*scene.geobox.boundingbox.bbox))


def gridded(labelled: Labelled) -> LabelledGrid:
    return on_grid(labelled, ["building"], 1.0, SNAP_PX)


def sampled(trunk: Backbone, grid: LabelledGrid, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Features and their places; the interior of the targets is the number of the pixel of the heatmap."""
    targets = targets_of(grid.image, ["building"], grid.image.valid)
    number = np.arange(targets[0, 1].size // 4, dtype=np.float32).reshape(grid.grid.height // 2, -1)
    targets[0, 1] = number.repeat(2, 0).repeat(2, 1)
    (samples,) = sample_features(trunk, grid, targets, count, np.random.default_rng(1))
    return samples.features, np.stack(np.divmod(samples.interior.astype(int), grid.grid.width // 2), axis=1)


def test_they_are_those_of_one_padded_image(trunk: Backbone, labelled: Labelled):
    grid = gridded(labelled)
    features, at = sampled(trunk, grid)
    assert len(at) == 120
    assert grid.image.image.shape == (HEIGHT, WIDTH, 3)
    whole = np.pad(grid.image.image, [(BEYOND_PX, BEYOND_PX), (BEYOND_PX, BEYOND_PX), (0, 0)]).transpose(2, 0, 1)
    expected = features_of(trunk, np.ascontiguousarray(whole)).at(at + BEYOND_PX // 2)
    assert np.abs(features - expected).max() < 1e-4
    assert np.abs(features).max() > 0.1


def test_they_do_not_depend_on_the_windows(trunk: Backbone, labelled: Labelled, monkeypatch: pytest.MonkeyPatch):
    grid, cores, read = gridded(labelled), SweepWindows.cores, SweepWindows.read
    features, at = sampled(trunk, grid)
    windows: list[Window] = []
    monkeypatch.setattr(SweepWindows, "cores", lambda self, shape: cores(self, shape, core_px=128))
    monkeypatch.setattr(SweepWindows, "read", lambda self, *given: windows.append(given[2]) or read(self, *given))
    other, same = sampled(trunk, grid)
    assert (same == at).all()
    assert len(windows) > 4
    assert np.abs(features - other).max() < 1e-4


def test_a_labelled_part_is_seen_with_the_ground_around_it(trunk: Backbone, labelled: Labelled):
    part = shapely.box(64_128, 320_000 - 224, 64_288, 320_000 - 64)
    whole, small = gridded(labelled), gridded(Labelled(labelled.scene, labelled.truth, part))
    assert small.grid.width < whole.grid.width
    features, at = sampled(trunk, small)
    shown = labelled.scene.read_grid(crop(whole.grid, Window(0, 0, WIDTH, HEIGHT).pad(BEYOND_PX))).pixels
    col, row = ~whole.grid.affine * (small.grid.affine.c, small.grid.affine.f)
    offset = (np.array([round(row), round(col)]) + BEYOND_PX) // 2
    assert np.abs(features - features_of(trunk, shown).at(at + offset)).max() < 1e-4
    # alone, as the pixels of the labelled part, it would look otherwise
    alone = features_of(trunk, np.ascontiguousarray(small.image.image.transpose(2, 0, 1))).at(at)
    assert np.abs(features - alone).max() > 1e-2


def test_a_head_fitted_on_them_tells_the_labels_apart(trunk: Backbone, labelled: Labelled):
    grid = gridded(labelled)
    targets = targets_of(grid.image, ["building"], grid.image.valid)
    (samples,) = sample_features(trunk, grid, targets, 50, np.random.default_rng(0))
    assert samples.extent.sum() == 50
    net = LinearSegmenter(1, trunk).eval()
    fit_linear(net, [[samples]])
    direct = torch.from_numpy(samples.features) @ net.head.weight[:, :, 0, 0].T + net.head.bias
    assert ((direct[:, 0] > 0).numpy() == samples.extent).mean() > 0.9

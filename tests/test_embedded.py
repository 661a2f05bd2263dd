"""The embedded models, on the rendered town and on real imagery: they find buildings, and tiling does not matter."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pytest
import shapely

from hybridseg.evaluate.measure.objects import match
from hybridseg.nn.classifier import load_classifier
from hybridseg.nn.refiners import load_refiner
from hybridseg.read.source import Source
from hybridseg.run.pipeline import Counts, Extent, Pipeline
from hybridseg.theme import load_theme
from townscape import render_town

TILINGS = [(1024, 0), (512, 96), (352, 160)]


def run(scene: Path, folder: Path, extent: Extent | None, tiling: tuple[int, int] = TILINGS[0]) -> gpd.GeoDataFrame:
    theme, source, counts = load_theme("buildings"), Source.open(scene), Counts()
    classifier = load_classifier(theme.classifier)
    pipeline = Pipeline(theme, load_refiner("sam2-lite"), *tiling)
    pipeline.heatmap(source, classifier, classifier.gsd_m, extent, folder / "heatmap.tif", counts)
    prompts = pipeline.prompts(source, folder / "heatmap.tif", extent, counts)
    features = pipeline.features(source, prompts, pipeline.refine(source, prompts, counts), counts, extent)
    assert not counts.failures
    return features


def same(one: gpd.GeoDataFrame, two: gpd.GeoDataFrame) -> None:
    assert len(one) == len(two) > 10
    assert len(match(one.geometry, two.geometry, iou=0.98).ious) == len(one)


def halved(scene: Path, folder: Path, extent: Extent, whole: gpd.GeoDataFrame) -> None:
    left, bottom, right, top = extent
    half = (left, bottom, right, (bottom + top) / 2)
    inside = shapely.box(*half)
    part = run(scene, folder, half)
    same(whole[whole.within(inside)], part[part.within(inside)])


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, gpd.GeoDataFrame, gpd.GeoDataFrame]:
    folder = tmp_path_factory.mktemp("town")
    scene, truth = render_town(640, 0.3, seed=7).write(folder)
    return scene, gpd.read_file(truth), run(scene, folder, None)


@pytest.fixture(scope="module")
def banepa(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Extent, gpd.GeoDataFrame]:
    scene = shared / "scenes" / "banepa_z19.tif"
    left, bottom, right, top = 9520308.31, 3202700.0, 9520384.75, 3202940.8
    extent = (left, bottom, right, top)
    return scene, extent, run(scene, tmp_path_factory.mktemp("banepa"), extent)


def test_finds_the_rendered_buildings(town):
    _, truth, features = town
    found = match(features.geometry, truth.geometry)
    assert found.f1 > 0.6
    assert found.mean_iou > 0.75


@pytest.mark.parametrize("tiling", TILINGS[1:])
def test_tiling_does_not_matter_on_the_town(town, tmp_path: Path, tiling: tuple[int, int]):
    scene, _, features = town
    same(features, run(scene, tmp_path, None, tiling))


def test_extent_does_not_matter_on_the_town(town, tmp_path: Path):
    scene, _, features = town
    halved(scene, tmp_path, Source.open(scene).geobox.boundingbox.bbox, features)


@pytest.mark.parametrize("tiling", TILINGS[1:])
def test_tiling_does_not_matter_on_banepa(banepa, tmp_path: Path, tiling: tuple[int, int]):
    scene, extent, features = banepa
    same(features, run(scene, tmp_path, extent, tiling))


def test_extent_does_not_matter_on_banepa(banepa, tmp_path: Path):
    scene, extent, features = banepa
    halved(scene, tmp_path, extent, features)

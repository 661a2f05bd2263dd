from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from hybridseg.evaluate.measure.objects import match
from hybridseg.read.source import Source
from hybridseg.run.pipeline import Counts, Extent, Pipeline
from hybridseg.theme import Theme, load_theme
from tests.doubles import Bright, Threshold
from townscape import render_town

THEME = load_theme("buildings").model_copy(update={"shape": "none"})


def run(
    scene: Path,
    folder: Path,
    extent: Extent | None = None,
    core_px: int = 1024,
    offset_px: int = 0,
    theme: Theme = THEME,
    refiner: Threshold | None = Threshold(),  # noqa: B008
) -> tuple[gpd.GeoDataFrame, Counts]:
    source, counts = Source.open(scene), Counts()
    pipeline = Pipeline(theme, refiner, core_px, offset_px)
    pipeline.heatmap(source, Bright(), 0.25, extent, folder / "heatmap.tif", counts)
    prompts = pipeline.prompts(source, folder / "heatmap.tif", extent, counts)
    return pipeline.features(source, prompts, pipeline.refine(source, prompts, counts), counts, extent), counts


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scene, _ = render_town(512, 0.3, seed=3).write(tmp_path_factory.mktemp("town"))
    return scene


def same(one: gpd.GeoDataFrame, two: gpd.GeoDataFrame) -> None:
    assert len(one) == len(two) > 5
    found = match(one.geometry, two.geometry, iou=0.98)
    assert len(found.ious) == len(one)
    assert one["id"].tolist() == two["id"].tolist()


@pytest.mark.parametrize("core_px", [128, 352, 1024])
@pytest.mark.parametrize("offset_px", [0, 32, 96])
def test_the_result_does_not_depend_on_the_tiling(town: Path, tmp_path: Path, core_px: int, offset_px: int):
    whole, _ = run(town, tmp_path)
    tiled, _ = run(town, tmp_path, core_px=core_px, offset_px=offset_px)
    same(whole, tiled)


def test_the_result_does_not_depend_on_the_extent(town: Path, tmp_path: Path):
    left, bottom, right, top = Source.open(town).geobox.boundingbox
    half = (left, bottom, (left + right) / 2, top)
    whole, _ = run(town, tmp_path)
    part, _ = run(town, tmp_path, extent=half)
    inside = shapely.box(*half)
    same(whole[whole.within(inside)].reset_index(drop=True), part[part.within(inside)].reset_index(drop=True))


def test_ground_without_prompts_is_never_encoded(blocks: Path, tmp_path: Path):
    features, counts = run(blocks, tmp_path)
    assert len(features) == counts.prompts == 5
    assert 0 < counts.windows_refined <= 5 < counts.windows_in_raster


def test_refused_masks_leave_the_coarse_outline_and_say_why(blocks: Path, tmp_path: Path):
    kept, _ = run(blocks, tmp_path)
    refused, counts = run(blocks, tmp_path, refiner=Threshold(iou=0.1))
    coarse, _ = run(blocks, tmp_path, refiner=None)
    assert set(kept["origin"]) == {"refined"}
    assert set(refused["origin"]) == {"coarse"}
    assert counts.refined == 0
    assert np.allclose(refused["iou_pred"], 0.1)
    assert coarse["iou_pred"].isna().all()
    assert shapely.equals(refused.geometry.to_numpy(), coarse.geometry.to_numpy()).all()


def test_a_failed_window_is_listed_and_its_objects_stay_coarse(blocks: Path, tmp_path: Path):
    class Broken(Threshold):
        def encode(self, pixels: np.ndarray) -> np.ndarray:
            raise RuntimeError("out of memory")

    features, counts = run(blocks, tmp_path, refiner=Broken())
    assert len(features) == 5
    assert set(features["origin"]) == {"coarse"}
    assert len(counts.failures) == counts.windows_refined
    assert "out of memory" in counts.failures[0].reason


def test_measures_are_in_range(town: Path, tmp_path: Path):
    features, _ = run(town, tmp_path)
    assert features["score"].between(0, 1).all()
    assert features["agreement"].between(0, 1).all()
    assert features["stability"].between(0, 1).all()
    assert features.geometry.is_valid.all()
    assert (features["area_m2"] / features.area - 1).abs().max() < 0.01

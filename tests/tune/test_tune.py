from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import yaml

from hybridseg.errors import HybridsegError
from hybridseg.read.raster import RasterScene
from hybridseg.theme import RegionPolicy, load_theme
from hybridseg.tune.run import tune
from hybridseg.tune.search import ascend, choices_for, objective, policies
from tests.conftest import BLOCKS
from tests.doubles import Bright, Threshold


def test_the_search_finds_the_top_of_a_hill_and_tries_nothing_twice():
    tried = []

    def score(settings: dict) -> float:
        tried.append(tuple(settings.items()))
        return -((settings["a"] - 3) ** 2) - (settings["b"] - 1) ** 2

    best, reached = ascend({"a": 0, "b": 0}, {"a": [0, 1, 2, 3], "b": [0, 1, 2]}, score)
    assert best == {"a": 3, "b": 1}
    assert reached == 0
    assert len(tried) == len(set(tried))


def test_a_gain_within_the_noise_moves_nothing():
    best, _ = ascend({"a": 0}, {"a": [0, 1]}, lambda s: 0.0005 * s["a"])
    assert best == {"a": 0}


def test_lengths_are_tried_as_factors_of_the_themes_own():
    tried = choices_for(RegionPolicy(smooth_m=2, min_area_m2=50))
    assert tried["smooth_m"] == [0, 1, 2, 4, 8]
    assert tried["min_area_m2"][1] == 50
    scores = {"f1": 0.2, "area_iou": 0.8, "boundary_f1": 0.4}
    assert objective(scores, discrete=False) == pytest.approx(1.0)
    assert objective(scores, discrete=True) == pytest.approx(0.4)


def test_objects_that_count_are_looked_for_in_two_ways():
    kinds = {name: [p.kind for p in policies(load_theme(name))] for name in ("buildings", "fields", "roads", "water")}
    assert kinds["buildings"] == kinds["fields"] == ["instances", "regions"]
    assert kinds["water"] == kinds["roads"] == ["regions"]
    solar = load_theme("solar").model_copy(update={"objects": RegionPolicy(min_area_m2=7)})
    assert [p.min_area_m2 for p in policies(solar)] == [7, 7]


@pytest.fixture
def labels(blocks: Path, tmp_path: Path) -> Path:
    source = RasterScene.open(blocks)
    to_world = source.geobox.affine
    from shapely import box
    from shapely.affinity import affine_transform

    a, b, c, d, e, f = tuple(to_world)[:6]
    rows = [affine_transform(box(x, y, x + w, y + h), [a, b, d, e, c, f]) for y, x, h, w in BLOCKS]
    gpd.GeoDataFrame(geometry=rows, crs=str(source.crs)).to_file(tmp_path / "labels.gpkg")
    return tmp_path / "labels.gpkg"


def test_tune_writes_a_theme_that_loads(blocks: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hybridseg.nn.classify.classifier.load_classifier", lambda *_: Bright())
    monkeypatch.setattr("hybridseg.nn.sam2.official.load_refiner", lambda *_: Threshold())
    out = tune("buildings", tmp_path / "mine.yaml", scene=str(blocks), labels=str(labels))
    theme = load_theme(out)
    assert theme.name == "mine"
    assert theme.label == "building"
    assert theme.refiner in ("none", "sam2-lite")
    assert "refined" in out.read_text().splitlines()[0]
    assert yaml.safe_load(out.read_text())["objects"]["kind"] == "instances"


def test_bands_are_those_asked_for(blocks: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with rasterio.open(blocks) as file:
        pixels, profile = file.read(), file.profile
    four = tmp_path / "four.tif"
    with rasterio.open(four, "w", **profile | {"count": 4, "photometric": "minisblack"}) as file:
        file.write(np.concatenate([np.zeros_like(pixels[:1]), pixels[[0, 0, 0]]]))
    seen: list[float] = []

    def search(start, places, *_):  # what it would look at
        seen.extend(RasterScene.open(place.scene, place.bands).sample()[0].max() for place in places)
        return start, "seen"

    monkeypatch.setattr("hybridseg.tune.run.search", search)
    tune("buildings", tmp_path / "mine.yaml", scene=str(four), labels=str(labels), bands="2,3,4")
    tune("buildings", tmp_path / "mine.yaml", scene=str(four), labels=str(labels), bands="1,1,1")
    assert seen[0] > 0
    assert seen[1] == 0
    with pytest.raises(HybridsegError, match="bands"):
        tune("buildings", tmp_path / "mine.yaml", scene=str(four), labels=str(labels), bands="2,x")


def test_bad_input_is_one_line(blocks: Path, labels: Path, tmp_path: Path):
    with pytest.raises(HybridsegError, match="a layer for each scene"):
        tune("buildings", tmp_path / "x.yaml", scene=f"{blocks},{blocks}", labels=str(labels))
    with pytest.raises(HybridsegError, match="cannot read labels"):
        tune("buildings", tmp_path / "x.yaml", scene=str(blocks), labels=str(tmp_path / "gone.gpkg"))
    assert not (tmp_path / "x.yaml").exists()

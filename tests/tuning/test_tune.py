from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import yaml
from scipy import ndimage as ndi
from shapely import box
from shapely.affinity import affine_transform

from hybridseg.cli import main
from hybridseg.errors import HybridsegError, OutputError
from hybridseg.folders import configs_folder
from hybridseg.labels.labelled import Labelled
from hybridseg.read.opening import open_scene
from hybridseg.search import tune
from hybridseg.theme import load_theme
from tests.conftest import BLOCKS
from tests.doubles import Bright, Threshold


@pytest.fixture
def labels(blocks: Path, tmp_path: Path) -> Path:
    scene = open_scene(blocks)
    to_world = scene.geobox.affine
    a, b, c, d, e, f = tuple(to_world)[:6]
    rows = [affine_transform(box(x, y, x + w, y + h), [a, b, d, e, c, f]) for y, x, h, w in BLOCKS]
    gpd.GeoDataFrame(geometry=rows, crs=str(scene.crs)).to_file(tmp_path / "labels.gpkg")
    return tmp_path / "labels.gpkg"


def test_tune_writes_a_theme_that_loads(blocks: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hybridseg.nn.models.load_classifier", lambda *_: Bright())
    monkeypatch.setattr("hybridseg.nn.models.load_refiner", lambda *_, **__: Threshold())
    out = tune("buildings", tmp_path / "mine.yaml", scene=str(blocks), labels=str(labels))
    theme = load_theme(out)
    assert theme.name == "mine"
    assert theme.label == "building"
    assert theme.refiner == "none"  # bright blocks are found exactly without one
    assert theme.objects.min_score == load_theme("buildings").objects.min_score
    assert "coarse 1.500, refined 1.4" in out.read_text().splitlines()[0]
    assert yaml.safe_load(out.read_text())["objects"]["kind"] == "instances"


@dataclass(frozen=True)
class Swollen(Bright):
    """Sees blocks 2 m larger than they are."""

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        return ndi.maximum_filter(super().predict(pixels), (1, 7, 7))


def test_the_theme_refines_where_refined_outlines_score_better(
    blocks: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    opened = []
    monkeypatch.setattr("hybridseg.nn.models.load_classifier", lambda *_: Swollen())
    monkeypatch.setattr("hybridseg.nn.models.load_refiner", lambda *given, **_: opened.append(given) or Threshold())
    out = tune("buildings", tmp_path / "mine.yaml", scene=str(blocks), labels=str(labels), device="cpu")
    theme = load_theme(out)
    assert theme.refiner == "sam2-lite"
    assert theme.shape == load_theme("buildings").shape
    coarse, refined = map(float, re.findall(r"(?:coarse|refined) ([\d.]+)", out.read_text().splitlines()[0]))
    assert refined > coarse + 0.1
    assert set(opened) == {("sam2-lite", "cpu")}


def test_inputs_are_not_written_over(blocks: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hybridseg.search.search_theme", lambda start, *_: (start, "nothing"))
    given = {"scene": blocks, "labels": labels}
    mine = tune("buildings", tmp_path / "mine.yaml", **given)
    kept = mine.read_bytes()
    (tmp_path / "link.yaml").symlink_to(mine)
    scene, drawn = blocks.rename(tmp_path / "scene.yaml"), labels.rename(tmp_path / "labels.yaml")
    given = {"scene": scene, "labels": drawn}
    for theme, out in ((mine, mine), (mine, tmp_path / "link.yaml"), ("buildings", scene), ("buildings", drawn)):
        with pytest.raises(OutputError, match="one of the inputs"):
            tune(str(theme), out, **given)
    with pytest.raises(OutputError, match="one of the inputs"):
        tune("buildings", configs_folder() / "themes" / "buildings.yaml", **given)
    assert mine.read_bytes() == kept


def test_a_comma_in_a_path_is_part_of_it_and_several_are_a_list(
    blocks: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "north, south"
    folder.mkdir()
    scene, drawn = shutil.copy(blocks, folder / "a,b.tif"), shutil.copy(labels, folder / "c,d.gpkg")
    found: list[Labelled] = []

    def search(start, places, *_):
        found.extend(places)
        return start, "nothing"

    monkeypatch.setattr("hybridseg.search.search_theme", search)
    tune("buildings", tmp_path / "one.yaml", scene=str(scene), labels=str(drawn), within=str(drawn))
    arguments = ["tune", "buildings", str(tmp_path / "two.yaml"), "--scene", str(blocks), str(scene)]
    assert main([*arguments, "--labels", str(labels), str(drawn)]) == 0
    assert [Path(place.scene.name) for place in found] == [scene, blocks, scene]
    assert [len(place.truth) for place in found] == [len(BLOCKS)] * 3
    assert found[0].area.area == pytest.approx(found[0].truth.area.sum())


def test_bands_are_those_asked_for(blocks: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with rasterio.open(blocks) as file:
        pixels, profile = file.read(), file.profile
    four = tmp_path / "four.tif"
    with rasterio.open(four, "w", **profile | {"count": 4, "photometric": "minisblack"}) as file:
        file.write(np.concatenate([np.zeros_like(pixels[:1]), pixels[[0, 0, 0]]]))
    seen: list[float] = []

    def search(start, places, *_):  # the pixels that it would work on
        seen.extend(place.scene.sample()[0].max() for place in places)
        return start, "seen"

    monkeypatch.setattr("hybridseg.search.search_theme", search)
    tune("buildings", tmp_path / "mine.yaml", scene=str(four), labels=str(labels), bands="2,3,4")
    tune("buildings", tmp_path / "mine.yaml", scene=str(four), labels=str(labels), bands="1,1,1")
    assert seen[0] > 0
    assert seen[1] == 0
    with pytest.raises(HybridsegError, match="bands"):
        tune("buildings", tmp_path / "mine.yaml", scene=str(four), labels=str(labels), bands="2,x")


def test_bad_input_is_one_line(blocks: Path, labels: Path, tmp_path: Path):
    with pytest.raises(HybridsegError, match="2 scenes came with 1 labels; give one for each scene"):
        tune("buildings", tmp_path / "x.yaml", scene=[blocks, blocks], labels=labels)
    with pytest.raises(HybridsegError, match="1 scenes came with 1 labels and 2 areas"):
        tune("buildings", tmp_path / "x.yaml", scene=blocks, labels=labels, within=[labels, labels])
    with pytest.raises(HybridsegError, match=r"gone\.gpkg does not exist"):
        tune("buildings", tmp_path / "x.yaml", scene=str(blocks), labels=str(tmp_path / "gone.gpkg"))
    assert not (tmp_path / "x.yaml").exists()

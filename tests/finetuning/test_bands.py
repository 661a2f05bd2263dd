"""Backbones of other bands than 8-bit red, green and blue: from the labels to the map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import torch
import yaml

from hybridseg.demo import render_town
from hybridseg.errors import BandsMissing, HybridsegError, ThemeError, WeightsError
from hybridseg.finetuning import fit
from hybridseg.finetuning.run import finetune
from hybridseg.metrics.objects import match
from hybridseg.nn import backbones
from hybridseg.nn.classify.classifier import load_classifier
from hybridseg.read.opening import open_scene
from hybridseg.run.extract import extract
from tests.rasters import write

ALL = "torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO"
BANDS = [14 - number for number in range(1, 14)]
"""The raster's bands in the backbone's order: stored back to front, so that a mix-up is seen."""
SIDE = 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 bands of reflectance x 10000: the town's colours in 2, 3 and 4, mixtures and noise in the others."""
    town = render_town(SIDE, 0.3, seed=5, density=0.7)
    folder = tmp_path_factory.mktemp("bands")
    town.write(folder)
    rng = np.random.default_rng(0)
    colours = town.image.astype(float) * 30 + 100
    mixed = np.tensordot(rng.uniform(0, 0.5, (13, 3)), colours, axes=1) + rng.normal(0, 60, (13, SIDE, SIDE))
    mixed[[3, 2, 1]] = colours
    bands = np.clip(mixed, 1, 16000)[::-1]
    geobox = town.geobox
    profile: dict[str, Any] = {"affine": geobox.affine, "crs": str(geobox.crs)}
    write(folder / "s2.tif", bands.astype(np.uint16), **profile)
    write(folder / "unit.tif", (bands / 10000).astype(np.float32), **profile)
    write(folder / "bytes.tif", (bands / 64).astype(np.uint8), photometric="minisblack", **profile)
    write(folder / "twelve.tif", bands[:12].astype(np.uint16), **profile)
    return folder


@pytest.fixture(autouse=True)
def unfetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real architecture with random weights, always the same, and little to learn from."""
    real = backbones.build_backbone

    def build(name: str, pretrained: bool = False) -> torch.nn.Module:
        torch.manual_seed(0)
        return real(name)

    monkeypatch.setattr(backbones, "build_backbone", build)
    monkeypatch.setattr(fit, "CROP_PX", 128)
    monkeypatch.setattr(fit, "PIXELS", 1000)


def given(folder: Path, scene: str = "s2.tif", **more: Any) -> dict[str, Any]:
    return {
        "scene": str(folder / scene), "labels": str(folder / "town_truth.gpkg"), "theme": "buildings",
        "backbone": ALL, "bands": "10,11,12", "refiner": "none", "device": "cpu", **more,
    }  # fmt: skip


def test_a_linear_head_on_13_bands_is_learnt_and_extracted_with(folder: Path, tmp_path: Path):
    chosen = given(folder, backbone_bands=",".join(map(str, BANDS)), validation=0.2)
    out = finetune(**chosen, out=tmp_path / "mine").folder
    card = yaml.safe_load((out / "card.yaml").read_text())
    assert (card["backbone"], card["scaling"], card["source_bands"]) == (ALL, "reflectance x 10000", BANDS)
    assert card["bands"].split(", ")[:3] == ["B1", "B2", "B3"]
    assert card["scores"]["places"][0]["objects"] > 0
    scene, truth = str(folder / "s2.tif"), gpd.read_file(folder / "town_truth.gpkg")
    result = extract(scene, None, model=out, refiner="none", bands="10,11,12")
    assert match(result.features.geometry, truth.geometry).f1 > 0.3
    assert result.summary.failures == ()
    with pytest.raises(BandsMissing, match="has bands 1 to 12"):
        extract(folder / "twelve.tif", None, model=out, refiner="none", bands="10,11,12")
    with pytest.raises(BandsMissing, match=r"the model looks at 13 bands as reflectance x 10000.* multiply them"):
        extract(folder / "unit.tif", None, model=out, refiner="none", bands="10,11,12")
    with pytest.raises(BandsMissing, match="choose them"):
        extract(scene, None, model=out, refiner="none")
    (out / "card.yaml").write_text(yaml.safe_dump({**card, "source_bands": None}))
    with pytest.raises(WeightsError, match=r"must give source_bands.* 13 bands"):
        load_classifier(out)


def test_a_convolutional_head_on_all_bands_in_order(folder: Path, tmp_path: Path):
    settings = {"head": "conv", "steps": 2, "batch": 2, "quiet": True, "free": 1}
    out = finetune(**given(folder, **settings), out=tmp_path / "mine").folder
    card = yaml.safe_load((out / "card.yaml").read_text())
    assert (card["head"], card["steps"], card["source_bands"]) == ("pyramid", 2, list(range(1, 14)))
    classifier = load_classifier(out, "cpu")
    scene = open_scene(folder / "s2.tif", (10, 11, 12)).raw(classifier.spec.source_bands)
    heat = classifier.predict(scene.read_window(scene.window, SIDE).pixels)
    assert heat.shape == (2, SIDE // 2, SIDE // 2)
    assert np.isfinite(heat).all()


@pytest.mark.parametrize(
    ("scene", "more", "message"),
    [
        ("twelve.tif", {}, r"wants 13 bands \(B1 .*\) as reflectance x 10000; .*twelve.tif has 12: .*--backbone-bands"),
        ("s2.tif", {"backbone_bands": "1,2,3"}, "wants 13 bands .*; --backbone-bands gives 3"),
        ("twelve.tif", {"backbone_bands": "1,2,3,4,5,6,7,8,9,10,11,12,13"}, "has bands 1 to 12"),
        ("bytes.tif", {}, "wants 13 bands .* as reflectance x 10000; .*bytes.tif holds uint8"),
        ("unit.tif", {}, "as reflectance x 10000; the values of .*unit.tif reach .* multiply them by 10000"),
    ],
)
def test_other_bands_or_scaling_than_the_weights_want_are_refused(
    scene: str, more: dict[str, Any], message: str, folder: Path, tmp_path: Path
):
    with pytest.raises(BandsMissing, match=message) as caught:
        finetune(**given(folder, scene, **more), out=tmp_path / "m")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("backbone", ["lite0", "timm:resnet18"])
def test_a_backbone_of_red_green_and_blue_takes_no_bands_of_its_own(backbone: str, folder: Path, tmp_path: Path):
    with pytest.raises(ThemeError, match="leave out --backbone-bands"):
        finetune(**given(folder, backbone=backbone, backbone_bands="10,11,12"), out=tmp_path / "m")
    with pytest.raises(HybridsegError, match="backbone-bands is 'red'"):
        finetune(**given(folder, backbone_bands="red"), out=tmp_path / "m")

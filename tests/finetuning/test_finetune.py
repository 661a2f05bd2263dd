from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import geopandas as gpd
import pytest
import yaml

from hybridseg.errors import BandsMissing, HybridsegError, MissingExtra, ThemeError
from hybridseg.finetuning.curves import read_curve
from hybridseg.finetuning.run import finetune
from hybridseg.metrics.objects import match
from hybridseg.nn.classify.classifier import load_classifier
from hybridseg.run.extract import extract
from hybridseg.run.request import themes_in
from townscape import render_town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return render_town(320, 0.3, seed=5, density=0.7).write(tmp_path_factory.mktemp("town") / "north, south")


def test_a_linear_head_in_seconds_finds_buildings_from_a_copied_folder(town: tuple[Path, Path], tmp_path: Path):
    scene, labels = map(str, town)
    begun = time.process_time()
    made = finetune(scene=scene, labels=labels, theme="buildings", out=tmp_path / "mine", search_settings=False)
    out = made.folder
    assert time.process_time() - begun < 60
    card = yaml.safe_load((out / "card.yaml").read_text())
    assert (card["head"], card["classes"], card["start"]) == ("linear", ["building"], "buildings-lite0")
    assert card["objects"]["building"] == len(gpd.read_file(labels))
    assert card["scores"]["places"][0]["objects"] > 0
    moved = tmp_path / "elsewhere"
    shutil.move(out, moved)
    (theme,) = themes_in(moved)
    assert theme.classifier == str(moved)
    features = extract(scene, None, model=moved).features
    truth = gpd.read_file(labels)
    assert match(features.geometry, truth.geometry).f1 > 0.4
    assert features["score"].between(0, 1).all()
    assert (features["score"] != features["score_raw"]).any()  # the calibration went with the folder


def test_a_convolutional_head_stops_early_goes_on_and_draws_its_curves(town: tuple[Path, Path], tmp_path: Path):
    scene, labels = map(str, town)
    given = {"scene": scene, "labels": labels, "theme": "buildings", "head": "conv", "batch": 2, "quiet": True}
    settings = {"search_settings": False, "refiner": "none", "device": "cpu", "rate": 1e-4}
    out = finetune(**given, **settings, out=tmp_path / "mine", steps=4, free=1).folder
    card = yaml.safe_load((out / "card.yaml").read_text())
    assert (card["head"], card["backbone"], card["steps"]) == ("pyramid", "lite0", 4)
    (run,) = (tmp_path / "mine.run").iterdir()
    assert {"last.ckpt", "best.ckpt", "curves.png"} <= {p.name for p in run.iterdir()}
    assert (out / "curves.png").stat().st_size > 5000
    assert load_classifier(out).spec.classes == ("building",)
    finetune(**given, **settings, out=tmp_path / "mine", steps=6, free=1)
    assert yaml.safe_load((out / "card.yaml").read_text())["steps"] == 6
    assert len(read_curve(run, "val_loss")) == 6


def test_several_scenes_are_learnt_from_together(town: tuple[Path, Path], tmp_path: Path):
    second = render_town(320, 0.3, seed=6, density=0.7).write(tmp_path / "second")
    made = finetune(
        scene=[town[0], second[0]], labels=[town[1], second[1]], theme="buildings", out=tmp_path / "mine",
        search_settings=False, refiner="none", device="cpu",
    )  # fmt: skip
    card = made.card
    assert card["objects"]["building"] == sum(len(gpd.read_file(labels)) for _, labels in (town, second))
    assert [score["objects"] > 0 for score in card["scores"]["places"]] == [True, True]
    assert len(card["data"]) == 2


def test_a_resumed_run_learns_the_same_from_the_same_checkpoint(
    town: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given = {"scene": town[0], "labels": town[1], "theme": "buildings", "head": "conv", "batch": 2, "quiet": True}
    settings = {"search_settings": False, "refiner": "none", "device": "cpu", "patience": 9}
    finetune(**given, **settings, out=tmp_path / "mine", steps=2)
    shutil.copytree(tmp_path / "mine.run", tmp_path / "kept")
    losses = []
    for now in (1e9, 2e9):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        shutil.rmtree(tmp_path / "mine.run")
        shutil.copytree(tmp_path / "kept", tmp_path / "mine.run")
        finetune(**given, **settings, out=tmp_path / "mine", steps=4)
        (run,) = (tmp_path / "mine.run").iterdir()
        losses.append(read_curve(run, "loss"))
    assert len(losses[0]) == 4
    assert losses[0] == losses[1]


def test_other_bands_or_scaling_are_refused_before_anything_is_fetched(
    town: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scene, labels = map(str, town)
    given = {"scene": scene, "labels": labels, "theme": "buildings", "out": tmp_path / "m"}
    with pytest.raises(BandsMissing, match="wants 13 bands"):
        finetune(**given, backbone="torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO")
    monkeypatch.setitem(sys.modules, "terratorch.registry", None)
    with pytest.raises(MissingExtra, match="geofm"):
        finetune(**given, backbone="terratorch:prithvi_eo_v2_300")


def test_bad_calls_are_refused_in_a_line(town: tuple[Path, Path], tmp_path: Path):
    scene, labels = map(str, town)
    given = {"scene": scene, "theme": "buildings", "out": tmp_path / "m"}
    with pytest.raises(HybridsegError, match="1 scenes came with 2 labels; give one for each"):
        finetune(**given, labels=[labels, labels])
    with pytest.raises(ThemeError, match="share between 0 and 1"):
        finetune(**given, labels=labels, validation=1.5)
    with pytest.raises(ThemeError, match="share a class"):
        finetune(**given | {"theme": "buildings,buildings"}, labels=labels)

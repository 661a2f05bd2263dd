from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import yaml

from hybridseg.errors import BandsMissing, HybridsegError, MissingExtra, OutputError, ThemeError
from hybridseg.finetuning import settle
from hybridseg.finetuning.fit import read_curve
from hybridseg.finetuning.run import finetune
from hybridseg.labels.labelled import Labelled
from hybridseg.metrics.objects import match
from hybridseg.nn.cards import model_folder
from hybridseg.nn.classify import classifier, heads
from hybridseg.nn.classify.classifier import load_classifier
from hybridseg.nn.sam2 import official
from hybridseg.nn.weights import load_weights
from hybridseg.run.extract import extract
from hybridseg.run.survey import Survey
from hybridseg.search import write_theme
from hybridseg.theme import Theme, load_theme
from townscape import render_town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return render_town(320, 0.3, seed=5, density=0.7).write(tmp_path_factory.mktemp("town") / "north, south")


def test_a_linear_head_in_seconds_finds_buildings_from_a_copied_folder(town: tuple[Path, Path], tmp_path: Path):
    scene, labels = map(str, town)
    begun = time.process_time()
    given = {"scene": scene, "labels": labels, "theme": "buildings", "search_settings": False}
    made = finetune(**given, validation=0.5, out=tmp_path / "mine")  # enough polygons for a calibration
    assert time.process_time() - begun < 60
    out, card = made.folder, yaml.safe_load((made.folder / "card.yaml").read_text())
    assert dict(made.card) | {"sha256": card["sha256"]} == card
    assert dict(made.lines())["written"] == str(out) == str(tmp_path / "mine")
    assert (card["head"], card["classes"], card["start"]) == ("linear", ["building"], "buildings-lite0")
    assert card["objects"]["building"] == len(gpd.read_file(labels))
    assert card["scores"]["places"][0]["objects"] > 0
    moved = tmp_path / "elsewhere"
    shutil.move(out, moved)
    theme, truth = load_theme(moved / "theme.yaml"), gpd.read_file(labels)
    assert theme.classifier == str(moved)
    assert theme.score_fingerprint(theme.refiner) == card["calibration_settings"]["building"]
    refined, coarse = extract(scene, model=moved), extract(scene, theme=moved / "theme.yaml", refiner="none")
    for result in (refined, coarse):
        assert match(result.features.geometry, truth.geometry).f1 > 0.4
    points = np.array(card["calibration"]["building"])
    assert np.allclose(refined.features["score"], np.interp(refined.features["score_raw"], *points.T))
    assert "score_raw" not in coarse.features
    assert "calibration was fitted with other settings" in coarse.summary.notes[0]


def test_a_convolutional_head_stops_early_goes_on_and_draws_its_curves(town: tuple[Path, Path], tmp_path: Path):
    scene, labels = map(str, town)
    given = {"scene": scene, "labels": labels, "theme": "buildings", "head": "conv", "batch": 2, "quiet": True}
    # a rate so small that the loss falls at each step
    settings = {"search_settings": False, "refiner": "none", "device": "cpu", "rate": 1e-5}
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
    out = finetune(
        scene=[town[0], second[0]], labels=[town[1], second[1]], theme="buildings", out=tmp_path / "mine",
        search_settings=False, refiner="none", device="cpu",
    ).folder  # fmt: skip
    card = yaml.safe_load((out / "card.yaml").read_text())
    assert card["objects"]["building"] == sum(len(gpd.read_file(labels)) for _, labels in (town, second))
    *folds, both = card["scores"]["places"]
    assert {fold["place"] for fold in folds} == {town[0].name, second[0].name}
    assert both["place"] == "all"
    assert both["objects"] == sum(fold["objects"] for fold in folds) > len(folds) >= 2
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


def test_no_network_is_loaded_twice(town: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    loaded: list[str] = []

    def counted(net: object, folder: Path, *more: object) -> None:
        loaded.append("mine" if folder.parent == tmp_path else folder.name)
        load_weights(net, folder, *more)

    for module in (classifier, heads, official):
        monkeypatch.setattr(module, "load_weights", counted)
    classifier._open.cache_clear()
    official._open.cache_clear()
    monkeypatch.setattr(settle, "MIN_OBJECTS_TO_SEARCH", 1)
    monkeypatch.setattr(settle, "search_theme", lambda theme, places, *_: (_opened(theme, places), "not searched"))
    finetune(scene=town[0], labels=town[1], theme="buildings", out=tmp_path / "mine", device="cpu")
    assert sorted(loaded) == ["buildings-lite0", "mine", "sam2-lite"]


def _opened(theme: Theme, places: Sequence[Labelled]) -> Theme:
    for place in places:
        Survey.open(place.scene, theme, "sam2-lite", "cpu")
    return theme


def test_a_model_is_not_written_over_what_it_is_made_from(
    town: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def train(*_: object) -> None:
        raise AssertionError("the refusal comes first")

    monkeypatch.setattr("hybridseg.finetuning.run.fit_linear_head", train)
    mine = tmp_path / "mine"
    shutil.copytree(model_folder("buildings-lite0"), mine)
    theme = write_theme(load_theme("buildings").model_copy(update={"classifier": "."}), mine / "theme-a.yaml", "")
    labels = shutil.copy(town[1], mine / "curves.png")
    kept = {path.name: path.read_bytes() for path in mine.iterdir()}
    own = {"scene": town[0], "labels": town[1], "theme": "buildings"}
    for given in (own | {"theme": str(theme)}, own | {"labels": labels}):
        with pytest.raises(OutputError, match="one of the inputs"):
            finetune(**given, out=mine)
    monkeypatch.setattr("hybridseg.finetuning.run.load_theme", lambda _: load_theme(theme))
    with pytest.raises(OutputError, match="one of the inputs"):  # the model to go on from
        finetune(**own, out=mine)
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == kept

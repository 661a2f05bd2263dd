"""A classifier and a refiner with one encoder: each window is encoded once, and the map says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import yaml

from hybridseg.demo import render_town
from hybridseg.errors import ThemeError
from hybridseg.finetuning.run import finetune
from hybridseg.metrics.objects import match
from hybridseg.nn.classify.classifier import load_classifier
from hybridseg.nn.sam2.official import load_refiner
from hybridseg.nn.sam2.promptable import Promptable
from hybridseg.nn.sam2.shared_encoder import SharedClassifier
from hybridseg.read.opening import open_scene
from hybridseg.run.extract import extract
from hybridseg.run.survey import Survey
from hybridseg.theme import load_theme
from hybridseg.where.windows import ObjectWindows
from tests.doubles import CountedEncoder


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return render_town(448, 0.3, seed=5, density=0.7).write(tmp_path_factory.mktemp("town"))


@pytest.fixture(scope="module")
def model(town: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    scene, labels = map(str, town)
    out = tmp_path_factory.mktemp("model") / "mine"
    return finetune(
        scene=scene, labels=labels, theme="buildings", backbone="sam2", out=out, search_settings=False
    ).folder


def test_finetune_on_the_refiners_encoder_shares_its_windows(model: Path):
    assert yaml.safe_load((model / "theme.yaml").read_text())["prompts"]["windows"] == "shared"


def test_a_theme_may_keep_windows_of_its_own(model: Path, town: tuple[Path, Path]):
    theme, scene = load_theme(model / "theme.yaml"), open_scene(town[0])
    shared = Survey.open(scene, theme, device="cpu")
    assert isinstance(shared.models.classifier, SharedClassifier)
    assert shared.models.shared
    own = Survey.open(scene, theme.with_prompts(windows="own"), device="cpu").models
    assert own.classifier is load_classifier(model, "cpu", "auto")
    assert own.refiner is load_refiner("sam2-lite", "cpu", runtime="auto")
    assert not own.shared


def test_the_sweeps_windows_are_the_objects_windows():
    lattice = ObjectWindows.of_sweep(512, (3 * 320, -2 * 320))
    boxes = np.array([[5.0, 5, 30, 30], [300, 310, 330, 325], [0, 0, 400, 400]])
    windows, too_large = lattice.assign(boxes)
    corners = {(w.col, w.row, w.width) for w in windows if w.width == 512}
    assert corners == {(-96, -96, 512)}
    assert [w.width for w in windows if w.width != 512] == [1536]
    assert not len(too_large)


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_the_second_sweep_encodes_nothing_that_the_first_has_seen(
    model: Path, town: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, share: float
):
    left, bottom, right, top = open_scene(town[0]).geobox.boundingbox
    counts = []

    def counted(*args: object, **more: object) -> Promptable:
        refiner = load_refiner(*args, **more)
        counts.append(CountedEncoder(refiner))
        return refiner

    monkeypatch.setattr("hybridseg.nn.models.load_refiner", counted)
    extent = None if share == 1 else (left, bottom, left + share * (right - left), top)
    # the encoder of torch is counted
    result = extract(town[0], None, model=model, device="cpu", extent=extent, runtime="torch")
    features, summary = result.features, result.summary
    assert summary.refined > 10
    assert counts[0].runs == summary.windows_classified >= 4
    if extent is None:
        assert match(features.geometry, gpd.read_file(town[1]).geometry).f1 > 0.6


def test_the_result_does_not_depend_on_the_extent(model: Path, town: tuple[Path, Path]):
    left, bottom, right, top = open_scene(town[0]).geobox.boundingbox
    half = (left, bottom, (left + right) / 2, top)
    whole = extract(town[0], None, model=model, device="cpu").features
    part = extract(town[0], None, model=model, device="cpu", extent=half).features
    inside = whole[whole["id"].isin(part["id"])].reset_index(drop=True)
    assert len(inside) == len(part) > 5
    assert match(part.geometry, inside.geometry, iou=0.98).f1 == 1


def test_prompts_that_were_kept_make_the_same_map_with_the_same_scores(
    model: Path, town: tuple[Path, Path], tmp_path: Path
):
    whole = extract(town[0], None, model=model, device="cpu", run=tmp_path).features
    again = extract(town[0], None, model=model, device="cpu", from_prompts=tmp_path / "prompts.parquet").features
    assert again["id"].tolist() == whole["id"].tolist()
    assert np.allclose(again["score"], whole["score"])
    assert whole["score"].max() < 1  # calibrated: validation ground has shown misses
    assert match(again.geometry, whole.geometry, iou=0.98).f1 == 1


def test_the_same_command_makes_the_same_map_and_encodes_nothing(model: Path, town: tuple[Path, Path], tmp_path: Path):
    whole = extract(town[0], None, model=model, device="cpu", run=tmp_path).features
    counted = CountedEncoder(load_refiner("sam2-lite", "cpu"))
    again = extract(town[0], None, model=model, device="cpu", run=tmp_path).features
    assert counted.runs == 0
    assert again["id"].tolist() == whole["id"].tolist()
    assert np.allclose(again["score"], whole["score"])
    assert again.geometry.geom_equals(whole.geometry).all()


def test_a_map_given_as_prompts_keeps_its_scores(model: Path, town: tuple[Path, Path], tmp_path: Path):
    whole = extract(town[0], tmp_path / "map.gpkg", model=model, device="cpu").features
    again = extract(town[0], None, model=model, device="cpu", from_prompts=tmp_path / "map.gpkg").features
    scores = whole.set_index("id")["score"]
    assert np.allclose(again["score"], scores[again["id"]])


def test_two_models_of_one_theme_name_are_refused(model: Path, town: tuple[Path, Path], tmp_path: Path):
    shutil.copytree(model, tmp_path / "other")
    with pytest.raises(ThemeError, match="share a name"):
        extract(town[0], None, theme=f"{model / 'theme.yaml'},{tmp_path / 'other' / 'theme.yaml'}")


def test_what_was_drawn_by_hand_is_not_scored(model: Path, town: tuple[Path, Path]):
    drawn = extract(town[0], None, model=model, device="cpu", from_prompts=town[1]).features
    assert set(drawn["score"]) == {1.0}

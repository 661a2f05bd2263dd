"""A classifier and a refiner with one encoder: each window is encoded once, and the map says so."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import torch
import yaml
from hybridseg.run.model import themes_in
from hybridseg.run.sight import look_through

from hybridseg.demo import render_town
from hybridseg.errors import ThemeError
from hybridseg.finetuning.run import finetune
from hybridseg.metrics.objects import match
from hybridseg.nn.classify.classifier import Classifier, load_classifier
from hybridseg.nn.sam2.embedding import EmbeddingFolder
from hybridseg.nn.sam2.official import load_refiner
from hybridseg.nn.sam2.promptable import Promptable
from hybridseg.nn.sam2.shared_encoder import SharedClassifier, share_encoder
from hybridseg.read.raster import RasterScene
from hybridseg.run.extract import extract
from hybridseg.types import Chip
from hybridseg.where.windows import ObjectWindows
from tests.doubles import chip_of


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return render_town(448, 0.3, seed=5, density=0.7).write(tmp_path_factory.mktemp("town"))


@pytest.fixture(scope="module")
def model(town: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    scene, labels = map(str, town)
    out = tmp_path_factory.mktemp("model") / "mine"
    return finetune(scene=scene, labels=labels, theme="buildings", backbone="sam2", out=out, search_settings=False)


@pytest.fixture
def pair(model: Path) -> tuple[Classifier, Promptable]:
    return load_classifier(model, "cpu"), load_refiner("sam2-lite", "cpu")


class Counted:
    """How often a refiner's encoder runs."""

    def __init__(self, refiner: Promptable) -> None:
        self.runs = 0
        refiner.model.image_encoder.register_forward_hook(self)

    def __call__(self, *_: object) -> None:
        self.runs += 1


def test_finetune_on_the_refiners_encoder_shares_its_windows(model: Path):
    assert yaml.safe_load((model / "theme.yaml").read_text())["prompts"]["windows"] == "shared"


@pytest.fixture
def copied(pair: tuple[Classifier, Promptable]) -> tuple[Classifier, Promptable]:
    """The same with weights of their own, to be changed."""
    classifier, refiner = pair
    return replace(classifier, net=copy.deepcopy(classifier.net)), replace(refiner, model=copy.deepcopy(refiner.model))


def _random_chip(seed: int = 0) -> Chip:
    return chip_of(np.random.default_rng(seed).integers(0, 255, (3, 512, 512), np.uint8))


def test_one_encoding_serves_both(copied: tuple[Classifier, Promptable], tmp_path: Path):
    classifier, refiner = copied
    both, counted = share_encoder(classifier, refiner, EmbeddingFolder(tmp_path)), Counted(refiner)
    assert both is not None
    chip = _random_chip()
    heat = both[0].predict(chip.pixels)
    alone = classifier.predict(chip.pixels)
    assert heat.shape == alone.shape
    assert np.abs(heat - alone).mean() < 0.01  # the refiner may encode in bf16
    kept = both[1].encode(chip)
    assert counted.runs == 1
    fresh = refiner.encode(chip)
    assert torch.allclose(kept.coarse, fresh.coarse, atol=2e-3 * float(fresh.coarse.abs().max()))


def test_each_half_of_a_pair_has_its_own_name_and_hash(pair: tuple[Classifier, Promptable]):
    classifier, refiner = pair
    first, second = share_encoder(classifier, refiner)
    assert (first.name, first.sha256, first.spec) == (classifier.name, classifier.sha256, classifier.spec)
    assert (second.name, second.sha256, second.size_px) == (refiner.name, refiner.sha256, first.spec.image_px)


def test_an_embedding_that_was_kept_and_a_new_one_are_the_same(pair: tuple[Classifier, Promptable], tmp_path: Path):
    chip = _random_chip(1)
    new = share_encoder(*pair)[1].encode(chip)
    first, second = share_encoder(*pair, EmbeddingFolder(tmp_path))
    first.encoder.keep(chip.pixels, first.encoder.features(chip.pixels)[2])
    assert len(list(tmp_path.iterdir())) == 1
    read = second.encode(chip)
    assert read.geobox == chip.geobox
    assert torch.equal(new.coarse, read.coarse)
    assert all(torch.equal(a, b) for a, b in zip(new.fine, read.fine, strict=True))


def test_windows_where_nothing_is_likely_are_not_kept(copied: tuple[Classifier, Promptable], tmp_path: Path):
    first, _ = share_encoder(*copied, EmbeddingFolder(tmp_path))
    first.classifier.net.head.bias.data[0] = -100
    first.predict(np.zeros((3, 512, 512), np.uint8))
    assert not list(tmp_path.iterdir())


def test_two_refiners_do_not_read_each_others_windows(copied: tuple[Classifier, Promptable], tmp_path: Path):
    classifier, refiner = copied
    other = Promptable(copy.deepcopy(refiner.model), "other", "f" * 64)
    for part in other.model.image_encoder.neck.parameters():
        part.data.mul_(2)
    chip, cache = _random_chip(2), EmbeddingFolder(tmp_path)
    first, _ = share_encoder(classifier, refiner, cache)
    _, second = share_encoder(classifier, other, cache)
    first.encoder.keep(chip.pixels, first.encoder.features(chip.pixels)[2])
    own = other.encode(chip).coarse
    assert torch.allclose(second.encode(chip).coarse, own, atol=2e-3 * float(own.abs().max()))


def test_what_cannot_be_kept_is_encoded_again(copied: tuple[Classifier, Promptable], tmp_path: Path):
    (tmp_path / "a file").touch()
    first, second = share_encoder(*copied, EmbeddingFolder(tmp_path / "a file"))
    first.classifier.net.head.bias.data[0] = 100
    chip = chip_of(np.zeros((3, 512, 512), np.uint8))
    assert first.predict(chip.pixels)[0].min() > 0.9
    assert second.encode(chip).coarse.isfinite().all()


def test_another_encoder_is_not_shared(copied: tuple[Classifier, Promptable]):
    classifier, refiner = copied
    assert share_encoder(load_classifier("buildings-lite0", "cpu"), refiner) is None
    assert share_encoder(classifier, refiner) is not None
    next(classifier.net.trunk.body.parameters()).data.add_(0.1)
    assert share_encoder(classifier, refiner) is None


def test_a_theme_may_keep_windows_of_its_own(
    pair: tuple[Classifier, Promptable], model: Path, town: tuple[Path, Path], tmp_path: Path
):
    (theme,) = themes_in(model)
    source = RasterScene.open(town[0])
    shared = look_through(theme, source, *pair, tmp_path)
    assert isinstance(shared.network, SharedClassifier)
    assert shared.grid is not None
    own = look_through(theme.with_prompts(windows="own"), source, *pair, tmp_path)
    assert (own.network, own.refiner, own.grid) == (*pair, None)


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
    left, bottom, right, top = RasterScene.open(town[0]).geobox.boundingbox
    counts = []

    def counted(*args: object) -> Promptable:
        refiner = load_refiner(*args)
        counts.append(Counted(refiner))
        return refiner

    monkeypatch.setattr("hybridseg.nn.sam2.official.load_refiner", counted)
    extent = None if share == 1 else (left, bottom, left + share * (right - left), top)
    features = extract(town[0], None, model=model, device="cpu", extent=extent)
    summary = features.attrs["summary"]
    assert summary.refined > 10
    assert counts[0].runs == summary.windows_classified >= 4
    if extent is None:
        assert match(features.geometry, gpd.read_file(town[1]).geometry).f1 > 0.6


def test_the_result_does_not_depend_on_the_extent(model: Path, town: tuple[Path, Path]):
    left, bottom, right, top = RasterScene.open(town[0]).geobox.boundingbox
    half = (left, bottom, (left + right) / 2, top)
    whole = extract(town[0], None, model=model, device="cpu")
    part = extract(town[0], None, model=model, device="cpu", extent=half)
    inside = whole[whole["id"].isin(part["id"])].reset_index(drop=True)
    assert len(inside) == len(part) > 5
    assert match(part.geometry, inside.geometry, iou=0.98).f1 == 1


def test_prompts_that_were_kept_make_the_same_map_with_the_same_scores(
    model: Path, town: tuple[Path, Path], tmp_path: Path
):
    whole = extract(town[0], None, model=model, device="cpu", keep_work=tmp_path)
    again = extract(town[0], None, model=model, device="cpu", from_prompts=tmp_path / "prompts.parquet")
    assert again["id"].tolist() == whole["id"].tolist()
    assert np.allclose(again["score"], whole["score"])
    assert whole["score"].max() < 1  # calibrated: validation ground has shown misses
    assert match(again.geometry, whole.geometry, iou=0.98).f1 == 1


def test_a_map_given_as_prompts_keeps_its_scores(model: Path, town: tuple[Path, Path], tmp_path: Path):
    whole = extract(town[0], tmp_path / "map.gpkg", model=model, device="cpu")
    again = extract(town[0], None, model=model, device="cpu", from_prompts=tmp_path / "map.gpkg")
    scores = whole.set_index("id")["score"]
    assert np.allclose(again["score"], scores[again["id"]])


def test_two_models_of_one_theme_name_are_refused(model: Path, town: tuple[Path, Path], tmp_path: Path):
    shutil.copytree(model, tmp_path / "other")
    with pytest.raises(ThemeError, match="share a name"):
        extract(town[0], None, theme=f"{model / 'theme.yaml'},{tmp_path / 'other' / 'theme.yaml'}")


def test_what_was_drawn_by_hand_is_not_scored(model: Path, town: tuple[Path, Path]):
    drawn = extract(town[0], None, model=model, device="cpu", from_prompts=town[1])
    assert set(drawn["score"]) == {1.0}

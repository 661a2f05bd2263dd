"""Models are opened once, and go to other processes by name."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybridseg.errors import HybridsegError, WeightsError
from hybridseg.nn.backbones import build_backbone
from hybridseg.nn.classify.classifier import Classifier, load_classifier
from hybridseg.nn.classify.heads import LinearSegmenter, Segmenter
from hybridseg.nn.models import Models
from hybridseg.nn.sam2.official import load_refiner
from hybridseg.nn.sam2.promptable import Promptable
from hybridseg.nn.sam2.shared_encoder import SharedClassifier, SharedRefiner
from hybridseg.nn.weights import save_weights
from tests.nn.chips import random_chip

CARD = {"classes": ["building"], "gsd_m": 0.3, "gsd_range_m": [0.1, 1.0]}


@pytest.fixture(scope="module")
def on_sam2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear head on sam2-lite's own encoder."""
    torch.manual_seed(0)
    net = LinearSegmenter(1, build_backbone("sam2", pretrained=True))
    folder = tmp_path_factory.mktemp("models") / "on-sam2"
    save_weights(net, folder, CARD | {"head": "linear", "backbone": "sam2"})
    return folder


def test_what_is_open_is_not_opened_again():
    first, second = (Models.open("land-lite0", "sam2-lite", "cpu") for _ in range(2))
    assert first.classifier is second.classifier
    assert first.refiner is second.refiner
    assert not first.shared
    assert (first.classifier.name, first.refiner.name) == ("land-lite0", "sam2-lite")
    assert Models.open("land-lite0", device="cpu").refiner is None


def test_a_folder_that_has_changed_is_opened_anew(tmp_path: Path):
    save_weights(Segmenter(1), tmp_path / "m", CARD)
    first = load_classifier(tmp_path / "m", "cpu")
    assert load_classifier(tmp_path / "m", "cpu") is first
    save_weights(Segmenter(1), tmp_path / "m", CARD)
    second = load_classifier(tmp_path / "m", "cpu")
    assert second.sha256 != first.sha256
    save_weights(second.net, tmp_path / "m", CARD | {"gsd_m": 0.5})
    assert load_classifier(tmp_path / "m", "cpu").spec.gsd_m == 0.5


def test_one_encoder_serves_both_where_the_classifier_was_trained_on_it(on_sam2: Path, tmp_path: Path):
    models = Models.open(on_sam2, "sam2-lite", "cpu", share_encoder=True, cache=tmp_path)
    assert models.shared
    assert isinstance(models.classifier, SharedClassifier)
    assert isinstance(models.refiner, SharedRefiner)
    assert models.classifier.encoder is models.refiner.encoder
    assert (models.classifier.name, models.refiner.name) == ("on-sam2", "sam2-lite")
    assert models.classifier.sha256 != models.refiner.sha256
    assert models.classifier.spec.image_px == models.refiner.size_px == 512
    for apart in (Models.open(on_sam2, "sam2-lite", "cpu"), Models.open("land-lite0", "sam2-lite", "cpu", True)):
        assert not apart.shared
        assert isinstance(apart.classifier, Classifier)
        assert isinstance(apart.refiner, Promptable)


def test_what_is_wrong_is_said_in_one_line():
    with pytest.raises(WeightsError, match="no model 'nope'"):
        Models.open("nope", device="cpu")
    with pytest.raises(WeightsError, match=r"no model 'nope'.*official"):
        Models.open("land-lite0", "nope", "cpu")
    with pytest.raises(HybridsegError, match="no device 'gpu'"):
        Models.open("land-lite0", device="gpu")


def test_pickled_models_are_the_ones_that_are_open(on_sam2: Path, tmp_path: Path):
    for models in (
        Models.open("land-lite0", "sam2-lite", "cpu"),
        Models.open(on_sam2, "sam2-lite", "cpu", share_encoder=True, cache=tmp_path),
    ):
        sent = pickle.dumps(models)
        assert len(sent) < 2000  # names, not weights
        again = pickle.loads(sent)
        assert again.shared == models.shared
        if models.shared:
            assert again.classifier.classifier is models.classifier.classifier
            assert again.classifier.encoder is again.refiner.encoder
            assert again.refiner.encoder.refiner is models.refiner.encoder.refiner
        else:
            assert again.classifier is models.classifier
            assert again.refiner is models.refiner


def test_a_model_of_memory_is_not_pickled_by_accident():
    refiner = load_refiner("sam2-lite", "cpu")
    changed = replace(refiner, model=copy.deepcopy(refiner.model), reopen=None)
    with pytest.raises(pickle.PicklingError, match="made in memory"):
        pickle.dumps(changed)


def test_another_process_opens_them_once_and_gets_the_same(elsewhere: dict[str, Any]):
    models, chip = Models.open("land-lite0", "sam2-lite", "cpu"), random_chip()
    assert elsewhere["opened once"]
    assert elsewhere["place"]
    np.testing.assert_allclose(elsewhere["heat"], models.classifier.predict(chip.pixels), atol=1e-5)
    np.testing.assert_allclose(elsewhere["coarse"], models.refiner.encode(chip).coarse.numpy(), atol=0.05)

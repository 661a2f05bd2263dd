"""A classifier and a refiner with one encoder: each window is encoded once."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hybridseg.nn.backbones import build_backbone
from hybridseg.nn.classify.classifier import Classifier, load_classifier
from hybridseg.nn.classify.heads import LinearSegmenter
from hybridseg.nn.sam2.embedding import EmbeddingFolder
from hybridseg.nn.sam2.official import load_refiner
from hybridseg.nn.sam2.promptable import Promptable
from hybridseg.nn.sam2.shared_encoder import SharedClassifier, SharedRefiner, share_encoder
from hybridseg.nn.weights import save_weights
from tests.doubles import CountedEncoder
from tests.nn.chips import chip_of, random_chip

Pair = tuple[Classifier, Promptable]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A linear head on sam2-lite's encoder, and sam2-lite."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "on-sam2"
    card = {"classes": ["a"], "gsd_m": 0.3, "gsd_range_m": [0.1, 1.0], "head": "linear", "backbone": "sam2"}
    save_weights(LinearSegmenter(1, build_backbone("sam2", pretrained=True)), folder, card)
    return load_classifier(folder, "cpu"), load_refiner("sam2-lite", "cpu")


@pytest.fixture
def pair(opened: Pair) -> Pair:
    """The same with weights of their own, to be changed."""
    classifier, refiner = opened
    return replace(classifier, net=copy.deepcopy(classifier.net)), replace(refiner, model=copy.deepcopy(refiner.model))


def shared(pair: Pair, folder: Path | None = None) -> tuple[SharedClassifier, SharedRefiner]:
    both = share_encoder(*pair, None if folder is None else EmbeddingFolder(folder))
    assert both is not None
    return both


def test_one_encoding_serves_both(pair: Pair, tmp_path: Path):
    classifier, refiner = pair
    (first, second), counted = shared(pair, tmp_path), CountedEncoder(refiner)
    classifier.net.head.bias.data[0] = 100  # something is likely
    chip = random_chip()
    heat = first.predict(chip.pixels)
    alone = classifier.predict(chip.pixels)
    assert heat.shape == alone.shape
    assert np.abs(heat - alone).mean() < 0.01  # the refiner may encode in bf16
    kept = second.encode(chip)
    assert counted.runs == 1
    assert kept.geobox == chip.geobox
    fresh = refiner.encode(chip)
    assert torch.allclose(kept.coarse, fresh.coarse, atol=2e-3 * float(fresh.coarse.abs().max()))
    points, labels = np.full((1, 6, 2), 200, np.float32), np.array([[1, -1, -1, -1, -1, -1]], np.int32)
    logits, _ = second.decode(kept, points, labels, None)
    expected, _ = refiner.decode(fresh, points, labels, None)
    assert np.abs(logits - expected).max() < 0.5


def test_each_of_a_pair_has_its_own_name_and_hash(pair: Pair):
    classifier, refiner = pair
    first, second = shared(pair)
    own = first.name, first.sha256, first.spec, first.card
    assert own == (classifier.name, classifier.sha256, classifier.spec, classifier.card)
    assert (second.name, second.sha256, second.mask_px) == (refiner.name, refiner.sha256, refiner.mask_px)
    assert second.size_px == first.spec.image_px == 512


def test_features_are_the_classifiers_own(pair: Pair):
    classifier, _ = pair
    at = np.array([[0, 0], [100, 37], [255, 255]])
    chip = random_chip(3)
    own = classifier.features(chip.pixels).at(at)
    assert own.shape == (3, sum(classifier.net.trunk.channels))
    assert np.array_equal(shared(pair)[0].features(chip.pixels).at(at), own)


def test_an_embedding_that_was_kept_and_a_new_one_are_the_same(pair: Pair, tmp_path: Path):
    chip = random_chip(1)
    new = shared(pair)[1].encode(chip)
    first, second = shared(pair, tmp_path)
    first.encoder.keep(chip.pixels, first.encoder.features(chip.pixels)[2])
    assert len(list(tmp_path.iterdir())) == 1
    read = second.encode(chip)
    assert torch.equal(new.coarse, read.coarse)
    assert all(torch.equal(a, b) for a, b in zip(new.fine, read.fine, strict=True))


def test_windows_where_nothing_is_likely_are_not_kept(pair: Pair, tmp_path: Path):
    first, _ = shared(pair, tmp_path)
    first.classifier.net.head.bias.data[0] = -100
    first.predict(np.zeros((3, 512, 512), np.uint8))
    assert not list(tmp_path.iterdir())


def test_two_refiners_do_not_read_each_others_windows(pair: Pair, tmp_path: Path):
    classifier, refiner = pair
    other = Promptable(copy.deepcopy(refiner.model), "other", "f" * 64)
    for part in other.model.image_encoder.neck.parameters():
        part.data.mul_(2)
    chip = random_chip(2)
    first, _ = shared(pair, tmp_path)
    _, second = shared((classifier, other), tmp_path)
    first.encoder.keep(chip.pixels, first.encoder.features(chip.pixels)[2])
    own = other.encode(chip).coarse
    assert torch.allclose(second.encode(chip).coarse, own, atol=2e-3 * float(own.abs().max()))


def test_what_cannot_be_kept_is_encoded_again(pair: Pair, tmp_path: Path):
    (tmp_path / "a file").touch()
    first, second = shared(pair, tmp_path / "a file")
    first.classifier.net.head.bias.data[0] = 100
    chip = chip_of(np.zeros((3, 512, 512), np.uint8))
    assert first.predict(chip.pixels)[0].min() > 0.9
    assert second.encode(chip).coarse.isfinite().all()


def test_a_damaged_file_is_encoded_again(pair: Pair, tmp_path: Path):
    first, second = shared(pair, tmp_path)
    chip = random_chip(4)
    first.encoder.keep(chip.pixels, first.encoder.features(chip.pixels)[2])
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    assert torch.equal(second.encode(chip).coarse, shared(pair)[1].encode(chip).coarse)


def test_threads_do_not_mix_their_features(pair: Pair):
    first, _ = shared(pair)
    chips = [random_chip(seed) for seed in range(6)]
    expected = [first.predict(chip.pixels) for chip in chips]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(first.predict, [chip.pixels for chip in chips]))
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-5)


def test_another_encoder_is_not_shared(pair: Pair):
    classifier, refiner = pair
    assert share_encoder(load_classifier("buildings-lite0", "cpu"), refiner) is None
    assert share_encoder(classifier, refiner) is not None
    next(classifier.net.trunk.body.parameters()).data.add_(0.1)
    assert share_encoder(classifier, refiner) is None

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from hybridseg.errors import WeightsError
from hybridseg.folders import models_folders
from hybridseg.nn.cards import model_folder, read_card, sha256
from hybridseg.nn.classify.classifier import load_classifier
from hybridseg.nn.classify.heads import Segmenter
from hybridseg.nn.weights import load_weights, save_weights
from tests.nn.checkpoints import one_line

CARD = {"name": "small", "classes": ["building"], "gsd_m": 0.25, "gsd_range_m": [0.05, 0.6], "data": ["Häuser (ODbL)"]}


def net(seed: int = 0, width: int = 4) -> nn.Sequential:
    torch.manual_seed(seed)
    small = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))
    small(torch.rand(2, 3, 8, 8))  # the batch norm counts: an integer in the state
    return small


def test_weights_are_halves_on_disk_and_come_back_as_floats(tmp_path: Path):
    first, second = net(0), net(1)
    save_weights(first, tmp_path / "small", CARD)
    stored = load_file(tmp_path / "small" / "weights.safetensors")
    load_weights(second, tmp_path / "small")
    for key, value in first.state_dict().items():
        loaded = second.state_dict()[key]
        assert loaded.dtype == value.dtype
        if value.is_floating_point():
            assert stored[key].dtype == torch.float16
            assert torch.equal(loaded, value.half().float())
        else:
            assert torch.equal(loaded, value)


def test_saving_leaves_weights_and_card_and_nothing_else(tmp_path: Path):
    for seed in (0, 1):  # the second takes the place of the first
        save_weights(net(seed), tmp_path / "small", CARD)
        assert sorted(path.name for path in (tmp_path / "small").iterdir()) == ["card.yaml", "weights.safetensors"]
    weights = tmp_path / "small" / "weights.safetensors"
    assert read_card(tmp_path / "small") == CARD | {"sha256": sha256(weights)}
    assert "Häuser" in (tmp_path / "small" / "card.yaml").read_text()


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_a_model_has_the_usual_permissions_or_those_of_the_former_one(tmp_path: Path, umask: int):
    former = os.umask(umask)
    try:
        save_weights(net(0), tmp_path / "small", CARD)
        files = list((tmp_path / "small").iterdir())
        assert {file.stat().st_mode & 0o777 for file in files} == {0o666 & ~umask}
        for file in files:
            file.chmod(0o640)
        save_weights(net(1), tmp_path / "small", CARD)
        assert {file.stat().st_mode & 0o777 for file in files} == {0o640}
    finally:
        os.umask(former)


def test_the_hash_goes_with_the_weights(tmp_path: Path):
    hashes = []
    for seed in (0, 0, 1):
        save_weights(net(seed), tmp_path / "small", CARD)
        hashes.append(sha256(tmp_path / "small" / "weights.safetensors"))
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_model_is_found_by_name_or_path_and_ones_own_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_weights(net(), tmp_path / "small", CARD)
    monkeypatch.setenv("HYBRIDSEG_MODELS", str(tmp_path))
    assert model_folder("small") == tmp_path / "small"
    monkeypatch.delenv("HYBRIDSEG_MODELS")
    assert model_folder(tmp_path / "small") == tmp_path / "small"


def test_an_unknown_model_lists_those_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HYBRIDSEG_MODELS", str(tmp_path))
    for name in ("one", "two"):
        save_weights(net(), tmp_path / name, CARD)
    with pytest.raises(WeightsError, match="'three'") as error:
        model_folder("three")
    assert {"one", "two"} <= set(one_line(error).replace(",", "").replace(";", "").split())


def test_a_folder_without_weights_is_said_to_be_one(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"holds no weights\.safetensors") as error:
        model_folder(tmp_path)
    one_line(error)


@pytest.mark.parametrize("damage", [b"", b"not safetensors", None], ids=["empty", "text", "cut short"])
def test_damaged_weights_give_one_line(damage: bytes | None, tmp_path: Path):
    save_weights(net(), tmp_path / "small", CARD)
    path = tmp_path / "small" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-20] if damage is None else damage)
    with pytest.raises(WeightsError, match=r"weights\.safetensors") as error:
        load_weights(net(), tmp_path / "small")
    one_line(error)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path):
    damaged = net()
    damaged[0].weight.data[1, 2, 0, 1] = value
    save_weights(damaged, tmp_path / "small", CARD)
    with pytest.raises(WeightsError, match=r"weights\.safetensors is damaged: 0\.weight .* not finite") as error:
        load_weights(net(), tmp_path / "small")
    one_line(error)


def test_weights_that_are_not_those_of_the_card_are_refused(tmp_path: Path):
    save_weights(net(0), tmp_path / "small", CARD)
    path = tmp_path / "small" / "weights.safetensors"
    flipped = bytearray(path.read_bytes())
    flipped[-3] ^= 0x10  # one bit: still a number, another one
    path.write_bytes(flipped)
    with pytest.raises(WeightsError, match="damaged or not the file that its card describes") as error:
        load_weights(net(), tmp_path / "small")
    one_line(error)
    card = read_card(tmp_path / "small")
    (tmp_path / "small" / "card.yaml").write_text(yaml.safe_dump({k: v for k, v in card.items() if k != "sha256"}))
    load_weights(net(), tmp_path / "small")  # a card need not state it


def test_weights_of_another_architecture_give_one_line(tmp_path: Path):
    save_weights(net(width=4), tmp_path / "small", CARD)
    for other in (net(width=5), nn.Linear(2, 2)):
        with pytest.raises(WeightsError, match="does not fit") as error:
            load_weights(other, tmp_path / "small")
        one_line(error)


def test_a_classifier_reads_its_card(tmp_path: Path):
    save_weights(Segmenter(classes=1), tmp_path / "small", CARD)
    classifier = load_classifier(tmp_path / "small", "cpu")
    spec = classifier.spec
    assert (spec.classes, spec.gsd_m, spec.coarsest_gsd_m) == (
        ("building",),
        0.25,
        0.6,
    )
    assert classifier.sha256 == sha256(tmp_path / "small" / "weights.safetensors")


def test_weights_that_give_no_finite_values_are_refused():
    """All finite themselves, as of a file whose bytes were mixed up: a variance below 0."""
    opened = load_classifier("buildings-lite0", "cpu")
    # a classifier is copied by its name, which gives the one that all others in this process use
    classifier = replace(opened, net=deepcopy(opened.net))
    norm = next(part for part in classifier.net.modules() if isinstance(part, torch.nn.BatchNorm2d))
    norm.running_var.fill_(-1.0)
    with pytest.raises(WeightsError, match="values that are not finite"):
        classifier.predict(np.full((3, 384, 384), 90, np.uint8))


@pytest.mark.parametrize(
    "path", sorted(models_folders()[-1].glob("*/weights.safetensors")), ids=lambda p: p.parent.name
)
def test_weights_that_ship_are_halves(path: Path):
    assert torch.float32 not in {value.dtype for value in load_file(path).values()}

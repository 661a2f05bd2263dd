from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml
from huggingface_hub.errors import LocalEntryNotFoundError

from hybridseg.errors import WeightsError
from hybridseg.nn.cards import model_folder, read_card
from hybridseg.nn.classify.classifier import load_classifier
from hybridseg.nn.classify.heads import Segmenter
from hybridseg.nn.weights import save_weights
from tests.nn.checkpoints import one_line

CARD = {"name": "small", "classes": ["building"], "gsd_m": 0.25, "gsd_range_m": [0.05, 0.6], "data": ["Häuser (ODbL)"]}


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (None, "is missing"),
        ("", "lacks classes"),
        ("[1, 2]", "lacks classes"),
        ("[", "cannot be read"),
        ("trained: 2026-13-45\n", "cannot be read"),
        ("kind: refiner\n", "lacks classes"),
    ],
    ids=["missing", "empty", "list", "no YAML", "no date", "no classifier's"],
)
def test_a_card_that_will_not_do_gives_one_line(card: str | None, said: str, tmp_path: Path):
    save_weights(Segmenter(classes=1), tmp_path / "small", CARD)
    path = tmp_path / "small" / "card.yaml"
    path.unlink() if card is None else path.write_text(card)
    with pytest.raises(WeightsError, match=rf"small/card\.yaml {said}") as error:
        load_classifier(tmp_path / "small", "cpu")
    one_line(error)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"classes": []}, "classes is []; give a list of names"),
        ({"classes": "building"}, "classes is 'building'; give a list"),
        ({"classes": [1]}, "classes.0 is 1; give"),
        ({"classes": None}, "lacks classes"),
        ({"classes": ["a", "b"]}, "the card names 2 classes, the weights have 1"),
        ({"gsd_m": "fine"}, "gsd_m is 'fine'; give metres"),
        ({"gsd_m": 0}, "gsd_m is 0; give metres"),
        ({"gsd_m": 1e-9}, "gsd_m is 1e-09; give metres"),
        ({"gsd_range_m": [0.05, 1e9]}, "gsd_range_m.1 is 1000000000.0; give the finest"),
        ({"gsd_m": float("nan")}, "gsd_m is nan; give metres"),
        ({"gsd_m": float("inf")}, "gsd_m is inf; give metres"),
        ({"gsd_range_m": 0.3}, "gsd_range_m is 0.3; give the finest"),
        ({"gsd_range_m": [0.3]}, "gsd_range_m is [0.3]; give the finest"),
        ({"gsd_range_m": [0.6, 0.05]}, "gsd_range_m is [0.6, 0.05]; give the finest"),
        ({"source_bands": [0, 1, 2]}, "source_bands.0 is 0; give a list"),
        ({"calibration": [1]}, "calibration is [1]; give for each class"),
        ({"calibration": {"building": []}}, "calibration.building is []; give"),
        ({"calibration": {"building": [1, 2]}}, "calibration.building.0 is 1; give"),
        ({"calibration": {"building": [[0.5]]}}, "calibration.building.0 is [0.5]; give"),
        ({"calibration": {"building": [[1, 0.9], [0, 0.1]]}}, "calibration.building is [[1, 0.9], [0, 0.1]]; give"),
        ({"calibration": {"building": [[0, 0.1], [1, 1.2]]}}, "calibration.building.1.1 is 1.2; give"),
    ],
    ids=str,
)
def test_a_wrong_entry_of_a_card_is_named_in_one_line(entry: dict[str, Any], said: str, tmp_path: Path):
    save_weights(Segmenter(classes=1), tmp_path / "small", CARD | entry)
    with pytest.raises(WeightsError) as error:
        load_classifier(tmp_path / "small", "cpu")
    assert said in one_line(error)
    assert "card" in one_line(error)


def test_a_card_is_read_as_it_is_stored_but_for_entries_without_a_value(tmp_path: Path):
    stored = {"kind": "refiner", "gsd_range_m": [1, 10], 3: ["mine"], "calibration": {"a": [[0, 0], [0.5, 1]]}}
    (tmp_path / "card.yaml").write_text(yaml.safe_dump({**stored, "source_bands": None}))
    assert read_card(tmp_path, needs=("kind",)) == stored


def test_a_model_folder_comes_from_the_hub_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def download(repo: str, allow_patterns: list[str]) -> str:
        asked.append((repo, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(WeightsError, match="no model folder"):
        model_folder("hf:someone/trees")
    (tmp_path / "weights.safetensors").touch()
    assert model_folder("hf:someone/trees") == tmp_path
    assert asked[0][0] == "someone/trees"
    assert "theme*.yaml" in asked[0][1]


def test_no_connection_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch):
    def download(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(WeightsError, match="copy the model folder and give its path"):
        model_folder("hf:someone/trees")

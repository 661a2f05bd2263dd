from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from hybridseg.errors import WeightsError
from hybridseg.nn import cards as weights
from hybridseg.nn.cards import model_folder


def test_a_model_folder_comes_from_the_hub_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def download(repo: str, allow_patterns: list[str]) -> str:
        asked.append((repo, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(weights, "snapshot_download", download)
    with pytest.raises(WeightsError, match="no model folder"):
        model_folder("hf:someone/trees")
    (tmp_path / "weights.safetensors").touch()
    assert model_folder("hf:someone/trees") == tmp_path
    assert asked[0][0] == "someone/trees"
    assert "theme*.yaml" in asked[0][1]


def test_no_connection_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch):
    def download(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(weights, "snapshot_download", download)
    with pytest.raises(WeightsError, match="copy the model folder and give its path"):
        model_folder("hf:someone/trees")

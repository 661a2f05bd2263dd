from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hybridseg.nn.sam2.lite import build_sam2_lite
from hybridseg.nn.weights import save_weights
from tests.nn.checkpoints import TINY, official


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Like an official file, 156 MB: taken away at the end, or pytest would keep it for three runs."""
    path = tmp_path_factory.mktemp("official") / "tiny.pt"
    torch.save({"model": official(TINY).state_dict()}, path)
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    save_weights(build_sam2_lite(), folder / "sam2-lite", {"kind": "refiner"})
    return folder

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hybridseg.nn.models import Models
from hybridseg.nn.sam2.lite import build_sam2_lite
from hybridseg.nn.weights import save_weights
from tests.nn.checkpoints import TINY, official
from tests.nn.chips import random_chip


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


@pytest.fixture(scope="session")
def elsewhere() -> dict[str, Any]:
    """What another process finds that was sent models and `random_chip()`; see tests.nn.elsewhere."""
    sent = pickle.dumps((Models.open("land-lite0", "sam2-lite", "cpu"), random_chip()))
    command = [sys.executable, "-m", "tests.nn.elsewhere"]
    done = subprocess.run(command, input=sent, capture_output=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)

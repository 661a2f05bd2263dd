"""Which room of `nn` imports what."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hybridseg

PACKAGE = Path(hybridseg.__file__).parent
NN = PACKAGE / "nn"


def imported(path: Path) -> set[str]:
    """Modules that a file imports, at its top or inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def test_only_training_imports_lightning_and_scikit_learn():
    users = {path.relative_to(NN).parts[0] for path in NN.rglob("*.py") if roots(path) & {"lightning", "sklearn"}}
    assert users == {"training"}


def test_each_optional_package_is_imported_in_one_file():
    for package in ("torchgeo", "terratorch"):
        users = [path.name for path in NN.rglob("*.py") if package in roots(path)]
        assert users == [f"{package}.py"]


def test_nn_stands_beside_read():
    users = [path.name for path in NN.rglob("*.py") if any(m.startswith("hybridseg.read") for m in imported(path))]
    assert users == []


SCRIPT = """
import importlib, json, sys
# None in `sys.modules` makes an import fail as if the package were not installed
blocked = ("lightning", "pytorch_lightning", "sklearn", "torchgeo", "terratorch")
sys.modules.update(dict.fromkeys(blocked))
facts = {}

import numpy as np
from hybridseg.errors import MissingExtra
from hybridseg.nn.models import Models
from hybridseg.nn.sam2.memory import track
from hybridseg.nn.sam2.official import load_refiner

models = Models.open("land-lite0", "sam2-lite", "cpu")
facts["heat"] = models.classifier.predict(np.zeros((3, 64, 64), np.uint8)).shape[1:]
image, mask = np.zeros((2, 3, 512, 512), np.uint8), np.ones((1, 512, 512), bool)
facts["tracked"] = track(load_refiner("sam2-lite", "cpu", 512).model, image, mask)[0].shape
for name in ("fit", "learners", "memory_learner"):
    try:
        importlib.import_module(f"hybridseg.nn.training.{name}")
    except MissingExtra as error:
        facts[name] = str(error)
del sys.modules["sklearn"]
facts["linear"] = importlib.import_module("hybridseg.nn.training.linear").fit_linear.__name__
for name in blocked:
    sys.modules.pop(name, None) if name != "sklearn" else None
from hybridseg.nn.backbones import build_backbone
build_backbone("lite0")
build_backbone("timm:resnet18")
facts["loaded"] = [name for name in ("torchgeo", "terratorch", "lightning") if name in sys.modules]
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    """What works in a process without the optional packages."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_inference_and_tracking_need_neither_lightning_nor_scikit_learn_nor_torchgeo(facts: dict[str, Any]):
    assert facts["heat"] == [32, 32]
    assert facts["tracked"] == [1, 2, 128, 128]


@pytest.mark.parametrize("module", ["fit", "learners", "memory_learner"])
def test_training_without_lightning_names_the_extra(module: str, facts: dict[str, Any]):
    assert facts[module] == "training needs Lightning: uv sync --extra train"


def test_the_linear_head_is_learnt_without_lightning(facts: dict[str, Any]):
    assert facts["linear"] == "fit_linear"


def test_backbones_load_their_package_when_they_are_asked_for(facts: dict[str, Any]):
    assert facts["loaded"] == []

"""Which room of `nn` imports what."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
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


def test_inference_and_tracking_need_neither_lightning_nor_scikit_learn_nor_torchgeo(elsewhere: dict[str, Any]):
    assert np.isfinite(elsewhere["heat"]).all()
    assert elsewhere["tracked"] == [1, 2, 128, 128]


@pytest.mark.parametrize("module", ["fit", "learners"])
def test_training_without_lightning_names_the_extra(module: str, elsewhere: dict[str, Any]):
    assert elsewhere[module] == "training needs Lightning: uv sync --extra train"


def test_the_linear_head_is_learnt_without_lightning(elsewhere: dict[str, Any]):
    assert elsewhere["linear"] == "fit_linear"


def test_backbones_load_their_package_when_they_are_asked_for(elsewhere: dict[str, Any]):
    assert elsewhere["loaded"] == []

"""Training the memory of a refiner by the verb."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from hybridseg.errors import ThemeError
from hybridseg.nn.sam2.lite import build_sam2_lite
from hybridseg.nn.sam2.memory import MEMORY, memory_parameters
from hybridseg.nn.weights import save_weights
from hybridseg.training.recipe import load_recipe
from hybridseg.training.run import train

SIDE = 64


def test_training_a_memory_goes_on_and_keeps_the_refiner(tmp_path: Path):
    torch.manual_seed(0)
    start = tmp_path / "start"
    save_weights(
        build_sam2_lite(SIDE, SIDE), start, {"name": "r", "recipe": "r.yaml", "data": ["a"], "kind": "refiner"}
    )
    plan = {"kind": "memory", "model": "x", "sets": {"town": {"share": 1, "towns": 1}}, "steps": 1, "batch": 1}
    path = tmp_path / "m.yaml"
    path.write_text(yaml.safe_dump(plan | {"size_px": SIDE}))
    with pytest.raises(ThemeError, match="start"):
        load_recipe(path)
    for steps in (1, 2):
        path.write_text(yaml.safe_dump(plan | {"size_px": SIDE, "start": str(start), "steps": steps}))
        folder = train(path, runs=tmp_path / "runs", quiet=True)
        card = yaml.safe_load((folder / "card.yaml").read_text())
        assert card["memory"]["steps"] == steps
    assert (card["kind"], card["data"], card["recipe"]) == ("refiner", ["a"], "m.yaml")
    before, after = (load_file(f / "weights.safetensors") for f in (start, folder))
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved
    assert all(key.startswith(MEMORY) for key in moved)
    assert sum(p.numel() for p in memory_parameters(build_sam2_lite(SIDE, SIDE))) < 2_000_000

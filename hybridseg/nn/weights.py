"""Weights that know themselves: `models/<name>/weights.safetensors` and `card.yaml`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from hybridseg.errors import WeightsError
from hybridseg.resources import models_folders


def model_folder(name: str | Path) -> Path:
    """Folder of a model by name (embedded) or by path.

    Raises:
        WeightsError: no such model; names those there are.
    """
    candidates = [Path(name), *(folder / str(name) for folder in models_folders())]
    for folder in candidates:
        if (folder / "weights.safetensors").is_file():
            return folder
    known = sorted({p.parent.name for f in models_folders() for p in f.glob("*/weights.safetensors")})
    raise WeightsError(
        f"no model {str(name)!r}; there are {', '.join(known) or 'none'}; or give the path of a model folder"
    )


def read_card(folder: Path) -> dict[str, Any]:
    """The model's card as a dict."""
    return yaml.safe_load((folder / "card.yaml").read_text())


def load_weights(net: nn.Module, folder: Path) -> None:
    """Fill `net` from a model folder (stored as fp16, used as fp32).

    Raises:
        WeightsError: the weights are of another architecture, or damaged.
    """
    path = folder / "weights.safetensors"
    try:
        state = {key: value.float() for key, value in load_file(path).items()}
        net.load_state_dict(state)
    except (RuntimeError, OSError, ValueError) as error:
        raise WeightsError(f"{path} does not fit {type(net).__name__}: {str(error).splitlines()[0]}") from error


def save_weights(net: nn.Module, folder: Path, card: Mapping[str, Any]) -> None:
    """Write a model folder: fp16 weights and the card, each beside its old version and then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        key: value.detach().half().contiguous() for key, value in net.state_dict().items() if value.is_floating_point()
    }
    state |= {
        key: value.detach().contiguous() for key, value in net.state_dict().items() if not value.is_floating_point()
    }
    save_file(state, folder / "weights.tmp")
    (folder / "weights.tmp").chmod(0o644)  # safetensors makes it private
    os.replace(folder / "weights.tmp", folder / "weights.safetensors")
    (folder / "card.tmp").write_text(yaml.safe_dump(dict(card), sort_keys=False, allow_unicode=True, width=100))
    os.replace(folder / "card.tmp", folder / "card.yaml")


def sha256(path: Path) -> str:
    """Hash of a weights file, for provenance."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def load_checkpoint(net: nn.Module, path: Path) -> None:
    """Fill `net` from a Lightning checkpoint of its Learner."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    net.load_state_dict({key.removeprefix("net."): value for key, value in state.items() if key.startswith("net.")})

"""Weights that know themselves: `models/<name>/weights.safetensors` and `card.yaml`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hybridseg.errors import WeightsError
from hybridseg.nn.hub import PREFIX, fetch_model
from hybridseg.resources import models_folders

CLASS_ROWS = ("head.1.weight", "head.1.bias")
"""The segmenter's last layer: two rows a class."""


def model_folder(name: str | Path) -> Path:
    """Folder of a model by name (embedded), by path, or by `hf:OWNER/NAME` from the hub.

    Raises:
        WeightsError: no such model; names those there are.
    """
    if str(name).startswith(PREFIX):
        return fetch_model(str(name))
    candidates = [Path(name), *(folder / str(name) for folder in models_folders())]
    for folder in candidates:
        if (folder / "weights.safetensors").is_file():
            return folder
    known = ", ".join(embedded()) or "none"
    raise WeightsError(f"no model {str(name)!r}; there are {known}; or give the path of a model folder")


def embedded() -> list[str]:
    """Names of the models that come with the package."""
    return sorted({path.parent.name for f in models_folders() for path in f.glob("*/weights.safetensors")})


def read_card(folder: Path, needs: Collection[str] = ()) -> dict[str, Any]:
    """The model's card.

    Raises:
        WeightsError: there is none, or it lacks an entry of `needs`.
    """
    path = folder / "card.yaml"
    try:
        card = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WeightsError(f"{path} cannot be read ({type(error).__name__}); a model folder needs its card") from error
    missing = sorted(set(needs) - set(card if isinstance(card, dict) else {}))
    if missing or not isinstance(card, dict):
        raise WeightsError(f"{path} lacks {', '.join(missing) or 'entries'}: not the card of a model of this kind")
    return card


def load_weights(net: nn.Module, folder: Path, classes: Sequence[str] | None = None) -> None:
    """Fill `net` from a model folder (stored as fp16, used as fp32).

    classes: what `net` tells apart, where that differs from the folder's model: a start for training. Outputs of
    classes that both know are taken over, those of new ones stay as they are.

    Raises:
        WeightsError: the weights are of another architecture, or damaged.
    """
    path = folder / "weights.safetensors"
    try:
        state = {key: value.float() for key, value in load_file(path).items()}
        if classes is not None:
            _take_over(state, net.state_dict(), read_card(folder, needs=("classes",))["classes"], classes)
        net.load_state_dict(state)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be read: {str(error).splitlines()[0]}; copy the model folder anew"
        ) from error
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit {type(net).__name__}: {brief(error)}") from error


def _take_over(
    state: dict[str, Tensor], own: Mapping[str, Tensor], stored: Sequence[str], classes: Sequence[str]
) -> None:
    """Replace the last layer, two rows a class, by one for `classes`."""
    for key in CLASS_ROWS:
        rows = own[key].clone()
        for k, name in enumerate(classes):
            if name in stored:
                at = 2 * stored.index(name)
                rows[2 * k : 2 * k + 2] = state[key][at : at + 2]
        state[key] = rows


def brief(error: RuntimeError) -> str:
    """The first thing that torch found wrong, without its heading."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return (lines[1] if len(lines) > 1 else lines[0])[:200]


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

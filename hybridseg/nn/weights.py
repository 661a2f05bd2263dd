"""Weights to and from model folders: fp16 on disk, fp32 in use."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hybridseg.errors import WeightsError
from hybridseg.nn.cards import read_card

CLASS_ROWS = ("head.1.weight", "head.1.bias")
"""The segmenter's last layer: two rows a class."""


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
        check_finite(path, state)
        if classes is not None:
            _take_over(state, net.state_dict(), read_card(folder, needs=("classes",))["classes"], classes)
        _check_classes(path, state, net.state_dict())
        net.load_state_dict(state)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be read: {str(error).splitlines()[0]}; copy the model folder anew"
        ) from error
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit {type(net).__name__}: {brief(error)}") from error


def check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not numbers: a network gives nothing with them, and no error.

    Raises:
        WeightsError: a tensor holds NaN or infinity.
    """
    for key, value in state.items():
        if not value.isfinite().all():
            raise WeightsError(f"{path} is damaged: {key} holds values that are not finite; copy or fetch it anew")


def _take_over(
    state: dict[str, Tensor], own: Mapping[str, Tensor], stored: Sequence[str], classes: Sequence[str]
) -> None:
    """Replace the last layer, two rows a class, by one for `classes`."""
    for key in CLASS_ROWS:
        if key not in state:
            return  # of another architecture, which is found when the net is filled
        rows = own[key].clone()
        for k, name in enumerate(classes):
            if name in stored:
                at = 2 * stored.index(name)
                rows[2 * k : 2 * k + 2] = state[key][at : at + 2]
        state[key] = rows


def _check_classes(path: Path, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """That the last layer, two rows a class, has as many rows as the net that the card describes."""
    for key in (CLASS_ROWS[0], "head.weight"):  # of a Segmenter, of a LinearSegmenter
        if key in state and key in own and len(state[key]) != len(own[key]):
            there, named = len(state[key]) // 2, len(own[key]) // 2
            raise WeightsError(f"{path}: the card names {named} classes, the weights have {there}; correct the card")


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

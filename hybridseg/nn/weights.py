"""Weights to and from model folders: fp16 on disk, fp32 in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from hybridseg.errors import WeightsError
from hybridseg.files import replacing
from hybridseg.nn.cards import read_card, sha256

CLASS_ROWS = ("head.1.weight", "head.1.bias")
"""The segmenter's last layer: two rows a class."""


def load_weights(net: nn.Module, folder: Path, classes: Sequence[str] | None = None) -> None:
    """Fill a network from a model folder: stored as fp16, used as fp32.

    Args:
        net: the network.
        folder: of the model.
        classes: what `net` tells apart, where that differs from the folder's model: a start for training. The rows of
            classes that both have are taken over, those of new classes stay as they are.

    Raises:
        WeightsError: the weights are of another architecture, damaged, or not those that the card was written for.
    """
    path = folder / "weights.safetensors"
    try:
        state = {key: value.float() for key, value in load_file(path).items()}
        _check_hash(path)
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
    """Refuse weights that are not finite: with them a network finds nothing, and raises nothing.

    Raises:
        WeightsError: a tensor holds NaN or infinity.
    """
    for key, value in state.items():
        if not value.isfinite().all():
            raise WeightsError(f"{path} is damaged: {key} holds values that are not finite; copy or fetch it anew")


def _check_hash(path: Path) -> None:
    """Refuse weights with another hash than their card states, if it states one."""
    if (path.parent / "card.yaml").exists():
        stated = read_card(path.parent).get("sha256")
        if stated is not None and stated != sha256(path):
            raise WeightsError(f"{path} is damaged or not the file that its card describes; copy the model folder anew")


def _take_over(
    state: dict[str, Tensor], own: Mapping[str, Tensor], stored: Sequence[str], classes: Sequence[str]
) -> None:
    """Replace the last layer, two rows a class, by one for `classes`."""
    for key in CLASS_ROWS:
        if key not in state:
            return  # of another architecture: filling the net will fail
        rows = own[key].clone()
        for k, name in enumerate(classes):
            if name in stored:
                at = 2 * stored.index(name)
                rows[2 * k : 2 * k + 2] = state[key][at : at + 2]
        state[key] = rows


def _check_classes(path: Path, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse a last layer, two rows a class, with another number of rows than the net that the card describes."""
    for key in (CLASS_ROWS[0], "head.weight"):  # of a Segmenter, of a LinearSegmenter
        if key in state and key in own and len(state[key]) != len(own[key]):
            there, named = len(state[key]) // 2, len(own[key]) // 2
            raise WeightsError(f"{path}: the card names {named} classes, the weights have {there}; correct the card")


def brief(error: RuntimeError) -> str:
    """The first complaint of torch's message, without its heading."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return (lines[1] if len(lines) > 1 else lines[0])[:200]


def save_weights(net: nn.Module, folder: Path, card: Mapping[str, Any]) -> None:
    """Write a model folder: fp16 weights, and the card with their hash; each file appears whole or not at all.

    Raises:
        OutputError: they cannot be written there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        key: (value.detach().half() if value.is_floating_point() else value.detach()).contiguous()
        for key, value in net.state_dict().items()
    }
    with replacing(folder / "weights.safetensors") as beside:
        beside.write_bytes(save(state))  # `save_file` makes it private
        stated = {**card, "sha256": sha256(beside)}
    with replacing(folder / "card.yaml") as beside:
        beside.write_text(yaml.safe_dump(stated, sort_keys=False, allow_unicode=True, width=100))

"""Refiners by name: the embedded sam2-lite, official checkpoints from the hub, or a file."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import httpx2  # what huggingface-hub 2 speaks with
import torch
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES, build_sam2
from sam2.modeling.sam2_base import SAM2Base

from hybridseg.errors import WeightsError
from hybridseg.nn.device import pick_device
from hybridseg.nn.lite import build_sam2_lite
from hybridseg.nn.sam2 import Promptable
from hybridseg.nn.weights import brief, load_weights, model_folder, sha256

OFFICIAL = {repo.removeprefix("facebook/"): repo for repo in HF_MODEL_ID_TO_FILENAMES}
"""Name to Hugging Face repository: sam2-hiera-tiny ... sam2.1-hiera-large."""

_SIZES = {(96, 12): "tiny", (96, 16): "small", (112, 24): "base-plus", (144, 48): "large"}
"""Size by the trunk's width and number of blocks."""


def load_refiner(name: str | Path, device: str = "auto") -> Promptable:
    """A refiner ready to encode and decode.

    Args:
        name: `sam2-lite` or another model folder; the name of an official checkpoint (`sam2.1-hiera-tiny`, in any of
            four sizes, 2.0 and 2.1: fetched to the user's Hugging Face cache unless it is there); or the path of an
            official `.pt`, whose architecture is read off its weights.
        device: see nn.device.pick_device.

    Raises:
        WeightsError: unknown name, no connection, or a file that is no SAM2 checkpoint.
    """
    target = pick_device(device)
    text = str(name)
    if text.removeprefix("facebook/") in OFFICIAL:
        path = _fetch(OFFICIAL[text.removeprefix("facebook/")])
    elif text.endswith((".pt", ".pth")):
        path = Path(name)
    else:
        try:
            folder = model_folder(name)
        except WeightsError as error:
            raise WeightsError(
                f"{error}; or an official one: {', '.join(OFFICIAL)}; or the path of a .pt file"
            ) from error
        model = build_sam2_lite()
        load_weights(model, folder)
        path = folder / "weights.safetensors"
        return Promptable(_ready(model, target), folder.name, sha256(path))
    return Promptable(_ready(_load_official(path), target), path.stem, sha256(path))


def _ready(model: SAM2Base, device: torch.device) -> SAM2Base:
    return model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)


def _fetch(repo: str) -> Path:
    """The checkpoint from the hub, or from the cache when it is there or HF_HUB_OFFLINE is set."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    filename = HF_MODEL_ID_TO_FILENAMES[repo][1]
    # its retries are not for the user; what is wrong in the end is said below
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        return Path(hf_hub_download(repo, filename))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, httpx2.HTTPError) as error:
        raise WeightsError(
            f"cannot fetch {filename} of {repo} from the hub ({type(error).__name__}); "
            "check the connection, or download it elsewhere and give its path to --refiner"
        ) from error


def _load_official(path: Path) -> SAM2Base:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model"]
        patch = state["image_encoder.trunk.patch_embed.proj.weight"]
    except FileNotFoundError as error:
        raise WeightsError(f"no checkpoint at {path}; give the path of an official SAM2 .pt file") from error
    except (OSError, KeyError, TypeError, ValueError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"{path} is not a SAM2 checkpoint; give an official one, e.g. sam2.1_hiera_tiny.pt"
        ) from error
    blocks = len({key.split(".")[3] for key in state if key.startswith("image_encoder.trunk.blocks.")})
    size = _SIZES.get((patch.shape[0], blocks))
    version = "2.1" if "no_obj_embed_spatial" in state else "2"
    if size is None:
        raise WeightsError(f"{path} is a SAM2 checkpoint of unknown size ({patch.shape[0]} wide, {blocks} blocks)")
    model = build_sam2(HF_MODEL_ID_TO_FILENAMES[f"facebook/sam{version}-hiera-{size}"][0], device="cpu")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit SAM{version} {size}: {brief(error)}") from error
    return model

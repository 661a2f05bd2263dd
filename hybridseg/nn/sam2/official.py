"""Refiners by name: the embedded sam2-lite and other model folders, official checkpoints from the hub, or a file."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Mapping
from functools import lru_cache, partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES, build_sam2
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from hybridseg.errors import WeightsError
from hybridseg.nn.backbones.base import Backbone, Body, BodyBackbone, InputSpec
from hybridseg.nn.cards import Stamp, announce, model_folder, sha256, source_of, stamp
from hybridseg.nn.device import pick_device
from hybridseg.nn.runtime import pick_runtime
from hybridseg.nn.sam2 import edgetam
from hybridseg.nn.sam2.lite import build_sam2_lite
from hybridseg.nn.sam2.promptable import Promptable
from hybridseg.nn.weights import brief, check_finite, load_weights

OFFICIAL = {repo.removeprefix("facebook/"): repo for repo in HF_MODEL_ID_TO_FILENAMES}
"""Name to Hugging Face repository: sam2-hiera-tiny ... sam2.1-hiera-large."""
EDGETAM = "edgetam"
EDGETAM_URL = "https://github.com/facebookresearch/EdgeTAM/raw/main/checkpoints/edgetam.pt"
SUFFIXES = (".pt", ".pth")
OPENED = 4
"""Refiners that a process keeps open."""

_SIZES = {(96, 12): "tiny", (96, 16): "small", (112, 24): "base-plus", (144, 48): "large"}
"""Size by the trunk's width and number of blocks."""
_PATCH, _BLOCKS = "image_encoder.trunk.patch_embed.proj.weight", "image_encoder.trunk.blocks."


def load_refiner(
    name: str | Path, device: str = "auto", decode_px: int | None = None, runtime: str = "torch"
) -> Promptable:
    """A refiner ready to encode and decode; one object for all who ask in a process: copy it before changing it.

    Args:
        name: `sam2-lite` or another model folder; the name of an official checkpoint (`sam2.1-hiera-tiny`, in any of
            four sizes, 2.0 and 2.1: fetched to the user's Hugging Face cache unless it is there); `edgetam` (fetched to
            the cache of torch.hub); or the path of an official `.pt`, whose architecture is read off its weights.
        device: see nn.device.pick_device.
        decode_px: side of the part of the image around each prompt that the decoder sees, a multiple of 32; default:
            256 px of sam2-lite, as it was trained; of official ones, which were trained on the whole image, what suits
            the object, where that gives the same mask (see `Promptable.parts`). Tracking needs the whole image.
        runtime: see nn.runtime.pick_runtime.

    Raises:
        WeightsError: unknown name, no connection, or a file that is no SAM2 checkpoint.
    """
    path = _weights_of(name)
    return _open(path, stamp(path), device, decode_px, runtime)


@lru_cache(maxsize=OPENED)
def _open(path: Path, _: Stamp, device: str, decode_px: int | None, runtime: str) -> Promptable:
    target = pick_device(device)
    pick_runtime(runtime, target)  # refuses before anything is read
    if path.suffix in SUFFIXES:
        model, source = _load_official(path), path
    else:
        model, source = build_sam2_lite(), path.parent
        load_weights(model, source)
    if decode_px is not None:
        _decode_on(model, decode_px)
    model = model.eval().requires_grad_(False).to(target, memory_format=torch.channels_last)
    name = path.stem if source == path else source.name
    reopen = partial(load_refiner, str(source.absolute()), device, decode_px, runtime)
    official = path.suffix in SUFFIXES
    return Promptable(model, name, sha256(path), reopen, runtime, parts=official and decode_px is None, large=official)


def _decode_on(model: SAM2Base, side_px: int) -> None:
    """Make the decoder see `side_px` around each prompt; no weight depends on it."""
    if side_px not in range(32, model.image_size + 1, 32):
        raise WeightsError(f"decode_px is {side_px}; give a multiple of 32 up to {model.image_size}")
    encoder = model.sam_prompt_encoder
    encoder.image_embedding_size = (side_px // 16, side_px // 16)
    encoder.input_image_size = (side_px, side_px)
    encoder.mask_input_size = (side_px // 4, side_px // 4)


def _weights_of(name: str | Path) -> Path:
    """The file that holds a refiner's weights; fetched where `name` is that of an official one."""
    official = OFFICIAL.get(str(name).removeprefix("facebook/"))
    if official is not None:
        return _fetch(official)
    if name == EDGETAM:
        return _fetch_edgetam()
    if str(name).endswith(SUFFIXES):
        return Path(name)
    try:
        return model_folder(name) / "weights.safetensors"
    except WeightsError as error:
        raise WeightsError(
            f"{error}; or an official one: {', '.join([*OFFICIAL, EDGETAM])}; or the path of a .pt file"
        ) from error


def at_hand(name: str) -> bool:
    """Return whether nothing has to be fetched for a refiner: it is a file, a folder, or in the user's cache."""
    official = OFFICIAL.get(name.removeprefix("facebook/"))
    if official is not None:
        from huggingface_hub import try_to_load_from_cache

        return isinstance(try_to_load_from_cache(official, HF_MODEL_ID_TO_FILENAMES[official][1]), str)
    return _edgetam_file().is_file() if name == EDGETAM else source_of(name) is None


def _edgetam_file() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / "edgetam.pt"


def _fetch(repo: str) -> Path:
    """The checkpoint from the hub, or from the cache when it is there or HF_HUB_OFFLINE is set."""
    import httpx2  # the client that huggingface-hub 2 uses; both are imported by who fetches alone
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    filename = HF_MODEL_ID_TO_FILENAMES[repo][1]
    if not isinstance(try_to_load_from_cache(repo, filename), str):
        announce(repo)
    # its retries are not for the user: what is wrong in the end becomes one line below
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        return Path(hf_hub_download(repo, filename))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, httpx2.HTTPError) as error:
        raise WeightsError(
            f"cannot fetch {filename} of {repo} from the hub ({type(error).__name__}); "
            "check the connection, or download it elsewhere and give its path to --refiner"
        ) from error


def _fetch_edgetam() -> Path:
    """The checkpoint from its repository, or from torch.hub's cache; not where HF_HUB_OFFLINE forbids all fetching."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    path = _edgetam_file()
    if path.is_file():
        return path
    announce(EDGETAM)
    try:
        if HF_HUB_OFFLINE:
            raise ConnectionError
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(EDGETAM_URL, str(path), progress=False)
    except (OSError, HTTPException) as error:
        raise WeightsError(
            f"cannot fetch {EDGETAM_URL} ({type(error).__name__}); check the connection, or download it elsewhere and "
            "give its path to --refiner"
        ) from error
    return path


def _load_official(path: Path) -> SAM2Base:
    state = _read_state(path)
    if edgetam.PATCH in state:
        try:
            return edgetam.edgetam_of(state)
        except RuntimeError as error:
            raise WeightsError(f"{path} does not fit EdgeTAM: {brief(error)}") from error
    width = state[_PATCH].shape[0]
    blocks = len({key.split(".")[3] for key in state if key.startswith(_BLOCKS)})
    size = _SIZES.get((width, blocks))
    version = "2.1" if "no_obj_embed_spatial" in state else "2"
    if size is None:
        raise WeightsError(f"{path} is a SAM2 checkpoint of unknown size ({width} wide, {blocks} blocks)")
    model = build_sam2(HF_MODEL_ID_TO_FILENAMES[f"facebook/sam{version}-hiera-{size}"][0], device="cpu")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit SAM{version} {size}: {brief(error)}") from error
    return model


def _read_state(path: Path) -> Mapping[str, Tensor]:
    """The tensors of an official checkpoint, by name, each checked to be one."""
    refusal = WeightsError(f"{path} is not a SAM2 checkpoint; give an official one, e.g. sam2.1_hiera_tiny.pt")
    try:
        with warnings.catch_warnings(action="ignore"):  # of what a foreign file holds; it is checked below
            state = torch.load(path, map_location="cpu", weights_only=True)["model"]
    except FileNotFoundError as error:
        raise WeightsError(f"no checkpoint at {path}; give the path of an official SAM2 .pt file") from error
    except Exception as error:  # torch raises whatever a foreign file leads its unpickler into
        raise refusal from error
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise refusal
    if not all(_is_plain(value) for value in state.values()):
        raise refusal
    if edgetam.PATCH not in state and (_PATCH not in state or not state[_PATCH].ndim):
        raise refusal
    check_finite(path, state)
    return state


def _is_plain(value: object) -> bool:
    """Whether a value is a tensor of real numbers that lie in memory."""
    return (
        isinstance(value, Tensor)
        and value.device.type == "cpu"
        and value.layout == torch.strided
        and not value.is_complex()
        and not value.is_quantized
    )


def build(name: str, pretrained: bool) -> Backbone:
    """The trunk of sam2-lite or of an official checkpoint.

    It takes the refiner's own image size only: its features depend on what else is in the image and on the place there.

    Raises:
        WeightsError: no such refiner, or weights that cannot be had.
    """
    name = name or "sam2-lite"
    official = OFFICIAL.get(name.removeprefix("facebook/"))
    if official is None and name != "sam2-lite":
        raise WeightsError(f"no backbone 'sam2:{name}'; give one of sam2, {', '.join(f'sam2:{n}' for n in OFFICIAL)}")
    if pretrained:
        model: Any = copy.deepcopy(
            load_refiner(name, "cpu").model
        )  # it may be trained, which must not move the refiner
    elif official:
        model = build_sam2(HF_MODEL_ID_TO_FILENAMES[official][0], device="cpu")
    else:
        model = build_sam2_lite()
    trunk = model.image_encoder.trunk.requires_grad_(True)
    channels = list(trunk.channel_list[::-1])
    return BodyBackbone(Body(trunk, channels, [4, 8, 16, 32], InputSpec(), int(model.image_size)))

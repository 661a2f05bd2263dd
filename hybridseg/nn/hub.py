"""Model folders on the Hugging Face hub, by `hf:OWNER/NAME`."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx2  # what huggingface-hub 2 speaks with

from hybridseg.errors import WeightsError

PREFIX = "hf:"
FILES = ["weights.safetensors", "card.yaml", "theme*.yaml"]


def fetch_model(name: str) -> Path:
    """The folder in the user's cache, fetched unless it is there or HF_HUB_OFFLINE is set.

    Raises:
        WeightsError: no connection, no such model, or it is no model folder.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo = name.removeprefix(PREFIX)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        folder = Path(snapshot_download(repo, allow_patterns=FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, httpx2.HTTPError) as error:
        raise WeightsError(
            f"cannot fetch {name} from the hub ({type(error).__name__}); check the name and the connection, or copy "
            "the model folder and give its path"
        ) from error
    if not (folder / "weights.safetensors").is_file():
        raise WeightsError(f"{name} is no model folder: it has no weights.safetensors")
    return folder

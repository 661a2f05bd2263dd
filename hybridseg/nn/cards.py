"""Model folders and their cards, and what is fetched when it is named, under which licence; without torch."""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from hybridseg.errors import HybridsegWarning, WeightsError
from hybridseg.folders import models_folders
from hybridseg.types import COARSEST_M, FINEST_M

UNVERIFIED = "not verified"


@dataclass(frozen=True)
class Source:
    """Weights that come from elsewhere.

    name: as it is given, or a family's.
    pattern: of all names that it stands for.
    kind: refiner or backbone.
    licence: of the weights.
    page: where that stands.
    megabytes: size, about; None: not known.
    """

    name: str
    pattern: str
    kind: str
    licence: str
    page: str
    megabytes: int | None = None

    def line(self, name: str) -> str:
        """Return what to say before it is fetched."""
        size = "" if self.megabytes is None else f"about {self.megabytes} MB, "
        return f"{name}: {size}licence {self.licence} ({self.page})"


_HUB = "huggingface.co"
_SAM2 = [("tiny", 156), ("small", 184), ("base-plus", 323), ("large", 898)]
SOURCES = (
    *(
        Source(f"sam{v}-hiera-{size}", rf"(facebook/)?sam{v}-hiera-{size}", "refiner", "Apache-2.0",
               f"{_HUB}/facebook/sam{v}-hiera-{size}", megabytes)
        for v in ("2.1", "2") for size, megabytes in _SAM2
    ),
    Source("edgetam", "edgetam", "refiner", "Apache-2.0", "github.com/facebookresearch/EdgeTAM", 56),
    Source("sam2:REFINER", r"sam2:.+", "backbone", "as the refiner's", "its row above"),
    Source("timm:...dinov3...", r"timm:.*dinov3.*", "backbone", "DINOv3 License, Meta's own terms: read it first",
           f"{_HUB}/timm"),
    Source("timm:NAME", r"timm:.+", "backbone", UNVERIFIED, f"its page at {_HUB}/timm"),
    Source("torchgeo:...LANDSAT... (SSL4EO-L)", r"torchgeo:.+\.LANDSAT_.+", "backbone", "CC0-1.0",
           f"{_HUB}/torchgeo/ssl4eo_landsat"),
    Source("torchgeo:WEIGHTS", r"torchgeo:.+", "backbone", UNVERIFIED, "torchgeo.readthedocs.io, pretrained weights"),
    Source("terratorch:clay_v15", "terratorch:clay_v15", "backbone", "Apache-2.0 (OpenRAIL in older revisions)",
           f"{_HUB}/made-with-clay/Clay"),
    Source("terratorch:prithvi_eo_v2_...", r"terratorch:prithvi_eo_v2.+", "backbone", "Apache-2.0",
           f"{_HUB}/ibm-nasa-geospatial"),
    Source("terratorch:NAME", r"terratorch:.+", "backbone", UNVERIFIED, "its page on the hub"),
    Source("hf:OWNER/NAME", r"hf:.+", "model", UNVERIFIED, "its card on the hub"),
)  # fmt: skip
"""The first whose pattern fits counts."""


def source_of(name: str) -> Source | None:
    """Return where the weights of a name come from; None where nothing is fetched for it."""
    return next((source for source in SOURCES if re.fullmatch(source.pattern, name)), None)


def announce(name: str) -> None:
    """Say in one line what is about to be fetched, how large it is, and under which licence."""
    source = source_of(name)
    if source is not None:
        warnings.warn(f"fetching, unless it is in your cache, {source.line(name)}", HybridsegWarning, stacklevel=2)


HUB = "hf:"
FILES = ["weights.safetensors", "card.yaml", "theme*.yaml"]
"""Files of a model folder, as far as they are fetched."""


def _rising(values: list[Any]) -> list[Any]:
    if values != sorted(values):
        raise ValueError("not in rising order")
    return values


_Metres = Annotated[float, Field(ge=FINEST_M, le=COARSEST_M)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Point = Annotated[list[_Share], Field(min_length=2, max_length=2)]
_Points = Annotated[list[_Point], Field(min_length=1), AfterValidator(_rising)]


class _Entries(BaseModel):
    """Entries of a card that are used, all optional; the others are for people. Descriptions state what is allowed.

    Strict, so that a card is used as it is stored.
    """

    model_config = ConfigDict(strict=True)

    classes: list[str] | None = Field(None, min_length=1, description="a list of names")
    gsd_m: _Metres | None = Field(None, description="metres a pixel, a number from 0.001 to 100000")
    gsd_range_m: Annotated[list[_Metres], Field(min_length=2, max_length=2), AfterValidator(_rising)] | None = Field(
        None, description="the finest and the coarsest, [0.05, 0.6] for example, metres a pixel from 0.001 to 100000"
    )
    source_bands: list[Annotated[int, Field(ge=1)]] | None = Field(None, description="a list of band numbers from 1")
    calibration: dict[str, _Points] | None = Field(
        None, description="for each class points [score, chance], both from 0 to 1, in rising order of score"
    )
    sha256: str | None = Field(None, description="hash of weights.safetensors, 64 hexadecimal digits")
    calibration_settings: dict[str, str] | None = Field(
        None, description="for each class the fingerprint of the settings that its calibration was fitted with"
    )


def model_folder(name: str | Path) -> Path:
    """Folder of a model by name (embedded), by path, or by `hf:OWNER/NAME` from the hub.

    Raises:
        WeightsError: no such model, and which there are; or a folder without weights.
    """
    if str(name).startswith(HUB):
        return _fetch(str(name))
    candidates = [Path(name), *(folder / str(name) for folder in models_folders())]
    for folder in candidates:
        if (folder / "weights.safetensors").is_file():
            return folder
    for folder in candidates:
        if folder.is_dir():
            raise WeightsError(f"{folder} holds no weights.safetensors; give the folder of a model, copied whole")
    known = ", ".join(embedded()) or "none"
    raise WeightsError(f"no model {str(name)!r}; there are {known}; or give the path of a model folder")


def _fetch(name: str) -> Path:
    """The model folder in the user's cache, fetched unless it is there or HF_HUB_OFFLINE is set."""
    import httpx2  # the client that huggingface-hub 2 uses; both are imported by who fetches alone
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo = name.removeprefix(HUB)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    announce(name)
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


def embedded() -> list[str]:
    """Names of the models that come with the package."""
    return sorted({path.parent.name for f in models_folders() for path in f.glob("*/weights.safetensors")})


def read_card(folder: Path, needs: Collection[str] = ()) -> dict[str, Any]:
    """The model's card; an entry without a value counts as missing.

    Raises:
        WeightsError: there is none, it lacks an entry of `needs`, or one has a value that is not allowed.
    """
    path = folder / "card.yaml"
    try:
        stored = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is missing: a model folder needs its card; copy the folder whole") from error
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: no UTF-8, or a date that there is not
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path} cannot be read: {reason}; copy the model folder anew") from error
    card = {key: value for key, value in stored.items() if value is not None} if isinstance(stored, dict) else {}
    missing = sorted(set(needs) - set(card))
    if missing or not card:
        raise WeightsError(f"{path} lacks {', '.join(missing) or 'entries'}: not the card of a model of this kind")
    try:
        _Entries.model_validate(card)
    except ValidationError as error:
        first = error.errors()[0]
        allowed = _Entries.model_fields[str(first["loc"][0])].description
        at = ".".join(map(str, first["loc"]))
        raise WeightsError(f"{path}: {at} is {first['input']!r:.80}; give {allowed}") from error
    return card


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


Stamp = tuple[tuple[int, int, int], ...]


def stamp(*paths: Path) -> Stamp:
    """Inode, time of change (ns) and size of each file, by which a changed one is known; zeros for a missing one."""
    stats = [path.stat() if path.exists() else None for path in paths]
    return tuple((0, 0, 0) if s is None else (s.st_ino, s.st_mtime_ns, s.st_size) for s in stats)

"""What made a result: the request with every choice resolved, versions, weights, imagery, and whom to credit."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import geopandas as gpd
import rasterio

from hybridseg.read.paths import as_published
from hybridseg.read.scene import Scene

PACKAGES = ("torch", "torchvision", "openvino", "sam2", "timm", "rasterio", "pyogrio", "shapely")
"""Packages whose release can change a result."""


@dataclass(frozen=True)
class Credit:
    """Who must be named with a result.

    of: `imagery`, or the name of a model.
    attribution: the line to print.
    licence: its name or address, as in CC-BY-4.0; empty where none is known.
    """

    of: str
    attribution: str
    licence: str = ""


@dataclass(frozen=True)
class Provenance:
    """What made a result, from what, when.

    hybridseg: version.
    versions: of Python, GDAL and the packages that count, by name.
    request: every setting after defaults and choices are resolved, as JSON values: with it the run can be repeated.
    models: sha256 of each model's weights, by the model's name.
    source: the scene; source_fingerprint: hash of its content.
    created: UTC, ISO 8601.
    credits: of imagery and weights.
    """

    hybridseg: str
    versions: Mapping[str, str]
    request: Mapping[str, Any]
    models: Mapping[str, str]
    source: str
    source_fingerprint: str
    created: str
    credits: tuple[Credit, ...] = ()

    @classmethod
    def collect(
        cls, scene: Scene, models: Mapping[str, str], request: Mapping[str, Any], credits: Iterable[Credit] = ()
    ) -> Provenance:
        """Add versions and time to what only the caller knows.

        Args:
            scene: the imagery.
            models: sha256 by name.
            request: JSON values; what users typed goes through `as_json` first.
            credits: of imagery and weights.
        """
        return cls(
            hybridseg=installed_version("hybridseg"),
            versions=installed_versions(),
            request=dict(request),
            models=dict(models),
            source=scene.name,
            source_fingerprint=scene.fingerprint,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            credits=tuple(credits),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, equal to what is read back from JSON."""
        return asdict(self) | {"credits": [asdict(credit) for credit in self.credits]}


def as_json(value: Any) -> Any:
    """Return a request, or a part of it, as JSON has it: paths are texts, tuples and sets are lists.

    A result may be published, so passwords are cut from all addresses, and queries but for what a search asks for.

    Raises:
        TypeError: it holds something that JSON cannot.
    """
    if isinstance(value, str | Path):
        return as_published(str(value))
    if isinstance(value, Mapping):
        return {str(key): as_json(part) for key, part in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(as_json(part) for part in value)
    if isinstance(value, list | tuple):
        return [as_json(part) for part in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else str(value)  # JSON has no word for the others
    raise TypeError(f"a request holds JSON values, not {type(value).__name__}: {value!r}")


def input_of(source: str | Path | gpd.GeoDataFrame | None) -> dict[str, str] | None:
    """An input of prompts or masks, with the hash of its content."""
    if source is None:
        return None
    if isinstance(source, gpd.GeoDataFrame):
        return {"name": "a GeoDataFrame", "sha256": ""}
    return {"name": str(source), "sha256": file_hash(source) if Path(source).is_file() else ""}


def file_hash(path: Path | str) -> str:
    """Return the sha256 of a file, such as the prompts that a run started from."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def installed_versions() -> dict[str, str]:
    """Return versions of Python, GDAL and `PACKAGES`, found without importing them."""
    return {
        "python": platform.python_version(),
        "gdal": rasterio.__gdal_version__,
        **{package: installed_version(package) for package in PACKAGES},
    }


def installed_version(package: str) -> str:
    """Return the version of a package, or that it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

"""Where a result comes from: enough to make it again, small enough to live in the file's metadata."""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import rasterio

KEY = "hybridseg"
"""Name of the entry in the metadata of every format."""

PACKAGES = ("torch", "torchvision", "sam2", "timm", "rasterio", "pyogrio", "shapely")
"""Packages whose release can change a result."""

_SECRETS = re.compile(r"(\w+://)(?:[^/\s@]*@)?([^\s?#]*)(?:[?#]\S*)?")


@dataclass(frozen=True)
class Provenance:
    """What made a result, from what, when."""

    hybridseg: str
    """Version of hybridseg."""
    versions: Mapping[str, str]
    """Versions of Python, GDAL and the packages that count, by name."""
    theme: str
    theme_fingerprint: str
    theme_yaml: str
    """The theme as resolved, with every default and override."""
    models: Mapping[str, str]
    """sha256 of each model's weights, by the model's name."""
    source: str
    source_fingerprint: str
    created: str
    """UTC, ISO 8601."""
    command: tuple[str, ...]
    """The command and its arguments."""

    @classmethod
    def collect(
        cls,
        *,
        theme: str,
        theme_fingerprint: str,
        theme_yaml: str,
        models: Mapping[str, str],
        source: str,
        source_fingerprint: str,
        versions: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
    ) -> Provenance:
        """Add versions, time and command (default: this process's) to what only the caller knows.

        A result may be published, so passwords and signed queries are cut from the addresses in `source` and `command`.
        """
        return cls(
            hybridseg=_version("hybridseg"),
            versions=dict(installed_versions() if versions is None else versions),
            theme=theme,
            theme_fingerprint=theme_fingerprint,
            theme_yaml=theme_yaml,
            models=dict(models),
            source=without_secrets(source),
            source_fingerprint=source_fingerprint,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=tuple(without_secrets(word) for word in (sys.argv if command is None else command)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, equal to what is read back from JSON."""
        return asdict(self) | {"command": list(self.command)}

    def to_json(self) -> str:
        """One line of ASCII."""
        return json.dumps(self.to_dict())


def installed_versions() -> dict[str, str]:
    """Versions of Python, GDAL and `PACKAGES`, found without importing them."""
    return {
        "python": platform.python_version(),
        "gdal": rasterio.__gdal_version__,
        **{package: _version(package) for package in PACKAGES},
    }


def without_secrets(text: str) -> str:
    """The text, its addresses without user, password and query.

    Example:
        >>> without_secrets("https://me:pw@host/a.tif?sig=123")
        'https://host/a.tif'
    """
    return _SECRETS.sub(r"\1\2", text)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

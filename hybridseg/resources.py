"""Where the embedded models and configs lie: inside the wheel, or beside the package in a checkout."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).parent


def _folder(name: str) -> Path:
    packed = _PACKAGE / "_data" / name
    return packed if packed.is_dir() else _PACKAGE.parent / name


def models_folders() -> list[Path]:
    """Folders searched for models by name: $HYBRIDSEG_MODELS first, then the embedded ones."""
    own = os.environ.get("HYBRIDSEG_MODELS")
    return [*([Path(own)] if own else []), _folder("models")]


def configs_folder() -> Path:
    """Folder of the embedded themes and recipes."""
    return _folder("configs")

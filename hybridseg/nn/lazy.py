"""Rooms of `nn` that are imported when they are first asked for: torch takes seconds, Lightning more (PEP 562)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType


def loader(package: str, rooms: Sequence[str]) -> Callable[[str], ModuleType]:
    """Return a package's `__getattr__` that imports its rooms when they are first asked for."""

    def load(name: str) -> ModuleType:
        if name not in rooms:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return importlib.import_module(f"{package}.{name}")

    return load

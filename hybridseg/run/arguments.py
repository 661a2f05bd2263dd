"""Numbers as one types them on the command line, `4,3,2`, or gives them from Python, `[4, 3, 2]`."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, nan
from pathlib import Path
from typing import TypeAlias

from hybridseg.errors import HybridsegError
from hybridseg.run.pipeline import Extent

Paths: TypeAlias = str | Path | Sequence[str | Path]
"""One path, which may hold commas, or several."""


def parse_extent(value: str | Sequence[float]) -> Extent:
    """left, bottom, right, top.

    Raises:
        HybridsegError: they are no four numbers, or empty.
    """
    numbers = _numbers(value, "extent")
    if len(numbers) != 4:
        raise HybridsegError(f"extent has {len(numbers)} numbers, not 4; give left,bottom,right,top in the scene's CRS")
    left, bottom, right, top = numbers
    if not (left < right and bottom < top):
        raise HybridsegError(f"extent {left:g},{bottom:g},{right:g},{top:g} is empty; give left,bottom,right,top")
    return left, bottom, right, top


def parse_bands(value: str | Sequence[int] | None, name: str = "bands") -> list[int] | None:
    """Numbers of bands; `name` is the flag's.

    Raises:
        HybridsegError: they are no whole numbers.
    """
    if value is None:
        return None
    numbers = _numbers(value, name)
    if any(not number.is_integer() for number in numbers):
        raise HybridsegError(f"{name} is {value!r}; give whole numbers with commas between, e.g. 4,3,2")
    return [int(number) for number in numbers]


def _numbers(value: str | Sequence[float], name: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(v) for v in (value.split(",") if isinstance(value, str) else value))
    except ValueError:
        numbers = (nan,)
    if not all(isfinite(number) for number in numbers):
        raise HybridsegError(f"{name} is {value!r}; give numbers with commas between, e.g. 4,3,2")
    return numbers


def join_arguments(scene: Paths, labels: Paths, within: Paths | None) -> list[tuple[str, str, str | None]]:
    """Return (scene, labels, complete area) for each scene.

    Args:
        scene: one raster or several.
        labels: as many, in order.
        within: as many, or None: the whole of each scene is labelled.

    Raises:
        HybridsegError: their numbers differ.
    """
    scenes, layers = _several(scene), _several(labels)
    areas = _several(within) if within is not None else [None] * len(scenes)
    if not len(scenes) == len(layers) == len(areas):
        areas_said = "" if within is None else f" and {len(areas)} areas"
        raise HybridsegError(
            f"{len(scenes)} scenes came with {len(layers)} labels{areas_said}; give one for each scene, in order"
        )
    return list(zip(scenes, layers, areas, strict=True))


def _several(paths: Paths) -> list[str]:
    return [str(paths)] if isinstance(paths, str | Path) else [str(path) for path in paths]

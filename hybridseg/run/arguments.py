"""Numbers as one types them on the command line, `4,3,2`, or gives them from Python, `[4, 3, 2]`."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, nan

from hybridseg.errors import HybridsegError
from hybridseg.run.pipeline import Extent


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

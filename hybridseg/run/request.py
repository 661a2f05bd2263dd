"""What a user asked for, resolved: words and numbers to values, each refused in one line where it cannot be meant."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from math import isfinite, nan
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import geopandas as gpd
from pyproj import CRS
from pyproj.exceptions import CRSError

from hybridseg.cog import SUFFIXES
from hybridseg.errors import HybridsegError, OutputError
from hybridseg.files import check_folder
from hybridseg.read.bands import Bands
from hybridseg.read.stored import NoData
from hybridseg.run.actors import Ray
from hybridseg.run.engine import Engine, Serial, Threads
from hybridseg.types import Extent

_HALF_WORLD_M = 1.5e7
"""No object is as wide as this: one that seems so was torn apart by a change of CRS."""
_BAND_NAME = re.compile("[a-z][a-z0-9_]*")

Paths: TypeAlias = str | Path | Sequence[str | Path]
"""One path, which may hold commas, or several."""
EngineName: TypeAlias = Literal["serial", "threads", "ray"]
"""What runs the tasks, see `parse_engine`."""


def check_alone(**given: object) -> None:
    """Refuse two settings of which one says what the other does.

    Raises:
        HybridsegError: both came.
    """
    if all(value is not None for value in given.values()):
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise HybridsegError(f"{flags} came together; give one of them")


def check_retry(run: object, retry_failed: bool) -> None:
    """Refuse to try again what failed in a run that kept nothing.

    Raises:
        HybridsegError: there is no folder of a run.
    """
    if run is None and retry_failed:
        raise HybridsegError("--retry-failed goes with --run: without it nothing is remembered; leave it out")


def parse_extent(value: str | Sequence[float] | None) -> Extent | None:
    """Return left, bottom, right, top of text or numbers.

    Raises:
        HybridsegError: they are no four numbers, or empty.
    """
    if value is None:
        return None
    numbers = _numbers(value, "extent")
    if len(numbers) != 4:
        raise HybridsegError(f"extent has {len(numbers)} numbers, not 4; give left,bottom,right,top in the scene's CRS")
    left, bottom, right, top = numbers
    if not (left < right and bottom < top):
        raise HybridsegError(f"extent {left:g},{bottom:g},{right:g},{top:g} is empty; give left,bottom,right,top")
    return left, bottom, right, top


def parse_bands(value: str | Sequence[int] | Mapping[str, int] | None) -> Bands:
    """Return numbers of bands, or names with their numbers.

    Raises:
        HybridsegError: they are neither.
    """
    if isinstance(value, str) and "=" in value:
        pairs = [word.split("=") for word in words(value)]
        if not all(len(pair) == 2 and _BAND_NAME.fullmatch(pair[0].strip()) for pair in pairs):
            raise HybridsegError(f"bands is {value!r}; give names with numbers, e.g. red=1,green=2,blue=3,nir=4")
        value = {name.strip(): number for name, number in pairs}  # type: ignore[misc]
    if isinstance(value, Mapping):
        return dict(zip(value, parse_numbers(list(value.values()), "bands") or [], strict=True))
    return parse_numbers(value, "bands")


def parse_numbers(value: str | Sequence[int] | None, name: str) -> list[int] | None:
    """Return whole numbers; `name` is the flag's.

    Raises:
        HybridsegError: they are no whole numbers.
    """
    if value is None:
        return None
    numbers = _numbers(value, name)
    if any(not number.is_integer() for number in numbers):
        raise HybridsegError(f"{name} is {value!r}; give whole numbers with commas between, e.g. 4,3,2")
    return [int(number) for number in numbers]


def parse_nodata(value: str | float | None) -> NoData:
    """Return the value of pixels without data, of text or a number, or the word none.

    Raises:
        HybridsegError: it is neither.
    """
    if value is None:
        return None
    if isinstance(value, str) and value.strip().lower() == "none":
        return "none"
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        words = "give the value of pixels without data, e.g. 255, or none where all pixels have data"
        raise HybridsegError(f"nodata is {value!r}; {words}") from error


def words(value: str | Path | Sequence[str] | None) -> list[str]:
    """Return the words of `a,b` or of a list, each stripped; a path is one word."""
    if value is None:
        return []
    if isinstance(value, str):
        return [word.strip() for word in value.split(",")]
    return [str(value)] if isinstance(value, Path) else [str(word) for word in value]


def parse_engine(name: str, workers: int | None) -> Engine:
    """Return the engine of a name.

    Args:
        name: serial, threads or ray.
        workers: tasks at once; None: as many as there are cores for this process, or in the cluster of ray.

    Raises:
        HybridsegError: no such engine or number.
    """
    if name not in get_args(EngineName):
        raise HybridsegError(f"there is no engine {name!r}; give one of {', '.join(get_args(EngineName))}")
    if workers is not None and (name == "serial" or workers < 1):
        raise HybridsegError(
            f"{workers} workers came with the engine {name}; give 1 or more with --engine threads or ray"
        )
    if name == "ray":
        return Ray(workers)
    return Serial() if name == "serial" else Threads(workers or _cores())


def _cores() -> int:
    """Cores that this process may use: on a shared node fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse_cache(folder: str | Path | None) -> Path | None:
    """Return the folder for embeddings that was given; None for none.

    Raises:
        OutputError: it cannot be a folder.
    """
    if folder is None:
        return None
    check_folder(folder)
    return Path(folder)


def check_crs(crs: str | None, out: str | Path | None) -> None:
    """Check that a result can be written in a CRS.

    Raises:
        OutputError: the CRS is unknown or no map's, or the output is a raster, which keeps the scene's grid.
    """
    if crs is None:
        return
    if out is not None and Path(out).suffix.lower() in SUFFIXES:
        raise OutputError(f"{out} is a class raster, which keeps the scene's grid; leave out --crs, or write vectors")
    try:
        found = CRS.from_user_input(crs)
    except CRSError as error:
        raise OutputError(f"the CRS {crs!r} is unknown; give an EPSG code, e.g. --crs EPSG:4326") from error
    if not (found.is_geographic or found.is_projected):
        raise OutputError(f"the CRS {crs!r} is a {found.type_name}, not one of a map; give e.g. --crs EPSG:4326")


def in_crs(layer: gpd.GeoDataFrame, crs: str | None) -> gpd.GeoDataFrame:
    """Return a layer in a CRS; None keeps its own.

    Raises:
        OutputError: the CRS does not reach there, or objects lie across the line at which its map is cut.
    """
    if crs is None:
        return layer
    moved = layer.to_crs(crs)
    if len(moved) and not all(map(isfinite, moved.total_bounds)):
        raise OutputError(f"the result cannot be given in {crs}, which does not reach there; choose another --crs")
    if CRS.from_user_input(crs).is_projected and len(moved):
        bounds = moved.bounds
        wide_m = (bounds["maxx"] - bounds["minx"]) * CRS.from_user_input(crs).axis_info[0].unit_conversion_factor
        if (wide_m > _HALF_WORLD_M).any():
            raise OutputError(
                f"{int((wide_m > _HALF_WORLD_M).sum())} objects cannot be given in {crs}, which is cut at the "
                "antimeridian where they lie; choose a --crs of that place, e.g. its UTM zone"
            )
    return moved


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
        numbers = f"{len(scenes)} scenes came with {len(layers)} labels"
        numbers += "" if within is None else f" and {len(areas)} areas"
        raise HybridsegError(f"{numbers}; give one for each scene, in order")
    return list(zip(scenes, layers, areas, strict=True))


def _several(paths: Paths) -> list[str]:
    return [str(paths)] if isinstance(paths, str | Path) else [str(path) for path in paths]


def _numbers(value: str | Sequence[float], name: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(v) for v in (value.split(",") if isinstance(value, str) else value))
    except (TypeError, ValueError):
        numbers = (nan,)
    if not all(isfinite(number) for number in numbers):
        raise HybridsegError(f"{name} is {value!r}; give numbers with commas between, e.g. 4,3,2")
    return numbers

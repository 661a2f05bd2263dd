"""Where values wait: in memory for one process, or in a folder for the next one.

A value is stored under a key that names its kind and all that it was made of, so a changed setting finds nothing stale.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import geopandas as gpd
from odc.geo.geobox import GeoBox

from hybridseg.cog import read_through
from hybridseg.files import replacing
from hybridseg.heatmap import Heatmap, HeatmapPart
from hybridseg.settings import Settings
from hybridseg.tables import Prompts, Refined


class Store(Protocol):
    """Remembers values by key."""

    @property
    def folder(self) -> Path:
        """For files that values consist of."""

    @property
    def keeps_parts(self) -> bool:
        """Whether results of single windows are to be saved, so that another process can go on from them."""

    def load(self, key: str) -> Any | None:
        """Return the value, or None where there is none."""

    def save(self, key: str, value: Any) -> None:
        """Remember a value."""


def key_of(kind: str, *made_of: object) -> str:
    """Return the key of a value: its kind, and the sha256 of the text of all that it was made of.

    Args:
        kind: one of `KINDS`.
        made_of: strings, numbers, None, tuples and sets of these, settings, grids, dataclasses such as windows.

    Raises:
        TypeError: something else, whose text may differ from process to process.
    """
    digest = hashlib.sha256()
    for part in made_of:
        digest.update(repr(_plain(part)).encode() + b"\0")
    return f"{kind}-{digest.hexdigest()}"


def _plain(part: object) -> object:
    """The part as values whose text is the same in every process."""
    match part:
        case None | bool() | str():
            return part
        case Integral():
            return int(part)
        case Real():
            return float(part)  # numpy's have another text
        case list() | tuple():
            return tuple(map(_plain, part))
        case set() | frozenset():
            return "set", *sorted(repr(_plain(value)) for value in part)
        case GeoBox():
            return tuple(part.shape), tuple(part.affine)[:6], str(part.crs)
        case Settings():
            return type(part).__name__, part.model_dump_json()
        case _ if is_dataclass(part) and not isinstance(part, type):
            return type(part).__name__, *(_plain(getattr(part, each.name)) for each in fields(part))
    raise TypeError(f"a {type(part).__name__} cannot be a part of a key")


class Memory:
    """Remembers whole values (heatmap, prompts, masks) as long as it lives; its folder goes with it."""

    keeps_parts = False

    def __init__(self, within: Path | None = None) -> None:
        """`within`: where its folder lies; default: where the system has temporary files."""
        self._values: dict[str, Any] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="hybridseg-", dir=within))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    @property
    def folder(self) -> Path:
        """A temporary folder."""
        return self._folder

    def load(self, key: str) -> Any | None:
        """Return the value, or None where there is none."""
        return self._values.get(key)

    def save(self, key: str, value: Any) -> None:
        """Remember a value."""
        self._values[key] = value


@dataclass(frozen=True)
class Folder:
    """Remembers values as files, for other processes and later ones; a file that cannot be read counts as missing."""

    folder: Path
    keeps_parts: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def load(self, key: str) -> Any | None:
        """Return the value, or None where there is none."""
        kind = KINDS[key.partition("-")[0]]
        path = self.folder / f"{key}{kind.suffix}"
        if not path.exists():
            return None
        try:
            return kind.read(path)
        except Exception:  # a damaged file makes zipfile, zlib, GDAL, pyarrow and pyproj raise errors of all kinds
            return None

    def save(self, key: str, value: Any) -> None:
        """Write a value; the file appears whole or not at all."""
        kind = KINDS[key.partition("-")[0]]
        kind.write(value, self.folder / f"{key}{kind.suffix}")


class Kind(NamedTuple):
    """How values of one kind become files."""

    suffix: str
    read: Callable[[Path], Any]
    write: Callable[[Any, Path], object]


def _write_rows(rows: gpd.GeoDataFrame, path: Path) -> None:
    with replacing(path) as beside:
        rows.to_parquet(beside)


def _read_heatmap(path: Path) -> Heatmap:
    read_through(path)  # half a GeoTIFF can be opened, too
    return Heatmap.open(path, fingerprint=path.stem)


KINDS = {
    "heatmap": Kind(".tif", _read_heatmap, Heatmap.write),
    "prompts": Kind(".parquet", lambda path: Prompts(gpd.read_parquet(path)), Prompts.write),
    "refined": Kind(".parquet", lambda path: Refined(gpd.read_parquet(path)), Refined.write),
    "part": Kind(".npz", HeatmapPart.read, HeatmapPart.write),
    "rows": Kind(".parquet", gpd.read_parquet, _write_rows),
}
"""By the first word of a key."""

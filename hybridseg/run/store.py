"""Where values wait: in memory for one process, or in a folder for the next one.

A value is stored under a key that names its kind and all that it was made of, so a changed setting finds nothing stale.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import geopandas as gpd
import shapely
from filelock import SoftFileLease, Timeout
from odc.geo.geobox import GeoBox

from hybridseg.cog import read_through
from hybridseg.files import replacing
from hybridseg.folders import TEMPORARY, TemporaryFolder, disk_time, remove_abandoned
from hybridseg.heatmap import Heatmap, HeatmapPart
from hybridseg.rowfile import RowFile, in_batches
from hybridseg.run.provenance import installed_version
from hybridseg.tables import Features, Prompts, Refined
from hybridseg.types import Failure, Settings

_VERSION = installed_version("hybridseg").encode()
LEASE_S = 60.0
"""A claim that was not renewed for so long is another process's to take; one of a process that ended here, at once."""
SIGNED_S = 5.0
"""Within so long a claim is signed by whoever made its file."""
_POLL_S = 0.2
"""Between two looks at what another process holds."""


class Store(Protocol):
    """Remembers values by key."""

    @property
    def folder(self) -> Path:
        """For files that values consist of."""

    @property
    def keeps_parts(self) -> bool:
        """Whether results of single windows are to be saved, so that another process can go on from them."""

    def has(self, key: str) -> bool:
        """Whether there is a value; that it can be read is not certain."""

    def load(self, key: str) -> Any | None:
        """Return the value, or None where there is none."""

    def save(self, key: str, value: Any) -> None:
        """Remember a value."""

    def for_people(self) -> AbstractContextManager[Path]:
        """Give the folder for files to look at; only where parts are kept."""

    def claim(self, key: str, wait: bool = False) -> AbstractContextManager[bool]:
        """Hold a key while the block runs, so that no other process makes its value; gives whether it is held.

        Args:
            key: of a value.
            wait: until whoever holds it lets go, instead of giving False at once.
        """


def key_of(kind: str, *made_of: object) -> str:
    """Return the key of a value: its kind, and the sha256 of the text of our version and all that it was made of.

    Args:
        kind: one of `KINDS`.
        made_of: strings, numbers, None, tuples and sets of these, settings, grids, tables (of which the values count,
            whatever holds them), other dataclasses such as windows.

    Raises:
        TypeError: something else, whose text may differ from process to process.
    """
    digest = hashlib.sha256(_VERSION)
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
        case Prompts() | Refined() | Features() | gpd.GeoDataFrame():
            return _values_hash(part)
        case _ if is_dataclass(part) and not isinstance(part, type):
            return type(part).__name__, *(_plain(getattr(part, each.name)) for each in fields(part))
    raise TypeError(f"a {type(part).__name__} cannot be a part of a key")


def _values_hash(table: Prompts | Refined | Features | gpd.GeoDataFrame) -> str:
    """The sha256 of all values of a table, some rows at a time: their text takes more room than they do."""
    rows = table if isinstance(table, gpd.GeoDataFrame) else table.held
    batches = rows.batches() if isinstance(rows, RowFile) else in_batches(rows)
    crs: Any = rows.crs
    digest = hashlib.sha256(repr((list(rows.columns), crs.to_epsg() or crs.to_wkt(), len(rows))).encode())
    for some in batches:
        for name in some if len(some) else ():
            column = some[name]
            if isinstance(column, gpd.GeoSeries):
                digest.update(b"\0".join(w or b"" for w in shapely.to_wkb(column.to_numpy())))
            else:
                digest.update(repr(column.tolist()).encode())
    return digest.hexdigest()


class Memory:
    """Remembers whole values (heatmap, prompts, masks) as long as it lives; its folder goes with it."""

    keeps_parts = False

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._folder = TemporaryFolder()

    def __reduce__(self) -> tuple[Any, ...]:
        return Memory, ()  # in another process it is empty

    @property
    def folder(self) -> Path:
        """A temporary folder."""
        return self._folder.path

    def has(self, key: str) -> bool:
        """Whether there is a value."""
        return key in self._values

    def load(self, key: str) -> Any | None:
        """Return the value, or None where there is none."""
        return self._values.get(key)

    def save(self, key: str, value: Any) -> None:
        """Remember a value."""
        self._values[key] = value

    def for_people(self) -> AbstractContextManager[Path]:
        """Give the temporary folder."""
        return nullcontext(self.folder)

    def claim(self, key: str, wait: bool = False) -> AbstractContextManager[bool]:
        """Give True: no other process sees this store."""
        return nullcontext(True)


@dataclass(frozen=True)
class Folder:
    """Remembers values as files, for other processes and later ones; a file that cannot be read counts as missing.

    Any number of processes may work in one folder, on one machine or on several that share a disk. Each claims what it
    makes by a file in `claims` that it renews (`filelock.SoftFileLease`). Should two ever make the same value, because
    one was silent for longer than `LEASE_S`, they write the same: the claim saves work, the key keeps the result right.
    """

    folder: Path
    keeps_parts: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.folder, TEMPORARY)  # of heatmaps; what is hidden goes when a file is written

    def has(self, key: str) -> bool:
        """Whether there is a file; that it can be read is not certain."""
        return self._path(key).is_file()

    def load(self, key: str) -> Any | None:
        """Return the value, or None where there is none."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            return kind_of(key).read(path)
        except Exception:  # a damaged file makes zipfile, zlib, GDAL, pyarrow and pyproj raise errors of all kinds
            return None

    def save(self, key: str, value: Any) -> None:
        """Write a value; the file appears whole or not at all."""
        kind_of(key).write(value, self._path(key))

    @contextmanager
    def claim(self, key: str, wait: bool = False) -> Iterator[bool]:
        """Hold a key while the block runs; see `Store.claim`."""
        path = self.folder / "claims" / key
        path.parent.mkdir(exist_ok=True)
        lease = SoftFileLease(path, lease_duration=LEASE_S, thread_local=False)
        while True:
            _remove_empty(path)
            try:
                lease.acquire(timeout=SIGNED_S if wait else 0, poll_interval=_POLL_S)
                break
            except Timeout:
                if not wait:
                    yield False
                    return
        try:
            yield True
        finally:
            lease.release()

    def forget_failures(self) -> None:
        """Forget which tasks failed, so that they are tried again."""
        for path in self.folder.glob("failed-*"):
            path.unlink(missing_ok=True)

    @contextmanager
    def for_people(self) -> Iterator[Path]:
        """The folder of the run, for files to look at."""
        yield self.folder.parent

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{kind_of(key).suffix}"


def _remove_empty(claim: Path) -> None:
    """Remove a claim whose process was killed between making the file and signing it, which takes milliseconds.

    `filelock` takes an empty file for the lock of some older release, and waits for its owner for ever.
    """
    with suppress(OSError):  # there is none, or another process was faster
        found = claim.stat()
        if not found.st_size and disk_time(claim.parent) - found.st_mtime > SIGNED_S:
            claim.unlink()


class Kind(NamedTuple):
    """How values of one kind become files.

    stays: a value that was read may consist of its file.
    """

    suffix: str
    read: Callable[[Path], Any]
    write: Callable[[Any, Path], object]
    stays: bool = False


def kind_of(key: str) -> Kind:
    """Return the kind that a key names."""
    return KINDS[key.partition("-")[0]]


def file_stamp(path: str | Path) -> tuple[str, int, int]:
    """Return what tells a file from one that was written in its place later: absolute path, size, time of change."""
    stat = os.stat(path) if os.path.exists(path) else None
    return os.path.abspath(path), *((stat.st_size, stat.st_mtime_ns) if stat else (0, 0))


def _write_json(value: Any, path: Path) -> None:
    with replacing(path) as beside:
        beside.write_text(json.dumps(value))


def _write_rows(rows: gpd.GeoDataFrame, path: Path) -> None:
    with replacing(path) as beside:
        rows.to_parquet(beside)


def _read_heatmap(path: Path) -> Heatmap:
    read_through(path)  # half a GeoTIFF can be opened, too
    return Heatmap.open(path, fingerprint=path.stem)


KINDS = {
    "heatmap": Kind(".tif", _read_heatmap, Heatmap.write, stays=True),
    "prompts": Kind(".parquet", Prompts.open, Prompts.write, stays=True),
    "refined": Kind(".parquet", Refined.open, Refined.write, stays=True),
    "part": Kind(".npz", HeatmapPart.read, HeatmapPart.write),
    "rows": Kind(".parquet", gpd.read_parquet, _write_rows),
    "failed": Kind(
        ".json",
        lambda path: Failure(**json.loads(path.read_text())),
        lambda failure, path: _write_json(asdict(failure), path),
    ),
    "written": Kind(".json", lambda path: tuple(json.loads(path.read_text())), _write_json),
}
"""By the first word of a key."""

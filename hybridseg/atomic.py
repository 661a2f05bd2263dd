"""Files appear whole or not at all: written beside their place under another name, then moved into it."""

from __future__ import annotations

import glob
import os
import secrets
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hybridseg.errors import OutputError

SIDECARS = ("-wal", "-shm", "-journal", ".aux.xml")
"""What SQLite and GDAL keep beside a file, as `<name><sidecar>`."""


def check_output(path: Path | str, suffixes: Collection[str], inputs: Iterable[Path | str] = ()) -> Path:
    """The path, once it is sure that a file can be written there: to be asked before hours of work.

    Args:
        path: the file to write.
        suffixes: those allowed.
        inputs: files to be read, which must not be written over.

    Raises:
        OutputError: unknown suffix, no such folder, a folder in the file's place, no permission, one of the inputs.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        given = f"'{path.suffix}'" if path.suffix else "no suffix"
        raise OutputError(f"{path} has {given}: choose one of {', '.join(sorted(suffixes))}")
    _check_place(path)
    if path.exists() and any(os.path.exists(source) and os.path.samefile(path, source) for source in inputs):
        raise OutputError(f"{path} is one of the inputs and would be lost: choose another name")
    return path


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A free name beside `path`, with its suffix (GDAL goes by it); what is left under that name is removed.

    Raises:
        OutputError: nothing can be written at `path`.
    """
    _check_place(path)
    beside = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield beside
    finally:
        for left in glob.glob(f"{glob.escape(str(beside))}*"):  # the name is random: all that begins with it is ours
            Path(left).unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to; takes the place of `path` when the block ends well, and is removed when it does not.

    Sidecars go along, and those of a former file are removed: SQLite would replay a stale journal into the new
    database, and QGIS would stretch by a former raster's statistics.

    Raises:
        OutputError: nothing can be written at `path`, the disk is full, or another program holds the file.
    """
    with scratch(path) as beside:
        try:
            yield beside
        except OSError as error:
            if error.errno is None:  # not the system's: rasterio's own, which may be of what was read
                raise
            raise OutputError(
                f"{path} cannot be written ({_reason(error)}): make room or choose another disk"
            ) from error
        try:
            for sidecar in SIDECARS:
                former, fresh = (file.with_name(file.name + sidecar) for file in (path, beside))
                if fresh.exists():
                    os.replace(fresh, former)
                else:
                    former.unlink(missing_ok=True)
            os.replace(beside, path)
        except OSError as error:
            raise OutputError(
                f"{path} cannot be replaced ({_reason(error)}): close it or choose another name"
            ) from error


def _check_place(path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {folder}, make it first")
    if path.is_dir():
        raise OutputError(f"{path} is a folder: give the name of a file")
    try:
        tempfile.TemporaryFile(dir=folder).close()  # permissions alone say nothing of /proc or a read-only disk
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({_reason(error)} in {folder}): choose another folder") from error


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()

"""Files appear whole or not at all: written in a folder beside their place, read back, then moved into it."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import rasterio
from rasterio.errors import RasterioError

from hybridseg.errors import HybridsegError, OutputError
from hybridseg.folders import held, remove_abandoned

SIDECARS = ("-wal", "-shm", "-journal", ".aux.xml", ".ovr", ".msk")
"""What SQLite and GDAL keep beside a file, as `<name><sidecar>`."""

_REMOTE = re.compile(
    r"(^|\+)(https?|ftp|s3|gs|az|abfss?|oss|swift|hdfs)://|^/vsi(curl|s3|gs|az|adls|oss|swift|\w*hdfs)"
)

_LITTLE_BYTES = 1 << 16
_HIDDEN = ".hybridseg-"
_NOISE = re.compile(r"sqlite3_\w+\(.*\) failed: |[^\s'\"]*\.hybridseg-\w+[/\\]", re.DOTALL)


def check_output(path: Path | str, suffixes: Collection[str], inputs: Iterable[object] = ()) -> Path:
    """Return the path, once it is certain that a file can be written there: to be asked before hours of work.

    Args:
        path: the file to write.
        suffixes: those allowed, in lower case.
        inputs: what is read, which must not be written over; see `check_not_input`.

    Raises:
        OutputError: unknown suffix, no such folder, a folder in the file's place, no permission, one of the inputs.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        given = f"'{path.suffix}'" if path.suffix else "no suffix"
        raise OutputError(f"{path} has {given}: choose one of {', '.join(sorted(suffixes))}")
    _check_place(path)
    check_not_input(path, inputs)
    return path


def check_folder(path: Path | str) -> None:
    """Check that files can be written into a folder, which need not be there yet: to be asked before hours of work.

    Raises:
        OutputError: a file stands in its place or above it, or there is no permission.
    """
    try:
        str(path).encode()
        real = _real(path)
        place = next(folder for folder in (real, *real.parents) if folder.exists())
    except (OSError, ValueError) as error:  # ValueError: a NUL, or no UTF-8
        raise OutputError(f"{_printable(path)} cannot be a folder's name ({_reason(error)}): choose another") from error
    if not place.is_dir():
        raise OutputError(f"{path} cannot be a folder: {place} is a file, choose another")
    _make_folder(place, path).rmdir()


def check_not_input(path: Path | str, inputs: Iterable[object]) -> None:
    """Refuse to write over what is read, whatever link, spelling or letter case leads to it.

    Names that differ in letter case only are one file on Windows, macOS and many network drives, so they are refused
    everywhere.

    Args:
        path: a file to write, or a folder whose files are all replaced. For a folder that gets a few files of known
            names beside others, call once for each of those files.
        inputs: names of files, folders (all files in them) and rasters as GDAL takes them (all files that it reads for
            them, such as the tiles of a VRT), and open rasters. Values of other types (arrays, None) and what is
            reached by the network are passed over.

    Raises:
        OutputError: the path is one of the inputs, or a folder that holds one.
    """
    path = Path(path)
    for file in (file for source in inputs for file in _files(source)):
        if _same(path, file):
            raise OutputError(f"{path} is one of the inputs and would be lost: choose another name")
        if path.is_dir() and any(_same(path, folder) for folder in _real(file).parents):
            raise OutputError(
                f"{path} holds {file.name}, one of the inputs, which would be lost: choose another folder"
            )


@contextmanager
def scratch(path: Path | str) -> Iterator[Path]:
    """A free place for a file of the same name in a `hidden_folder` beside it.

    Raises:
        OutputError: nothing can be written at `path`.
    """
    _check_place(Path(path))
    with hidden_folder(path) as folder:
        yield folder / Path(path).name  # not that of a link's file, whose suffix may be another: GDAL goes by it


@contextmanager
def hidden_folder(path: Path | str) -> Iterator[Path]:
    """A hidden folder beside `path` for its owner alone, removed in the end; what killed runs left there goes, too.

    Raises:
        OutputError: nothing can be written there.
    """
    real = _real(path)
    remove_abandoned(real.parent, _HIDDEN)
    folder = _make_folder(real.parent, path)
    with held(folder), ExitStack() as kept:
        kept.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


@contextmanager
def replacing(
    path: Path | str,
    verify: Callable[[Path], object] | None = None,
    errors: tuple[type[Exception], ...] = (),
) -> Iterator[Path]:
    """A name to write to; takes the place of `path` when the block ends well, and is removed when it does not.

    A file that was there keeps its permissions, and a symbolic link stays: the file that it names is replaced.
    Sidecars go along, and those of a former file are removed: SQLite would replay a stale journal into the new
    database, and GDAL would show a former raster's statistics and overviews.

    Args:
        path: the file to write.
        verify: reads the written file from the name given, whole, before it replaces anything; any error that it
            raises means that the file is damaged. Some drivers of GDAL lose errors while they close a file.
        errors: errors of the libraries that write in the block; they are reported as OutputError.

    Raises:
        OutputError: nothing can be written at `path`, the disk is full, the file cannot be read back, or another
            program holds it.
    """
    expected: tuple[type[Exception], ...] = (OSError, *errors)
    with scratch(path) as beside:
        try:
            yield beside
            _flush(beside)
        except expected as error:
            if not isinstance(error, errors) and getattr(error, "errno", None) is None:
                raise  # not the system's: rasterio's own, which may be of what was read
            reason = "the disk is full" if _is_full(beside.parent) else _reason(error)
            raise OutputError(f"{path} cannot be written ({reason}): make room or choose another disk") from error
        if verify is not None:
            _read_back(beside, path, verify)
        try:
            take_place(beside, _real(path))
            if os.path.islink(path):
                _copy_sidecars(_real(path), Path(path))
        except OSError as error:
            raise OutputError(
                f"{path} cannot be replaced ({_reason(error)}): close it or choose another name"
            ) from error


def take_place(beside: Path, place: Path) -> None:
    """Move a file and its sidecars to their place; they get the permissions of a file that is there.

    The former sidecars are put aside first and the new ones follow last, so that no file ever stands beside the
    sidecar of another.

    Raises:
        OSError: the file cannot be moved; what was there is there still.
    """
    fresh = [sidecar for sidecar in SIDECARS if _beside(beside, sidecar).exists()]
    with suppress(FileNotFoundError):
        mode = stat.S_IMODE(place.stat().st_mode)
        for file in (beside, *(_beside(beside, sidecar) for sidecar in fresh)):
            file.chmod(mode)
    aside = []
    try:
        for sidecar in SIDECARS:
            former, kept = _beside(place, sidecar), beside.with_name(f"former{sidecar}")
            if former.exists():
                os.replace(former, kept)
                aside.append((former, kept))
        os.replace(beside, place)
    except OSError:
        for former, kept in aside:
            os.replace(kept, former)
        raise
    for sidecar in fresh:
        os.replace(_beside(beside, sidecar), _beside(place, sidecar))


def _check_place(path: Path) -> None:
    try:
        str(path).encode()
        real = _real(path)
        if real.is_dir():
            raise OutputError(f"{path} is a folder: give the name of a file")
        if real.exists() and not os.access(real, os.W_OK):
            raise OutputError(f"{path} is write-protected: choose another name")
    except UnicodeEncodeError as error:
        raise OutputError(f"{_printable(path)} is not a name in UTF-8: choose another") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL
        raise OutputError(f"{_printable(path)} cannot be a file's name ({_reason(error)}): choose another") from error
    if not real.parent.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {real.parent}, make it first")
    _make_folder(real.parent, path).rmdir()  # permissions alone say nothing of /proc or a read-only disk


def _make_folder(parent: Path, path: Path | str) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=_HIDDEN, dir=parent))
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({_reason(error)} in {parent}): choose another folder") from error


def _real(path: Path | str) -> Path:
    """The absolute path without links."""
    return Path(os.path.realpath(path))


def _same(path: Path, other: Path) -> bool:
    with suppress(OSError, ValueError):  # one of them does not exist
        if os.path.samefile(path, other):
            return True
    return str(_real(path)).casefold() == str(_real(other)).casefold()


def _files(source: object) -> Iterator[Path]:
    """Local files that are read with an input."""
    if isinstance(opened := getattr(source, "files", None), list | tuple):
        yield from map(Path, opened)
    if not isinstance(source, str | os.PathLike) or source == "" or _REMOTE.search(os.fspath(source)):
        return
    path = Path(source)
    with suppress(OSError, ValueError):
        if path.is_dir():
            yield from (file for file in path.rglob("*") if file.is_file())
            return
        if path.exists():
            yield path
    with suppress(RasterioError, ValueError), warnings.catch_warnings(action="ignore"), rasterio.open(source) as raster:
        yield from map(Path, raster.files)


def _flush(path: Path) -> None:
    """Wait until the file is on the disk: some file systems find out only then that there is no room."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _is_full(folder: Path) -> bool:
    """Whether a disk is full: what GDAL says then is hard to understand."""
    with suppress(OSError):
        return shutil.disk_usage(folder).free < _LITTLE_BYTES
    return False


def _read_back(beside: Path, path: Path | str, verify: Callable[[Path], object]) -> None:
    try:
        verify(beside)
    except HybridsegError:
        raise
    except Exception as error:
        raise OutputError(
            f"{path} was damaged while it was written ({_reason(error)}), and nothing is replaced: "
            "make room or choose another disk"
        ) from error


def _copy_sidecars(place: Path, link: Path) -> None:
    """Give a link the sidecars of its file: GDAL looks for them beside the name that it is given."""
    for sidecar in SIDECARS:
        file, copy = _beside(place, sidecar), _beside(link, sidecar)
        if not file.exists():
            copy.unlink(missing_ok=True)
        elif not copy.is_symlink():
            shutil.copyfile(file, copy)


def _beside(path: Path, sidecar: str) -> Path:
    return path.with_name(path.name + sidecar)


def _reason(error: BaseException) -> str:
    """What went wrong, in one short line: the first cause knows it best. No SQL, and no folder of `scratch`."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    text = " ".join(_NOISE.sub("", _printable(text)).split())[:200].rstrip(" .:;")
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _printable(text: object) -> str:
    return str(text).encode(errors="backslashreplace").decode().replace("\0", "\\0")

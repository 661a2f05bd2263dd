"""Which raster files a user means by a folder, a pattern, an archive, a list of files, or several of these."""

from __future__ import annotations

import glob
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from hybridseg.errors import SourceError
from hybridseg.read.items import items_of
from hybridseg.read.paths import display_name, is_virtual, problem

Rasters: TypeAlias = str | Path | Sequence[str | Path]
"""A raster, or what holds several (see `raster_files`)."""

SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2", ".img", ".png", ".jpg", ".jpeg", ".webp", ".ecw", ".asc")
"""Of rasters in folders and archives; a folder may hold other files besides."""
_LIST = ".txt"
_ARCHIVE = re.compile(r"(?:/vsizip/|zip://)?(?P<path>.+\.zip)/?", re.I)
_SHOWN = 3


def raster_files(source: Rasters) -> list[str]:
    """Return the rasters that a source means, those of a folder, pattern or archive in the order of their names.

    Args:
        source: a raster's path or URL, which is returned as it is; a folder (the rasters in it, not those in folders
            below); a STAC Item or ItemCollection (.json, also a URL), or the address of a search, see `items`; a
            pattern such as `tiles/*.tif` or `tiles/**/*.tif`; a .zip, also as zip:// or /vsizip/ without the name of a
            member; a .txt with one of these a line, relative to its folder; or a sequence of these.

    Raises:
        SourceError: there is none in it.
    """
    if not isinstance(source, str | Path):
        if not len(source):
            raise SourceError("an empty list of rasters was given; give the paths of one or more")
        wrong = [one for one in source if not isinstance(one, str | Path)]
        if wrong:
            raise SourceError(f"a list of tiles holds a {type(wrong[0]).__name__}; give their paths")
        return [file for one in source for file in raster_files(one)]
    text = str(source)
    if (archive := _ARCHIVE.fullmatch(text)) and Path(archive["path"]).is_file():
        return _found(_members(archive["path"]), source)
    if (items := items_of(text)) is not None:
        return [item.raster for item in items]
    if is_virtual(text):
        return [text]
    if problem(text) is None:
        path = Path(text)
        if path.suffix.lower() == _LIST and path.is_file():
            return _listed(path)
        return _found([str(file) for file in sorted(path.iterdir())], source) if path.is_dir() else [text]
    if glob.has_magic(text) and "\0" not in text:
        return _found(sorted(glob.glob(text, recursive=True)), source)
    return [text]


def name_of(source: Rasters, files: Sequence[str]) -> str:
    """Return what messages and provenance call a source of these files."""
    if isinstance(source, str | Path):
        return display_name(source)
    more = len(files) - 1
    return display_name(files[0]) + (f" and {more} more" if more else "")


def _members(archive: str) -> list[str]:
    try:
        with zipfile.ZipFile(archive) as opened:
            names = sorted(opened.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise SourceError(f"{display_name(archive)} is not an archive that can be opened ({error})") from error
    return [f"/vsizip/{archive}/{name}" for name in names if not name.startswith("__MACOSX/")]


def _listed(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{display_name(path)} is not a list of paths, one a line ({error})") from error
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise SourceError(f"{display_name(path)} lists no raster; write one path a line")
    return raster_files([line if is_virtual(line) else str(path.parent / line) for line in lines])


def _found(candidates: Sequence[str], source: Rasters) -> list[str]:
    """The rasters among files, or an error that says what is there instead."""
    found = [file for file in candidates if file.lower().endswith(SUFFIXES)]
    if found:
        return found
    others = [Path(file).name for file in candidates if not file.endswith("/")]
    there = (
        f"it holds {', '.join(others[:_SHOWN])}{', ...' if len(others) > _SHOWN else ''}" if others else "it is empty"
    )
    raise SourceError(
        f"{display_name(str(source))} holds no raster ({display_name(there)}); give a folder, a pattern or an archive "
        f"with files that end in {', '.join(SUFFIXES[:4])} or similar"
    )

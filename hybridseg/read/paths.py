"""What a user gives as a path: whether it can be opened, and how messages and provenance write it."""

from __future__ import annotations

import re
from pathlib import Path

_URL = re.compile(r"(\w+://)(?:[^/\s@]*@)?([^\s?#]*)(?:\?([^\s#]*))?(?:#\S*)?")
"""Scheme, place and query of a URL."""
SEARCHED = {"bbox", "collections", "datetime", "filter", "filter-lang", "ids", "intersects", "query", "sortby"}
"""Parameters by which a STAC API is searched; any other may be a key, a signature or a token."""
_VRT = "<VRTDataset"
_FIRST_SOURCE = re.compile(_VRT + r".*?<SourceFilename[^>]*>([^<]*)", re.S)
_LONGEST = 200
"""Characters of a name that a message shows."""


def without_secrets(text: str) -> str:
    """Return the text with user, password and query cut from its URLs.

    Example:
        >>> without_secrets("https://me:pw@host/a.tif?sig=123")
        'https://host/a.tif'
    """
    return _URL.sub(r"\1\2", text)


def as_published(text: str) -> str:
    """Return the text with user, password and query cut from its URLs, but for what a search asks for.

    Example:
        >>> as_published("https://me:pw@host/search?collections=naip&token=123")
        'https://host/search?collections=naip'
    """

    def public(url: re.Match[str]) -> str:
        asked = [one for one in re.split("[&;]", url[3] or "") if one.partition("=")[0] in SEARCHED]
        return url[1] + url[2] + ("?" + "&".join(asked) if asked else "")

    return _URL.sub(public, text)


def display_name(path: str | Path) -> str:
    """Return a path as messages show it: one line of text that can be printed, without secrets.

    Characters that are not printable (bytes that are not UTF-8, line ends, NUL) are escaped; the middle of a very long
    name is left out.
    """
    text = _printable(without_secrets(_told(path)))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}"


def full_name(path: str | Path) -> str:
    """Return a path as provenance keeps it: as `display_name` does, but whole, and with what a search asks for."""
    return _printable(as_published(_told(path)))


def _told(path: str | Path) -> str:
    """The path, or that of the first source of a VRT that comes as text."""
    return f"bands from {found[1]}" if (found := _FIRST_SOURCE.match(str(path))) else str(path)


def _printable(text: str) -> str:
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if text.strip() else repr(text)


def is_virtual(path: str | Path) -> bool:
    """Return whether a path is a URL, a VRT as text, or a virtual path of GDAL: only opening tells if it exists."""
    return "://" in str(path) or str(path).startswith(("/vsi", _VRT))


def is_remote(path: str | Path) -> bool:
    """Return whether reading a path uses a network."""
    return bool(re.match(r"(?:\w+\+)?(?:https?|ftp|s3|gs|gcs|az|azure|adls|oss|swift)://", str(path), re.I)) or bool(
        re.match(r"/vsi(?:zip|tar|gzip)?/?.*vsi(?:curl|s3|gs|az|adls|oss|swift|webhdfs)", str(path))
        or re.match(r"/vsi(?:curl|s3|gs|az|adls|oss|swift|webhdfs)", str(path))
    )


def problem(path: str | Path) -> str | None:
    """Return why nothing can be read from a path, as the end of a sentence that begins with it; None when it may be.

    A folder counts as readable, as some are (a FileGDB).
    """
    try:
        if not str(path).strip() or str(path) == ".":
            return "is no path of a file"
        if "\0" in str(path):
            return "holds a NUL character, which no path may"
        if is_virtual(path):
            return None
        str(path).encode()
        return None if Path(path).exists() else "does not exist"
    except UnicodeEncodeError:
        return "is not UTF-8, so GDAL cannot open it; rename it"
    except OSError as error:
        return f"cannot be opened: {error.strerror}"

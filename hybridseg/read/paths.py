"""What a user gives as a path: whether it can be opened, and how messages and provenance write it."""

from __future__ import annotations

import re
from pathlib import Path

_SECRETS = re.compile(r"(\w+://)(?:[^/\s@]*@)?([^\s?#]*)(?:[?#]\S*)?")
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
    return _SECRETS.sub(r"\1\2", text)


def display_name(path: str | Path) -> str:
    """Return a path as messages show it: one line of text that can be printed, without secrets.

    Characters that are not printable (bytes that are not UTF-8, line ends, NUL) are escaped; the middle of a very long
    name is left out.
    """
    path = f"bands from {found[1]}" if (found := _FIRST_SOURCE.match(str(path))) else path
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in without_secrets(str(path)))
    if not text.strip():
        return repr(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}"


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

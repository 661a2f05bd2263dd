"""Temporary folders that go with their process, even where it was killed: the next one removes what nobody holds."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SETTLED_S = 60.0
"""Age of a temporary folder at which whoever made it has surely marked it as held."""
LOOK_AGAIN_S = 60.0
"""How often a process looks at one place: a run leaves thousands of files in one folder."""
_LOOKED = dict[tuple[Path, str], float]()
"""When this process looked at a place."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Mark a temporary folder as in use by this process; the system takes the mark away when the process ends.

    The mark is an advisory lock (flock), which Windows and some network drives do not have: there nothing is marked.
    """
    with _lock(folder):
        yield


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove temporary folders whose processes were killed: those that nobody holds (see `held`).

    A process looks at a place once in `LOOK_AGAIN_S`. Where there are no locks, and within a minute of a folder's
    making, nothing is removed.

    Args:
        parent: where the folders lie.
        prefix: what their names begin with.
    """
    now = time.monotonic()
    if now - _LOOKED.get((parent, prefix), -LOOK_AGAIN_S) < LOOK_AGAIN_S:
        return
    _LOOKED[parent, prefix] = now
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):
            if folder.is_symlink() or time.time() - folder.stat().st_mtime < SETTLED_S:
                continue
            with _lock(folder) as free:
                if free:
                    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Lock a folder while the block runs; False where another holds it, or where there are no locks."""
    if fcntl is None:
        yield False
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except OSError:
            free = False
        yield free
    finally:
        os.close(number)

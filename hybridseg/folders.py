"""Temporary folders that go with their process, even where it was killed: the next one removes what nobody holds."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Thread

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

BEAT_S = 30.0
"""How often a process renews the time of change of a folder that it holds."""
SILENT_S = 300.0
"""A folder that was not renewed for so long is nobody's, wherever its process ran."""
LOOK_AGAIN_S = 60.0
"""How often a process looks at one place: a run leaves thousands of files in one folder."""
_HELD = set[Path]()
"""Folders that this process holds."""
_LOOKED = dict[tuple[Path, str], float]()
"""When this process looked at a place."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Mark a temporary folder as in use by this process while the block runs.

    There are two marks, both of which go with the process. Its time of change is renewed every `BEAT_S`, which all
    machines see that share the disk. An advisory lock (flock), which Windows and some network drives do not have, and
    others keep to one machine, holds for a process that stands still, too.
    """
    _start_renewing(os.getpid())
    _HELD.add(folder)
    try:
        with _lock(folder):
            yield
    finally:
        # nothing here may wait: a folder may be let go while garbage is collected, in any thread, whatever that holds
        _HELD.discard(folder)


@cache
def _start_renewing(_: int) -> None:
    """Start the thread that renews what a process holds, once in each process: a fork leaves threads behind."""

    def renew() -> None:
        while True:
            time.sleep(BEAT_S)
            for folder in list(_HELD):
                with suppress(OSError):  # removed, or the disk does not answer now
                    os.utime(folder)

    Thread(target=renew, name="hybridseg renews its folders", daemon=True).start()


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove temporary folders whose processes were killed: those that nobody holds (see `held`).

    A process looks at a place once in `LOOK_AGAIN_S`. Where nothing can be written, nothing is removed.

    Args:
        parent: where the folders lie.
        prefix: what their names begin with.
    """
    now = time.monotonic()
    if now - _LOOKED.get((parent, prefix), -LOOK_AGAIN_S) < LOOK_AGAIN_S:
        return
    _LOOKED[parent, prefix] = now
    found = [folder for folder in parent.glob(f"{prefix}*") if folder.is_dir() and not folder.is_symlink()]
    with suppress(OSError):
        latest = disk_time(parent) - SILENT_S if found else 0.0
        for folder in found:
            with suppress(OSError):  # another process removed it just now
                if folder.stat().st_mtime > latest:
                    continue
                with _lock(folder) as free:
                    if free:
                        shutil.rmtree(folder, ignore_errors=True)


def disk_time(parent: Path) -> float:
    """Return the time by the clock that dates files in a folder, which may be that of a server."""
    with tempfile.TemporaryFile(dir=parent) as file:
        return os.fstat(file.fileno()).st_mtime


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Lock a folder while the block runs; False where another process on this machine holds it."""
    if fcntl is None:
        yield True
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        yield _try_lock(number)
    finally:
        os.close(number)


def _try_lock(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # there are no locks on this disk
        return True
    return True

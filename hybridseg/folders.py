"""Folders: the embedded models and configs, caches with a limit, and temporary ones that go with their process."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Thread

from hybridseg.errors import OutputError

_PACKAGE = Path(__file__).parent


def _folder(name: str) -> Path:
    packed = _PACKAGE / "_data" / name
    return packed if packed.is_dir() else _PACKAGE.parent / name


def models_folders() -> list[Path]:
    """Folders searched for models by name: $HYBRIDSEG_MODELS first, then the embedded ones."""
    own = os.environ.get("HYBRIDSEG_MODELS")
    return [*([Path(own)] if own else []), _folder("models")]


def configs_folder() -> Path:
    """Folder of the embedded themes and recipes."""
    return _folder("configs")


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


TEMPORARY = "hybridseg-run-"
"""What the names of temporary folders begin with."""


class TemporaryFolder:
    """A folder that goes with this value.

    That of a process that was killed is removed when the next one is made in its place.

    path: of the folder.
    """

    def __init__(self, within: Path | None = None) -> None:
        """`within`: where it lies; default: where the system has temporary files.

        Raises:
            OutputError: nothing can be written there.
        """
        try:
            place = Path(tempfile.gettempdir() if within is None else within)
            remove_abandoned(place, TEMPORARY)
            self.path = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=place))
        except OSError as error:  # gettempdir tries to write, too
            raise OutputError(
                f"temporary files cannot be written ({error.strerror or error}): make room there or name one with "
                "room by TMPDIR"
            ) from error
        kept = ExitStack()
        kept.callback(shutil.rmtree, self.path, ignore_errors=True)
        kept.enter_context(held(self.path))
        weakref.finalize(self, kept.close)


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


MOST_BYTES = 4 << 30
"""Default limit of a folder."""


class CacheFolder:
    """Bytes as files, by key; what was used least recently is removed first.

    Several processes may share a folder: a file appears whole or not at all. One that cannot be read is a miss, one
    that cannot be written is not kept.

    folder: for these files alone; made when the first is written.
    suffix: of the files.
    most_bytes: of all files together.
    """

    def __init__(self, folder: Path, suffix: str, most_bytes: int = MOST_BYTES) -> None:
        self.folder, self.suffix, self.most_bytes = folder, suffix, most_bytes
        self._unchecked = most_bytes  # bytes written since the folder was last measured: at first that is unknown

    def load(self, key: str) -> bytes | None:
        """Return what is kept under a key; None where there is nothing, or the file cannot be read."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        with suppress(OSError):
            os.utime(path)  # used just now
        return content

    def save(self, key: str, content: bytes) -> None:
        """Keep something; nothing happens where that fails."""
        path = self._path(key)
        beside = path.with_name(f".{key}.{secrets.token_hex(4)}{self.suffix}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(content)
            os.replace(beside, path)
        except OSError:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            return
        self._unchecked += len(content)
        if self._unchecked > self.most_bytes // 16:
            self._unchecked = 0
            self._prune()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{self.suffix}"

    def _prune(self) -> None:
        """Remove the files used least recently, down to 15/16 of the limit, so that it holds until the next look."""
        with suppress(OSError):
            files = []
            for entry in self.folder.glob(f"*{self.suffix}"):  # those being written, too: a killed process leaves them
                with suppress(FileNotFoundError):  # another process removed it just now
                    files.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry))
            excess = sum(size for _, size, _ in files) - self.most_bytes * 15 // 16
            for _, size, path in sorted(files):
                if excess <= 0:
                    break
                path.unlink(missing_ok=True)
                excess -= size

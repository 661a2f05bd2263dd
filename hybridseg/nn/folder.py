"""Folders of files under keys, with a limit: what costs time to make again, and nothing else, when it is gone."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

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

"""A store in a bucket on s3 or what speaks like it: any number of machines share a run without a disk in common."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread
from typing import Any

from hybridseg.errors import HybridsegError, OutputError
from hybridseg.folders import TemporaryFolder
from hybridseg.run.store import LEASE_S, kind_of

SCHEME = "s3://"
_POLL_S = 1.0
"""Between two looks at what another process holds."""
_LEFT = "the bucket must exist, and AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL must fit it"


class Bucket:
    """Remembers values as objects of a bucket, for other processes and later ones; see `run.store.Folder`.

    A claim is an object that is made only where there is none (`If-None-Match: *`). Whoever holds it writes it anew
    every quarter of `LEASE_S`; one that was not written for `LEASE_S`, by the clock of who waits, is taken over where
    it is still the same (`If-Match`). So neither clocks nor a coordinator are shared.
    """

    keeps_parts = True

    def __init__(self, url: str) -> None:
        """`url`: s3://BUCKET/RUN. Keys and the address come from `AWS_*` variables.

        Raises:
            HybridsegError: obstore is not installed.
            OutputError: there is no such bucket, or it cannot be read.
        """
        if find_spec("obstore") is None:
            raise HybridsegError(f"a run in {url} needs obstore; install hybridseg[cloud], or give a folder")
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        self.url = url.rstrip("/")
        bucket, _, self._prefix = self.url.removeprefix(SCHEME).partition("/")
        if not bucket or not self._prefix:
            raise OutputError(f"{url} names no place in a bucket; give s3://BUCKET/RUN")
        plain = os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", "")).startswith("http://")
        options: Any = {"client_options": {"allow_http": True}} if plain else {}
        try:
            self._objects = S3Store(bucket, **options)
            listed = [each["path"] for some in self._objects.list(f"{self._prefix}/parts") for each in some]
        except BaseError as error:
            raise OutputError(f"{url} cannot be used ({_reason(error)}): {_LEFT}") from error
        self._local, self._known = TemporaryFolder(), set(listed)
        self._seen = dict[str, tuple[str, float]]()

    def __reduce__(self) -> tuple[Any, ...]:
        return Bucket, (self.url,)

    @property
    def folder(self) -> Path:
        """A temporary folder of this process."""
        return self._local.path

    def has(self, key: str) -> bool:
        """Whether there is an object; that it can be read is not certain."""
        name = self._name(key)
        if name not in self._known and self._mark_of(name) is not None:
            self._known.add(name)
        return name in self._known

    def load(self, key: str) -> Any | None:
        """Return the value, or None where there is none."""
        path = self.folder / self._name(key).rpartition("/")[2]
        if not path.exists():
            beside = path.with_name(f"{secrets.token_hex(4)}-{path.name}")
            try:
                with beside.open("wb") as file:
                    for chunk in self._objects.get(self._name(key)):
                        file.write(chunk)
            except FileNotFoundError:
                beside.unlink()
                return None
            beside.replace(path)
        try:
            value = kind_of(key).read(path)
        except Exception:  # a damaged file makes zipfile, zlib, GDAL, pyarrow and pyproj raise errors of all kinds
            value = None
        self._let_go(key, path)
        return value

    def save(self, key: str, value: Any) -> None:
        """Write a value; the object appears whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        path = self.folder / self._name(key).rpartition("/")[2]
        kind_of(key).write(value, path)
        self._put(self._name(key), path)
        self._let_go(key, path)

    @contextmanager
    def claim(self, key: str, wait: bool = False) -> Iterator[bool]:
        """Hold a key while the block runs; see `Store.claim`."""
        name = f"{self._prefix}/parts/claims/{key}"
        while (mark := self._acquire(name)) is None and wait:
            time.sleep(_POLL_S)
        if mark is None:
            yield False
            return
        done, marks = Event(), [mark]
        renewing = Thread(target=self._renew, args=(name, marks, done), daemon=True)
        renewing.start()
        try:
            yield True
        finally:
            done.set()
            renewing.join()
            if self._mark_of(name) == marks[-1]:  # nobody took it over
                self._objects.delete(name)

    def forget_failures(self) -> None:
        """Forget which tasks failed, so that they are tried again."""
        for some in self._objects.list(f"{self._prefix}/parts"):
            for each in some:
                if each["path"].rpartition("/")[2].startswith("failed-"):
                    self._objects.delete(each["path"])

    @contextmanager
    def for_people(self) -> Iterator[Path]:
        """A folder for files to look at; what lies in it at the end is put into the run."""
        folder = TemporaryFolder()
        yield folder.path
        for path in folder.path.iterdir():
            self._put(f"{self._prefix}/{path.name}", path)

    def _acquire(self, name: str) -> str | None:
        """Make a claim and return its mark; None where somebody else's holds."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            return str(self._objects.put(name, _signed(), mode="create")["e_tag"])
        except (AlreadyExistsError, PreconditionError):
            pass
        try:
            found = self._objects.get(name)
            mark, body = str(found.meta["e_tag"]), bytes(found.bytes())
        except FileNotFoundError:
            return None  # let go just now
        first = self._seen.setdefault(name, (mark, time.monotonic()))
        if first[0] != mark:
            first = self._seen[name] = (mark, time.monotonic())
        if time.monotonic() - first[1] < LEASE_S and not _is_gone(body):
            return None
        with suppress(AlreadyExistsError, PreconditionError, FileNotFoundError):  # another process was faster
            return str(self._objects.put(name, _signed(), mode={"e_tag": mark})["e_tag"])
        return None

    def _mark_of(self, name: str) -> str | None:
        """The ETag of an object; None where there is none."""
        with suppress(FileNotFoundError):
            return str(self._objects.head(name)["e_tag"])
        return None

    def _renew(self, name: str, marks: list[str], done: Event) -> None:
        """Write a claim anew until the work is done, or somebody took it over; `marks` gets the ETag of each time."""
        from obstore.exceptions import BaseError, PreconditionError

        while not done.wait(LEASE_S / 4):
            try:
                last = self._objects.put(name, _signed(), mode={"e_tag": marks[-1]})
                marks.append(str(last["e_tag"]))
            except (PreconditionError, FileNotFoundError):
                return
            except BaseError:  # the bucket does not answer now
                continue

    def _put(self, name: str, path: Path) -> None:
        from obstore.exceptions import BaseError

        try:
            self._objects.put(name, path)
        except BaseError as error:
            raise OutputError(f"{self.url} cannot be written ({_reason(error)}): {_LEFT}") from error

    def _let_go(self, key: str, path: Path) -> None:
        """Remove the local copy of a value that does not consist of it."""
        if not kind_of(key).stays:
            path.unlink(missing_ok=True)

    def _name(self, key: str) -> str:
        return f"{self._prefix}/parts/{key}{kind_of(key).suffix}"


def _signed() -> bytes:
    """What a claim says: who holds it, and a number that no other has."""
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "mark": secrets.token_hex(8)}).encode()


def _is_gone(claim: bytes) -> bool:
    """Whether the process that made a claim ran on this machine, and ended."""
    signed = json.loads(claim)
    if signed["host"] != socket.gethostname() or not hasattr(os, "kill") or os.name == "nt":
        return False
    try:
        os.kill(signed["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _reason(error: BaseException) -> str:
    """The first line of what obstore says, which writes its whole state behind it."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:300]

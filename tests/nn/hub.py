"""A loopback stand-in for the Hugging Face hub: as much of its protocol as `hf_hub_download` needs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "c0ffee" + "0" * 34
"""The only revision that there is."""


@dataclass
class Hub:
    """What is served, and what was asked for.

    files: repository and name, as in "facebook/sam2-hiera-tiny/sam2_hiera_tiny.pt", to the file on disk.
    breaks: so many of the next GETs are broken off, `sent` of the body before.
    """

    files: Mapping[str, Path]
    breaks: int = 0
    sent: float = 0.5
    url: str = ""
    requests: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.0: the connection closes after each answer, so nothing stays open when a test ends."""

    def __init__(self, hub: Hub, *of_server: object) -> None:
        self.hub = hub
        super().__init__(*of_server)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        owner, repo, *rest = self.path.strip("/").split("/")
        known = {name.rsplit("/", 1)[0] for name in self.hub.files}
        path = self.hub.files.get(f"{owner}/{repo}/{rest[-1]}") if rest[:1] == ["resolve"] else None
        asked = self.headers.get("Range")
        self.hub.requests.append(f"{self.command} {self.path}" + (f" {asked}" if asked else ""))
        if path is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if f"{owner}/{repo}" in known else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        size = path.stat().st_size
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(self.path.encode()).hexdigest()}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(size - first))
        self.end_headers()
        if body:
            self._send(path, first, size - first)

    def _send(self, path: Path, first: int, length: int) -> None:
        if self.hub.breaks:
            self.hub.breaks -= 1
            length = int(length * self.hub.sent)
        with path.open("rb") as file:
            file.seek(first)
            while length > 0:
                block = file.read(min(length, 1 << 20))
                self.wfile.write(block)
                length -= len(block)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def serve(files: Mapping[str, Path]) -> Iterator[Hub]:
    """Serve files on 127.0.0.1 until the block ends."""
    hub = Hub(files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""A server of one file that fails as it is told: python -m tests.read.http_server FOLDER.

A process of its own, as rasterio holds the interpreter's lock in some of its requests. FOLDER/state.json says what it
does: `file` to serve under any address that ends in scene.tif, its `etag`, and how the server `fails` ("503", "stall",
"close", "" for not at all). Other addresses are those of files in FOLDER/files. It prints its port.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

STALL_S = 60


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve the files of a folder, and yield the address. The caller sees to it that no proxy is asked."""
    (folder / "files").symlink_to(folder)
    (folder / "state.json").write_text(json.dumps({"file": "", "etag": "", "fails": ""}))
    command = [sys.executable, "-m", "tests.read.http_server", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


class Handler(BaseHTTPRequestHandler):
    """Gives parts of the file."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        state = json.loads(Path(sys.argv[1], "state.json").read_text())
        asked = self.path.split("?")[0]
        file = Path(state["file"]) if asked.endswith("scene.tif") else Path(sys.argv[1], "files", asked[1:])
        if not file.is_file():
            self.answer(404)
        elif state["fails"] == "stall":
            time.sleep(STALL_S)
        elif state["fails"] == "close":
            self.close_connection = True
        elif state["fails"]:
            self.answer(int(state["fails"]))
        else:
            data = file.read_bytes()
            span = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            first, last = (int(part or 10**12) for part in span.groups()) if span else (0, 10**12)
            part = data[first : last + 1]
            headers = {"Accept-Ranges": "bytes"} | ({"ETag": state["etag"]} if state["etag"] else {})
            if span:
                headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
            self.answer(206 if span else 200, part, headers)

    def answer(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: Any) -> None:  # the client has gone
        pass


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()

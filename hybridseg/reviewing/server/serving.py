"""How long the server lives: until it is stopped, idle for long, or its parent is gone."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import uvicorn

from hybridseg.errors import OutputError
from hybridseg.reviewing.desk import Desk
from hybridseg.reviewing.server.api import make_app
from hybridseg.reviewing.server.guard import Guard, Receive, Scope, Send
from hybridseg.reviewing.server.messages import PROTOCOL

_LOOK_S = 1.0
_BUSY = 32
"""Requests answered at once; beyond, 503."""


@dataclass(frozen=True)
class Address:
    """Where a server is. url: without the token; page: whether there is one to open."""

    url: str
    token: str
    page: bool

    @property
    def link(self) -> str:
        """What to open in a browser: the token stands behind #, which browsers do not send."""
        return f"{self.url}/#{self.token}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as for JSON."""
        return {"url": self.url, "token": self.token, "protocol": PROTOCOL, "page": self.page}


class Serving:
    """A server on a socket of its own.

    desk: what it is about.
    page: whether the page is served, too.
    host, port: to listen on; 0: any free port.
    remote: whether other machines may ask.
    """

    def __init__(self, desk: Desk, page: bool, host: str = "127.0.0.1", port: int = 0, remote: bool = False) -> None:
        self._socket = _listen(host, port)
        port = self._socket.getsockname()[1]
        token = secrets.token_urlsafe(24)
        self._asked = time.monotonic()
        guard = Guard(make_app(desk, page), token, port, remote)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            self._asked = time.monotonic()
            await guard(scope, receive, send)

        shown = host if host not in ("0.0.0.0", "::") else socket.gethostname()
        self.address = Address(f"http://{f'[{shown}]' if ':' in shown else shown}:{port}", token, page)
        config = uvicorn.Config(
            app, log_config=None, log_level="error", access_log=False, lifespan="off", ws="none", server_header=False,
            http="h11", limit_concurrency=_BUSY, timeout_graceful_shutdown=3, h11_max_incomplete_event_size=16 << 10,
        )  # fmt: skip
        self._server = uvicorn.Server(config)

    def run(self, idle_s: float | None = None, parent: Callable[[], int] | None = None) -> None:
        """Answer until stopped.

        Args:
            idle_s: ends when nobody asked anything for so long; None: never.
            parent: gives the number of the parent process; ends when it changes. None: the parent does not matter.
        """
        first = parent() if parent is not None else 0

        def watch() -> None:
            while not self._server.should_exit:
                idle = idle_s is not None and time.monotonic() - self._asked > idle_s
                if idle or (parent is not None and parent() != first):
                    self._server.should_exit = True
                time.sleep(_LOOK_S)

        threading.Thread(target=watch, daemon=True).start()
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._server.should_exit = True
            self._socket.close()

    def stop(self) -> None:
        """End soon; any thread may call."""
        self._server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends at once (TCP_NODELAY) only where the protocol is named; else each answer waits 40 ms for an ACK
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)  # whoever is told the address may ask at once
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"cannot listen on {host} port {port} ({reason}); choose another with --port") from error
    return listening

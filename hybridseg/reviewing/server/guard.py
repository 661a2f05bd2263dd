"""Who may ask: the right host, no other site, the token, and no more bytes than a request needs."""

from __future__ import annotations

import ipaddress
import json
import secrets
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Any]
Send: TypeAlias = Callable[[dict[str, Any]], Any]

MOST_BYTES = 2 << 20
"""Of a request's body."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "worker-src 'self'; manifest-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""On every answer, unless it says another."""


@dataclass(frozen=True)
class Guard:
    """Stands before an ASGI application.

    The token travels in the header `Authorization` alone. A browser sends that for no page but the one that knows it,
    so there is no cookie for another site to use; the checks of host and origin stand before it all the same.

    app: what answers.
    token: who has it may ask.
    port: that the server listens on.
    remote: whether other machines may ask: by address or by this machine's name.
    """

    app: Any
    token: str
    port: int
    remote: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        reply = _with_headers(send)
        refused = self._refusal(scope)
        body = b"" if refused else await _body(receive)
        if refused is None and body is None:
            refused = 413, f"the request is larger than {MOST_BYTES} bytes"
        if refused is not None:
            await _refuse(reply, *refused)
            return
        pending = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Any:
            return pending.pop() if pending else await receive()

        await self.app(scope, again, reply)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason where a request is refused before it is read."""
        headers = _headers(scope["headers"])
        hosts, origins = headers.get("host", []), headers.get("origin", [])
        if len(hosts) != 1 or not self._own(hosts[0]):
            return 421, "this server answers to its own address alone"
        if any(origin != f"http://{hosts[0]}" for origin in origins):
            return 403, "another site may not ask this server"
        if any(site not in ("same-origin", "none") for site in headers.get("sec-fetch-site", [])):
            return 403, "another site may not ask this server"
        if scope["path"].startswith("/api/"):
            given = headers.get("authorization", [])
            if len(given) != 1 or not secrets.compare_digest(given[0].encode(), f"Bearer {self.token}".encode()):
                return 401, "the token is missing or wrong; open the address that the command printed"
        length = headers.get("content-length", ["0"])[0]
        if not length.isdigit() or int(length[:20]) > MOST_BYTES:
            return 413, f"the request is larger than {MOST_BYTES} bytes"
        return None

    def _own(self, host: str) -> bool:
        """Whether a Host header names this server. A name that an attacker may point here is none (DNS rebinding)."""
        name, _, port = host.rpartition(":")
        if port != str(self.port):
            return False
        if name in ("127.0.0.1", "localhost", "[::1]"):
            return True
        if not self.remote:
            return False
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name.lower() == socket.gethostname().lower()
        return True


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None where it is too large."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        size += len(message.get("body", b""))
        if size > MOST_BYTES:
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _with_headers(send: Send) -> Send:
    async def reply(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            more = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items() if k.lower().encode() not in given]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return reply


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})

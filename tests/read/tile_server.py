"""A server of map tiles: python -m tests.read.tile_server IMAGE.npy ZOOM COLUMN ROW. Prints its port.

The image, (3, H, W) bytes, fills whole tiles of 256 px of a zoom level from a tile on; tiles of lower levels show it
averaged. All other tiles are not found. Under /broken/ every tile fails with 503. Under /wms it answers GetMap of a
WMS 1.1.1 in EPSG:3857, by the pixel of the image under the middle of each that is asked for. A process of its own, as
rasterio holds the interpreter's lock in some of its requests.
"""

from __future__ import annotations

import io
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image

SIDE = 256
WORLD_M = 20_037_508.342789244


class Handler(BaseHTTPRequestHandler):
    """Gives tiles."""

    image: np.ndarray
    zoom: int
    corner: tuple[int, int]

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if asked.path == "/wms":
            return self.answer(200, png(self.map({k.upper(): v[0] for k, v in parse_qs(asked.query).items()})))
        found = re.fullmatch(r"/(broken|tiles)/(\d+)/(\d+)/(\d+)\.png", self.path)
        if found is None:
            return self.answer(404)
        if found[1] == "broken":
            return self.answer(503)
        tile = self.tile(*(int(number) for number in found.groups()[1:]))
        if tile is None:
            return self.answer(404)
        return self.answer(200, png(tile))

    def map(self, asked: dict[str, str]) -> np.ndarray:
        """The pixels of a map, black beside the image."""
        left, bottom, right, top = (float(number) for number in asked["BBOX"].split(","))
        width, height = int(asked["WIDTH"]), int(asked["HEIGHT"])
        pixel = 2 * WORLD_M / 2**self.zoom / SIDE
        x = left + (np.arange(width) + 0.5) * (right - left) / width
        y = top - (np.arange(height) + 0.5) * (top - bottom) / height
        cols = np.floor((x + WORLD_M) / pixel).astype(int) - SIDE * self.corner[0]
        rows = np.floor((WORLD_M - y) / pixel).astype(int) - SIDE * self.corner[1]
        inside = ((rows >= 0) & (rows < self.image.shape[1]))[:, None] & ((cols >= 0) & (cols < self.image.shape[2]))
        return (
            self.image[:, rows.clip(0, self.image.shape[1] - 1)][:, :, cols.clip(0, self.image.shape[2] - 1)] * inside
        )

    def tile(self, zoom: int, col: int, row: int) -> np.ndarray | None:
        """The pixels of a tile, black beside the image; None where it shows nothing of it."""
        scale = 2 ** (self.zoom - zoom)
        if scale < 1:
            return None
        x, y = (scale * SIDE * at - SIDE * first for at, first in zip((col, row), self.corner, strict=True))
        height, width = self.image.shape[1:]
        if x >= width or y >= height or x + scale * SIDE <= 0 or y + scale * SIDE <= 0:
            return None
        if scale > 64:  # far out, one colour will do
            return np.broadcast_to(self.image.mean((1, 2)).astype(np.uint8)[:, None, None], (3, SIDE, SIDE))
        whole = np.zeros((3, scale * SIDE, scale * SIDE), np.uint8)
        r0, c0 = max(0, y), max(0, x)
        part = self.image[:, r0 : y + scale * SIDE, c0 : x + scale * SIDE]
        whole[:, r0 - y : r0 - y + part.shape[1], c0 - x : c0 - x + part.shape[2]] = part
        return whole.reshape(3, SIDE, scale, SIDE, scale).mean((2, 4)).round().astype(np.uint8)

    def answer(self, status: int, data: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def png(pixels: np.ndarray) -> bytes:
    """(3, H, W) bytes as a file."""
    file = io.BytesIO()
    Image.fromarray(np.moveaxis(pixels, 0, -1).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    Handler.image, Handler.zoom = np.load(sys.argv[1]), int(sys.argv[2])
    Handler.corner = int(sys.argv[3]), int(sys.argv[4])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()

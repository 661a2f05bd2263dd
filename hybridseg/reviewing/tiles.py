"""The scene as tiles of its own pixel grid, for the page's map."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from hybridseg.read.scene import Scene
from hybridseg.reviewing.recent import Recent
from hybridseg.types import Window

TILE_PX = 256
OWN_ZOOM = 18
"""Zoom at which a tile's pixels are the scene's own; the scene's first pixel lies in the middle of the world."""
TILES = 512
"""Tiles kept, as files of 10 to 100 kB."""


class Tiles:
    """Tiles of one scene; those used last are kept."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self._kept = scene, Recent[tuple[int, int, int], tuple[bytes, str]](TILES)

    def __call__(self, z: int, x: int, y: int) -> tuple[bytes, str]:
        """Return a tile and its media type: JPEG, or PNG where some of it has no data.

        Args:
            z: zoom, see `OWN_ZOOM`.
            x: column.
            y: row.
        """
        key = (z, x, y)
        if (known := self._kept.get(key)) is not None:
            return known
        side, middle = TILE_PX << (OWN_ZOOM - z), (1 << z) // 2
        window = Window((x - middle) * side, (y - middle) * side, side, side)
        inside = window.clip(self._scene.window)
        if not inside.width or not inside.height:
            pixels, valid = np.zeros((3, 1, 1), np.uint8), np.zeros((1, 1), bool)
        else:
            chip = self._scene.read_window(window, TILE_PX)
            pixels, valid = chip.pixels, chip.valid
        made = _image(pixels, valid)
        self._kept.put(key, made)
        return made


def _image(pixels: np.ndarray, valid: np.ndarray) -> tuple[bytes, str]:
    """A chip as a file: JPEG where all of it is valid."""
    out = io.BytesIO()
    if valid.all():
        Image.fromarray(np.moveaxis(pixels, 0, -1)).save(out, "JPEG", quality=90)
        return out.getvalue(), "image/jpeg"
    alpha = np.concatenate([pixels, np.where(valid, 255, 0).astype(np.uint8)[None]])
    Image.fromarray(np.moveaxis(alpha, 0, -1)).save(out, "PNG", compress_level=1)
    return out.getvalue(), "image/png"

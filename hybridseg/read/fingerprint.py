"""Which raster this is: a hash of its content, the same wherever a copy lies and whenever it was touched."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetReader

WHOLE_BYTES = 64 * 2**20
"""Files that are together no larger are hashed whole."""
BLOCKS = 256
"""Blocks that stand for larger files."""
BLOCK_BYTES = 2**16
_ETAG_S = 10.0


def content(dataset: DatasetReader) -> bytes | None:
    """Return sha256 of a raster's content, None where only reading all of it could tell.

    Local files (with the tiles of a VRT, masks and overviews beside the raster, but not .aux.xml) are hashed whole up
    to `WHOLE_BYTES`. Of larger ones the size and `BLOCKS` blocks of `BLOCK_BYTES`, spread evenly from first to last
    byte, are hashed: a change that keeps the size and lies between the blocks is missed, such as a few pixels edited
    in place in a raster without compression. Of a URL, the server's ETag is hashed.

    Args:
        dataset: open.
    """
    if (found := content_of_files(dataset.files)) is not None:
        return found
    tag = etag(dataset.name)
    return None if tag is None else hashlib.sha256(tag.encode()).digest()


def content_of_files(files: Sequence[str]) -> bytes | None:
    """Return sha256 of files as of `content`, all together; None where one is no local file, or there is none."""
    files = [file for file in files if not file.endswith(".aux.xml")]
    if not files or not all(Path(file).is_file() for file in files):
        return None
    digest = hashlib.sha256()
    _hash_files(digest, files)
    return digest.digest()


def combine(content: bytes, *how: object) -> str:
    """Return sha256 (hex) of content and of how it is read: bands, grid, nodata value."""
    plain = [(*one.shape, *tuple(one.affine)[:6], str(one.crs)) if isinstance(one, GeoBox) else one for one in how]
    return hashlib.sha256(content + repr(plain).encode()).hexdigest()


def content_of_pixels(*arrays: np.ndarray) -> bytes:
    """Return sha256 of arrays: dtype, shape and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _hash_files(digest: hashlib._Hash, files: Sequence[str]) -> None:
    sizes = [os.path.getsize(file) for file in files]
    whole, blocks = sum(sizes) <= WHOLE_BYTES, max(2, BLOCKS // len(files))
    for name, size in zip(files, sizes, strict=True):
        digest.update(size.to_bytes(8, "big"))
        with open(name, "rb") as file:
            if whole:
                while piece := file.read(2**20):
                    digest.update(piece)
                continue
            for number in range(blocks):
                file.seek(max(0, size - BLOCK_BYTES) * number // (blocks - 1))
                digest.update(file.read(BLOCK_BYTES))


def etag(name: str) -> str | None:
    """Return the ETag that a server gives a URL (http or https, or GDAL's /vsicurl/), None where there is none."""
    url = name.removeprefix("/vsicurl/")
    if not url.startswith(("http://", "https://")) or "@" in url.split("/")[2]:
        return None
    # One byte and not HEAD, which addresses that are signed for GET refuse.
    request = urllib.request.Request(url, headers={"Range": "bytes=0-0"})
    try:
        with urllib.request.urlopen(request, timeout=_ETAG_S) as answer:
            tag = answer.headers.get("ETag")
    except (OSError, ValueError):  # GDAL may know a way in that this does not
        return None
    return tag or None

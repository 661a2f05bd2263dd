"""A scene written on another grid, block by block: in its own CRS or another, moved or not, with more of it masked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, Resampling
from rasterio.warp import reproject, transform_bounds

from hybridseg.cog import blocks, to_rasterio, whole, wkt
from hybridseg.read.ground import gsd_m
from hybridseg.read.scene import Scene
from hybridseg.types import Window

_BLOCK_PX = 1024
_AROUND_PX = 4
_MOST_PX = 4096
"""Source pixels along a block's side that are read for it; of finer sources, means."""


def write_on_grid(
    scene: Scene, grid: GeoBox, seen_at: GeoBox, bands: Sequence[int], path: Path, clear: Scene | None = None
) -> None:
    """Write bands of a scene as a tiled GeoTIFF with a mask.

    Args:
        scene: in any CRS.
        grid: of the file.
        seen_at: where the scene shows what belongs on `grid`: the same grid, moved.
        bands: 1-based numbers.
        path: of the file.
        clear: 0 where the ground cannot be seen, in its first band, in any CRS.
    """
    raw = scene.raw(bands)
    kind = scene.dtype if scene.dtype.kind in "ui" else np.dtype(np.float32)
    profile = {
        "driver": "GTiff", "width": grid.width, "height": grid.height, "count": len(bands),
        "dtype": kind.name, "crs": wkt(grid), "transform": grid.affine, "tiled": True, "compress": "deflate",
        "zlevel": 1, "bigtiff": "if_safer", "photometric": "minisblack",
    }  # fmt: skip
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **profile) as file,
    ):
        file.colorinterp = [ColorInterp.gray, *[ColorInterp.undefined] * (len(bands) - 1)]
        for number, band in enumerate(bands, start=1):
            file.set_band_description(number, scene.band_names[band - 1] if scene.band_names else "")
        for block in blocks(grid, _BLOCK_PX):
            pixels, valid = _read(raw, _part(seen_at, block))
            if clear is not None:
                # the mask shows what its scene shows, so it moves with it
                said, there = _read(clear, _part(seen_at, block), nearest=True)
                valid &= there & (said[0] != 0)
            if kind.kind in "ui":
                limits = np.iinfo(kind.name)
                pixels = np.rint(pixels).clip(limits.min, limits.max)
            file.write(np.where(valid, pixels, 0).astype(kind), window=to_rasterio(block))
            file.write_mask(valid, window=to_rasterio(block))


def _part(grid: GeoBox, block: Window) -> GeoBox:
    return grid[block.slices(whole(grid))]


def _read(scene: Scene, place: GeoBox, nearest: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Bands (B, H, W) float32 and validity (H, W) of a raw scene on a grid of any CRS."""
    if scene.crs == place.crs and not nearest:
        chip = scene.read_grid(place)
        return chip.pixels, chip.valid
    own = _around(scene, place)
    if own is None:
        shape = (place.height, place.width)
        return np.zeros((len(scene.bands), *shape), np.float32), np.zeros(shape, bool)
    chip = scene.read_grid(own)
    bands = [*chip.pixels, chip.valid.astype(np.float32)]
    out = np.zeros((len(bands), place.height, place.width), np.float32)
    reproject(
        np.stack([*(band * chip.valid for band in bands[:-1]), bands[-1]]),
        out,
        src_transform=own.affine,
        src_crs=wkt(own),
        dst_transform=place.affine,
        dst_crs=wkt(place),
        resampling=Resampling.nearest if nearest else Resampling.bilinear,
        tolerance=0.001,
    )
    # colours are weighted by validity, so that no edge darkens
    valid = out[-1] > 0.5
    return np.divide(out[:-1], out[-1], out=np.zeros_like(out[:-1]), where=valid), valid


def _around(scene: Scene, place: GeoBox) -> GeoBox | None:
    """The grid of a scene's own CRS that covers a place, as fine as the finer of both; None: it is not there."""
    box = transform_bounds(wkt(place), str(scene.crs), *place.boundingbox.bbox)
    a, b, c, d, e, f = tuple(~scene.geobox.affine)[:6]
    corners = np.array([(a * x + b * y + c, d * x + e * y + f) for x in box[0::2] for y in box[1::2]])
    if not np.isfinite(corners).all():
        return None
    low = np.floor(corners.min(axis=0)).astype(int) - _AROUND_PX
    high = np.ceil(corners.max(axis=0)).astype(int) + _AROUND_PX
    low, high = np.maximum(low, 0), np.minimum(high, (scene.geobox.width, scene.geobox.height))
    if (high <= low).any():
        return None
    window = Window(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
    # means of whole pixels where the scene is finer: reprojecting alone would pick single ones
    step = max(1.0, gsd_m(place) / scene.gsd_m, max(window.width, window.height) / _MOST_PX)
    shape = (max(1, round(window.height / step)), max(1, round(window.width / step)))
    zoom = Affine.scale(window.width / shape[1], window.height / shape[0])
    return GeoBox(shape, scene.geobox.affine @ Affine.translation(window.col, window.row) @ zoom, scene.geobox.crs)

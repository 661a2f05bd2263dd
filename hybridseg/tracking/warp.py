"""A scene written on another grid, block by block: in its own CRS or another, moved or not, with more of it masked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from odc.geo.overlap import compute_reproject_roi
from odc.geo.roi import roi_is_empty
from rasterio.enums import ColorInterp, Resampling
from rasterio.warp import reproject

from hybridseg.cog import blocks, to_rasterio, whole, wkt
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
    out = np.zeros((len(scene.bands) + 1, place.height, place.width), np.float32)
    needed = compute_reproject_roi(scene.geobox, place, padding=_AROUND_PX)
    if not roi_is_empty(needed.roi_src):
        part = scene.geobox[needed.roi_src]
        # means of whole pixels where the scene is finer: reprojecting alone would pick single ones
        own = part.zoom_out(max(1.0, needed.scale, max(part.shape) / _MOST_PX))
        chip = scene.read_grid(own)
        # colours are weighted by validity, so that no edge darkens
        bands = np.concatenate([chip.pixels * chip.valid, chip.valid[None]]).astype(np.float32)
        how = Resampling.nearest if nearest else Resampling.bilinear
        sides = {"src_transform": own.affine, "src_crs": wkt(own), "dst_transform": place.affine, "dst_crs": wkt(place)}
        reproject(bands, out, resampling=how, tolerance=0.001, **sides)
    valid = out[-1] > 0.5
    return np.divide(out[:-1], out[-1], out=np.zeros_like(out[:-1]), where=valid), valid

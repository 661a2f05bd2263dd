"""The stretch to 8 bits, one for a whole scene; and a check of the unit of pixels that are read without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window as RasterWindow

from hybridseg.errors import BandsMissing
from hybridseg.read.scene import Scene

PERCENTILES = (2.0, 98.0)
OVERVIEW_PX = 1024
"""Longest side of the decimated overview that the stretch is taken from."""
BLOCKS = 64
"""Blocks that stand for a scene too large to be decimated in one go."""

_DECIMATE_PX = 4096**2
_BLOCK_PX = 512

REFLECTANCE = "reflectance x 10000"
"""Sentinel-2 and HLS as they are delivered: 10000 is a surface that reflects all light."""
HIGHEST_REFLECTANCE = 2.0
"""Reflectance from 0 to 1 stays below this but for glints; times 10000, no scene does."""


S = TypeVar("S", bound="Scene")


class PixelStore(Protocol):
    """Stored pixels, whatever holds them: the part of rasterio's DatasetReader that reading needs."""

    count: int
    shape: tuple[int, int]
    dtypes: tuple[str, ...]
    block_shapes: list[tuple[int, int]]

    def read(self, indexes: list[int], *, window: RasterWindow = None, out_shape: Any = None) -> npt.NDArray[Any]:
        """Return (B, H, W) of 1-based bands; nearest neighbour where `out_shape` (B, H, W) is another."""

    def read_masks(
        self, indexes: list[int], *, window: RasterWindow = None, out_shape: Any = None
    ) -> npt.NDArray[np.uint8]:
        """Return (B, H, W), 0 where a band has no data."""


@dataclass(frozen=True)
class Stretch:
    """A linear map of source values to 0..255, the same for every window of a scene."""

    low: tuple[float, float, float]
    """Values of R, G and B that become 0, in the source's own units."""
    high: tuple[float, float, float]
    """Values that become 255."""
    identity: bool = False
    """8-bit data, left exactly as it is."""

    def apply(self, bands: npt.NDArray[np.generic], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
        """Return stretched pixels, (3, H, W) uint8, 0 where not valid.

        Args:
            bands: (3, H, W), any real dtype, in the source's own units.
            valid: (H, W) bool.
        """
        if self.identity:
            return np.where(valid, bands, 0).astype(np.uint8)
        low = np.array(self.low).reshape(3, 1, 1)
        # A constant channel has no spread: what equals it becomes 0, what exceeds it 255.
        spread = np.maximum(np.array(self.high).reshape(3, 1, 1) - low, np.finfo(np.float32).tiny)
        values = np.where(valid & np.isfinite(bands), bands, low)  # float64; NaN must not reach the cast below
        unit = np.clip(values - low, 0, spread) / spread
        return np.where(valid, np.rint(unit * 255), 0).astype(np.uint8)


def estimate(samples: npt.NDArray[np.generic], valid: npt.NDArray[np.bool_], dtype: npt.DTypeLike) -> Stretch:
    """Return the stretch of a scene: 2nd to 98th percentile of its valid pixels, channel by channel.

    Args:
        samples: (3, ...) pixels of an overview of the whole source.
        valid: (...) bool, the shape of one channel. NaN and infinity are ignored whatever it says.
        dtype: of the source; 8-bit data needs no stretch.

    Raises:
        ValueError: when no sample is valid.
    """
    if np.dtype(dtype) == np.uint8:
        return Stretch((0.0, 0.0, 0.0), (255.0, 255.0, 255.0), identity=True)
    channels = [channel[valid & np.isfinite(channel)] for channel in samples]
    if not all(channel.size for channel in channels):
        raise ValueError("a stretch needs valid samples in every channel")
    (r0, r1), (g0, g1), (b0, b1) = (np.percentile(c.astype(np.float64), PERCENTILES).tolist() for c in channels)
    return Stretch((r0, g0, b0), (r1, g1, b1))


def sample(
    store: PixelStore, bands: tuple[int, ...], nodata: float | None = None
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.bool_]]:
    """Return pixels that stand for the whole raster, without reading all of a large one.

    A raster that is small, or an overview that is, is decimated to `OVERVIEW_PX`. Of one that is large and has no small
    overview, blocks are read in a fixed scattered order until `BLOCKS` of them held valid pixels: so an answer without
    any valid pixel means that there is none.

    Args:
        store: the raster, opened at its coarsest useful overview.
        bands: 1-based band numbers.
        nodata: value of pixels without data, beside what the raster says.

    Returns:
        (B, ...) pixels of the dataset's dtype, and (...) bool, which of them are valid.
    """
    h, w = store.shape
    if h * w <= _DECIMATE_PX:
        step = max(1.0, max(h, w) / OVERVIEW_PX)
        shape = (len(bands), max(1, round(h / step)), max(1, round(w / step)))
        # Nearest, because averaged pixels have narrower percentiles than the pixels that will be stretched.
        pixels = store.read(list(bands), out_shape=shape)
        return pixels, validity(pixels, declared(pixels, store.read_masks(list(bands), out_shape=shape), nodata))

    found: list[tuple[npt.NDArray[np.generic], npt.NDArray[np.bool_]]] = []
    blocks = _blocks(store)
    for index in np.random.default_rng(0).permutation(len(blocks)):
        window = blocks[index]
        pixels = store.read(list(bands), window=window)
        valid = validity(pixels, declared(pixels, store.read_masks(list(bands), window=window), nodata))
        if valid.any():
            found.append((pixels.reshape(len(bands), -1), valid.ravel()))
        if len(found) == BLOCKS:
            break
    if not found:
        return np.zeros((len(bands), 1), store.dtypes[0]), np.zeros(1, np.bool_)
    return np.concatenate([p for p, _ in found], axis=1), np.concatenate([v for _, v in found])


def nearest(
    shape: tuple[int, int], window: RasterWindow | None, out_shape: Any
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the rows and columns that a read takes, as GDAL chooses the nearest.

    Args:
        shape: (H, W) of the raster.
        window: what is read; None: all.
        out_shape: (..., H, W) of the result; None: that of the window.
    """
    if window is None:
        window = RasterWindow(0, 0, shape[1], shape[0])
    height, width = (int(window.height), int(window.width)) if out_shape is None else out_shape[-2:]
    rows = ((np.arange(height) + 0.5) * (window.height / height) + 1e-10).astype(np.intp)
    cols = ((np.arange(width) + 0.5) * (window.width / width) + 1e-10).astype(np.intp)
    return rows + int(window.row_off), cols + int(window.col_off)


def declared(
    pixels: npt.NDArray[np.generic], masks: npt.NDArray[np.uint8], nodata: float | None
) -> npt.NDArray[np.uint8]:
    """Return the band masks (B, ...), 0 also where a pixel has the value that the caller declared as no data."""
    return masks if nodata is None else np.where(pixels == nodata, np.uint8(0), masks)


def validity(pixels: npt.NDArray[np.generic], masks: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return which pixels hold data, (...) bool: some band is neither nodata nor masked out, and all are finite.

    The union over the bands is GDAL's rule for a dataset mask: a red of 0 where 0 is nodata is no hole while
    green has a value.

    Args:
        pixels: (B, ...), as read.
        masks: (B, ...) uint8, GDAL's band masks: nodata, alpha or internal mask.
    """
    valid: npt.NDArray[np.bool_] = np.any(masks, axis=0)
    if np.issubdtype(pixels.dtype, np.floating):
        valid &= np.all(np.isfinite(pixels), axis=0)
    return valid


def _blocks(store: PixelStore) -> list[RasterWindow]:
    """The raster cut along its own blocks, large blocks (an untiled file's strips) cut further."""
    h, w = store.shape
    bh, bw = store.block_shapes[0]
    bh = min(bh, _BLOCK_PX)
    bw = min(bw, max(_BLOCK_PX, _BLOCK_PX**2 // bh))
    return [RasterWindow(c, r, min(bw, w - c), min(bh, h - r)) for r in range(0, h, bh) for c in range(0, w, bw)]


def check_scaling(scene: S, scaling: str, who: str) -> S:
    """Return the scene, unless its values are plainly in another unit than a network was trained on.

    Args:
        scene: raw (see `Scene.raw`).
        scaling: what is wanted, in words; only reflectance x 10000 can be told.
        who: wants it, for the message.

    Raises:
        BandsMissing: the scene has 8 bits, or values as of reflectance from 0 to 1.
    """
    if scaling != REFLECTANCE:
        return scene
    if scene.dtype.itemsize == 1:
        raise BandsMissing(
            f"{who}; {scene.name} holds {scene.dtype.name}: give the scene as it is delivered, before any stretch"
        )
    pixels, valid = scene.sample()
    highest = float(np.max(pixels[:, valid]))
    if highest <= HIGHEST_REFLECTANCE:
        raise BandsMissing(
            f"{who}; the values of {scene.name} reach {highest:.3g} only, as reflectance from 0 to 1 does: "
            "multiply them by 10000"
        )
    return scene

"""One robust stretch to 8 bits for a whole scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterWindow

PERCENTILES = (2.0, 98.0)
OVERVIEW_PX = 1024
"""Longest side of the decimated overview that the stretch is taken from."""
BLOCKS = 64
"""Blocks that stand for a scene too large to be decimated in one go."""

_DECIMATE_PX = 4096**2
_BLOCK_PX = 512


@dataclass(frozen=True)
class Stretch:
    """A linear map of source values to 0..255, the same for every window of a scene.

    low, high: values that become 0 and 255, one for each of R, G, B, in the source's own units.
    identity: 8-bit data, left exactly as it is.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    identity: bool = False

    def apply(self, bands: npt.NDArray[np.generic], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
        """Stretched pixels, (3, H, W) uint8, 0 where not valid.

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
    """The stretch of a scene: 2nd to 98th percentile of its valid pixels, channel by channel.

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


def sample(dataset: DatasetReader, bands: tuple[int, ...]) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.bool_]]:
    """Pixels that stand for the whole raster, without reading all of a large one.

    A raster that is small, or an overview that is, is decimated to `OVERVIEW_PX`. Of one that is large and has no small
    overview, blocks are read in a fixed scattered order until `BLOCKS` of them held valid pixels: so an answer without
    any valid pixel means that there is none.

    Args:
        dataset: the raster, opened at its coarsest useful overview.
        bands: 1-based band numbers.

    Returns:
        (B, ...) pixels of the dataset's dtype, and (...) bool, which of them are valid.
    """
    h, w = dataset.shape
    if h * w <= _DECIMATE_PX:
        step = max(1.0, max(h, w) / OVERVIEW_PX)
        shape = (max(1, round(h / step)), max(1, round(w / step)))
        # Nearest, because averaged pixels have narrower percentiles than the pixels that will be stretched.
        pixels = dataset.read(list(bands), out_shape=(len(bands), *shape))
        return pixels, validity(pixels, dataset.read_masks(list(bands), out_shape=(len(bands), *shape)))

    found: list[tuple[npt.NDArray[np.generic], npt.NDArray[np.bool_]]] = []
    blocks = _blocks(dataset)
    for index in np.random.default_rng(0).permutation(len(blocks)):
        window = blocks[index]
        pixels = dataset.read(list(bands), window=window)
        valid = validity(pixels, dataset.read_masks(list(bands), window=window))
        if valid.any():
            found.append((pixels.reshape(len(bands), -1), valid.ravel()))
        if len(found) == BLOCKS:
            break
    if not found:
        return np.zeros((len(bands), 1), dataset.dtypes[0]), np.zeros(1, np.bool_)
    return np.concatenate([p for p, _ in found], axis=1), np.concatenate([v for _, v in found])


def validity(pixels: npt.NDArray[np.generic], masks: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which pixels hold data, (...) bool: some band is neither nodata nor masked out, and all are finite.

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


def _blocks(dataset: DatasetReader) -> list[RasterWindow]:
    """The raster cut along its own blocks, large blocks (an untiled file's strips) cut further."""
    h, w = dataset.shape
    bh, bw = dataset.block_shapes[0]
    bh = min(bh, _BLOCK_PX)
    bw = min(bw, max(_BLOCK_PX, _BLOCK_PX**2 // bh))
    return [RasterWindow(c, r, min(bw, w - c), min(bh, h - r)) for r in range(0, h, bh) for c in range(0, w, bw)]

"""Collars: ground without data around an image, in a value that the raster does not declare as nodata.

A warped or clipped image is often filled up to a rectangle with white or black. Taken for ground, white becomes roofs,
and either spoils the stretch. A collar is told from bright ground by three signs: its pixels have one extreme value,
the same in all bands; it fills a corner of the raster; and from there it runs along at least half of a side, unbroken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window as RasterWindow

from hybridseg.read.stretch import PixelStore, declared, nearest

HALF = 0.5
"""Share of a side along which a collar runs from a corner."""
_FAR_BELOW = -999
_STRIP_PX = 512
_GRAIN_PX = 1000
"""Rows and columns that the share of a collar is measured on."""

Same: TypeAlias = Callable[[int, int, int, int], npt.NDArray[np.bool_]]
"""Of four numbers that say where: (H, W) bool, which pixels have the collar's value or no data."""


@dataclass(frozen=True)
class Collar:
    """How far a collar reaches inwards from each side: a pixel is in it where some side reaches it."""

    value: float
    """That its pixels have in all bands."""
    shape: tuple[int, int]
    """(H, W) of the raster."""
    reaches: tuple[bytes, bytes, bytes, bytes]
    """int32 pixels from the left and the right (for each row), from the top and the bottom (for each column)."""

    def covers(self, rows: npt.NDArray[Any], cols: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return (len(rows), len(cols)) bool: which pixels of the raster are in the collar."""
        left, right, top, bottom = (np.frombuffer(reach, np.int32) for reach in self.reaches)
        height, width = self.shape
        across, down = cols[None], rows[:, None]
        beside = (across < left[rows][:, None]) | (across >= width - right[rows][:, None])
        return beside | (down < top[cols][None]) | (down >= height - bottom[cols][None])

    @property
    def share(self) -> float:
        """Share of the raster that is in the collar, measured on an even lattice of its pixels."""
        rows, cols = (np.arange(0, side, max(1, side // _GRAIN_PX)) for side in self.shape)
        return float(self.covers(rows, cols).mean())


class Collared:
    """Pixels behind a mask of their collar (`stretch.PixelStore`), at full resolution or of an overview."""

    def __init__(self, store: PixelStore, collar: Collar) -> None:
        """Wrap a store of the raster that the collar was found in."""
        self._store, self._collar = store, collar
        self.count, self.shape = store.count, store.shape
        self.dtypes, self.block_shapes = store.dtypes, store.block_shapes
        self.read = store.read

    def read_masks(
        self, indexes: list[int], *, window: RasterWindow = None, out_shape: Any = None
    ) -> npt.NDArray[np.uint8]:
        """Return (B, H, W), 0 where a band has no data and in the collar."""
        masks = self._store.read_masks(indexes, window=window, out_shape=out_shape)
        rows, cols = nearest(self.shape, window, out_shape)
        # pixels of an overview count by their centres
        full = [((i + 0.5) * (whole / part)).astype(np.intp) for i, whole, part in
                zip((rows, cols), self._collar.shape, self.shape, strict=True)]  # fmt: skip
        return np.where(self._collar.covers(*full), np.uint8(0), masks)


def find_collar(store: PixelStore, bands: Sequence[int]) -> Collar | None:
    """Return the collar of a raster, None where there is none.

    Reads the four corner pixels, the four sides where a corner may be one's, and then no more than the collar itself.

    Args:
        store: the raster at full resolution.
        bands: 1-based, those in use.
    """
    height, width = store.shape

    def read(col: int, row: int, wide: int, high: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        window = RasterWindow(col, row, wide, high)
        pixels = store.read(list(bands), window=window)
        masks = declared(pixels, store.read_masks(list(bands), window=window), None)
        return pixels, np.asarray(masks.any(axis=0))

    for row, col in ((r, c) for r in (0, height - 1) for c in (0, width - 1)):
        corner, valid = read(col, row, 1, 1)
        value = corner[0, 0, 0]
        if not (valid.all() and (corner == value).all() and _extreme(value, len(bands))):
            continue

        def same(col: int, row: int, wide: int, high: int, value: Any = value) -> npt.NDArray[np.bool_]:
            pixels, valid = read(col, row, wide, high)
            alike: npt.NDArray[np.bool_] = (pixels == value).all(axis=0) | ~valid
            return alike

        if (reaches := _reaches(same, height, width)) is not None:
            collar = Collar(float(value), (height, width), reaches)
            return collar if collar.share < 1 else None
    return None


def _extreme(value: Any, bands: int) -> bool:
    """Whether a value is one that no ground has over a large area: the highest, far below 0, or 0 in all of 3 bands.

    One band of 0 may be water, which is as dark as that in near infrared.
    """
    if np.issubdtype(value.dtype, np.integer) and value == np.iinfo(value.dtype).max:
        return True
    return bool(np.isfinite(value) and (value <= _FAR_BELOW or (value == 0 and bands >= 3)))


def _reaches(same: Same, height: int, width: int) -> tuple[bytes, bytes, bytes, bytes] | None:
    """How far the collar reaches from the left, right, top and bottom; None where it is too short to be one."""
    sides = [
        same(0, 0, 1, height)[:, 0],
        same(width - 1, 0, 1, height)[:, 0],
        same(0, 0, width, 1)[0],
        same(0, height - 1, width, 1)[0],
    ]
    runs = [_from_ends(side) for side in sides]
    if not any(max(run.argmin(), run[::-1].argmin()) >= HALF * len(run) or run.all() for run in runs):
        return None
    looks: list[Same] = [
        lambda depth, step, lo, n: same(depth, lo, step, n),
        lambda depth, step, lo, n: same(width - depth - step, lo, step, n)[:, ::-1],
        lambda depth, step, lo, n: same(lo, depth, n, step).T,
        lambda depth, step, lo, n: same(lo, height - depth - step, n, step)[::-1].T,
    ]
    depths = (width, width, height, height)
    left, right, top, bottom = (
        _inwards(look, run, depth) for look, run, depth in zip(looks, runs, depths, strict=True)
    )
    return left, right, top, bottom


def _from_ends(side: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which pixels of a side hang together with one of its ends."""
    first = np.logical_and.accumulate(side)
    last = np.logical_and.accumulate(side[::-1])[::-1]
    return np.asarray(first | last)


def _inwards(look: Same, run: npt.NDArray[np.bool_], depth: int) -> bytes:
    """How many pixels a collar reaches inwards from each pixel of a side, strip by strip as long as some goes on."""
    reach, going = np.zeros(len(run), np.int32), run.copy()
    for done in range(0, depth, _STRIP_PX):
        if not going.any():
            break
        active = np.flatnonzero(going)
        lo, stop, step = int(active[0]), int(active[-1]) + 1, min(_STRIP_PX, depth - done)
        alike = look(done, step, lo, stop - lo)
        length = np.where(alike.all(axis=1), step, alike.argmin(axis=1))
        length[~going[lo:stop]] = 0
        reach[lo:stop] += length.astype(np.int32)
        going[lo:stop] &= length == step
    return reach.tobytes()

"""The eight ways to lay a square on itself, for arrays and for points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Turn(NamedTuple):
    """Turns upside down, then mirrors, then swaps rows and columns."""

    upside_down: bool
    mirrored: bool
    swapped: bool

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """Return (..., H, W) turned."""
        array = self._flipped(array)
        return np.ascontiguousarray(array.swapaxes(-1, -2) if self.swapped else array)

    def back(self, array: np.ndarray) -> np.ndarray:
        """Return (..., H, W) as it was before it was turned."""
        return np.ascontiguousarray(self._flipped(array.swapaxes(-1, -2) if self.swapped else array))

    def of_points(self, points: np.ndarray, side_px: int) -> np.ndarray:
        """Return where points (..., 2), x and y in a square image of `side_px`, lie in the turned image."""
        x, y = points[..., 0], points[..., 1]
        x, y = side_px - x if self.mirrored else x, side_px - y if self.upside_down else y
        return np.stack((y, x) if self.swapped else (x, y), axis=-1)

    def _flipped(self, array: np.ndarray) -> np.ndarray:
        return array[..., :: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]


TURNS = tuple(
    Turn(down, mirrored, swapped) for swapped in (False, True) for mirrored in (False, True) for down in (False, True)
)
"""The image as it is comes first."""

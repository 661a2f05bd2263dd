"""How far a scene lies off another of the same place: correlation of edges in windows over their common ground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from odc.geo.geobox import GeoBox
from scipy import ndimage as ndi
from skimage.registration import phase_cross_correlation

from hybridseg.read.scene import Scene
from hybridseg.types import Chip, Window

SIDE_PX, LEAST_SIDE_PX = 256, 64
"""Side of a window; of small scenes half of theirs."""
MOST_WINDOWS = 25
LEAST_WINDOWS = 3
FILLED = 0.9
"""Share of a window that must have data at both dates."""
FINENESS = 20
"""Parts of a pixel that are told apart."""
FARTHEST_PX = 12.0
"""A larger shift is taken for a mistake of the correlation."""
AGREED_PX = 0.5
"""Standard error, by the windows' scatter, up to which a shift is believed."""
ALIKE_PX = 0.25
"""Standard error that all windows share: sun and view move the edges of what is high to one side. By rendered towns,
421 to 432."""


@dataclass(frozen=True)
class Shift:
    """How far a scene lies off its reference.

    x_px, y_px: to the right and down, in pixels of the common grid; 0 where it cannot be told.
    sd_px: standard error along one axis; NaN where the shift cannot be told.
    windows: how many tell it.
    """

    x_px: float = 0.0
    y_px: float = 0.0
    sd_px: float = float("nan")
    windows: int = 0

    @property
    def known(self) -> bool:
        """Whether the shift can be told: enough windows, which agree."""
        return bool(np.isfinite(self.sd_px))

    @property
    def length_px(self) -> float:
        """Distance in pixels."""
        return float(np.hypot(self.x_px, self.y_px))


def shift_between(reference: Scene, scene: Scene, grid: GeoBox) -> Shift:
    """Return how far a scene lies off a reference of the same CRS.

    In each of up to 25 windows the magnitudes of the gradients are correlated (light and season change colours more
    than edges). The peak of the sum of all windows' correlations counts: what each says faintly, all say clearly, where
    the peaks of single windows scatter. Its standard error is that of leaving out a window in turn (jackknife).
    Memory does not grow with the scenes.

    Args:
        reference: in the grid's CRS.
        scene: in the same CRS.
        grid: pixels to look at.
    """
    found = []
    for window in _windows(grid):
        place = grid[window.slices(Window(0, 0, grid.width, grid.height))]
        one, other = reference.read_grid(place), scene.read_grid(place)
        both = one.valid & other.valid
        if both.mean() < FILLED:
            continue
        edges = [_edges(chip, both) for chip in (one, other)]
        if min(e.std() for e in edges) == 0:
            continue
        cross = np.fft.fft2(edges[0]) * np.conj(np.fft.fft2(edges[1]))
        found.append(cross / np.linalg.norm(cross))
    count = len(found)
    if count < LEAST_WINDOWS:
        return Shift(windows=count)
    total = np.sum(found, axis=0)
    middle, others = _peak(total), np.array([_peak(total - one) for one in found])
    error = float(np.sqrt((count - 1) * others.var(axis=0).max()))
    if np.hypot(*middle) > FARTHEST_PX or error > AGREED_PX:
        return Shift(windows=count)
    return Shift(float(middle[0]), float(middle[1]), float(np.hypot(error, ALIKE_PX)), count)


def _peak(cross: np.ndarray) -> np.ndarray:
    """Shift (x, y) at which two images correlate most, of their cross-spectrum."""
    (dy, dx), _, _ = phase_cross_correlation(
        cross, np.ones_like(cross), space="fourier", normalization=None, upsample_factor=FINENESS
    )
    return np.array([-dx, -dy])  # scikit-image says how to move it back


def _windows(grid: GeoBox) -> list[Window]:
    """Windows spread evenly over a grid."""
    side = min(SIDE_PX, max(LEAST_SIDE_PX, min(grid.width, grid.height) // 2), grid.width, grid.height)
    most = int(np.sqrt(MOST_WINDOWS))
    corners = (
        np.unique(np.linspace(0, length - side, min(most, max(1, 2 * length // side - 1))).astype(int)).tolist()
        for length in (grid.height, grid.width)
    )
    rows, cols = corners
    return [Window(col, row, side, side) for row in rows for col in cols]


def _edges(chip: Chip, valid: np.ndarray) -> np.ndarray:
    """Magnitude of the gradient (H, W), fading to 0 at the window's border and at nodata."""
    grey = chip.pixels.mean(axis=0, dtype=np.float32)
    edges = ndi.gaussian_gradient_magnitude(grey, 1.0)
    edges = np.minimum(edges, np.percentile(edges, 99))
    inside = ndi.binary_erosion(valid, iterations=4, border_value=1)
    bend = [np.hanning(length) for length in edges.shape]
    level = edges[inside].mean() if inside.any() else 0.0  # else the windows' own shape would correlate, at no shift
    return np.where(inside, edges - level, 0) * bend[0][:, None] * bend[1]

"""From polygons to the lines along their middle, by thinning a raster of them tile by tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from rasterio.features import rasterize
from scipy import ndimage
from skimage.morphology import skeletonize

from hybridseg.errors import ThemeError
from hybridseg.shape.lines.sight import Sight
from hybridseg.types import Window

_HALO_PX = 128
"""Least margin of a tile; it grows where the surface is wider than this can hold."""

_WINDOW_PX = 64_000_000
"""Largest raster worked on at once; the distance transform takes 16 bytes a pixel."""

_EDGE_PX = 1.0
"""Deviation of the Gaussian that takes bumps and notches of a pixel off the edge, each a spur otherwise."""


@dataclass(frozen=True)
class Skeleton:
    """Lines along the middle of a surface, a pixel wide, with the distance to its edge.

    The raster lies at multiples of `cell_m`, and tiles have margins so wide that they change nothing: in thinning, a
    pixel's fate hangs on its neighbours alone, over as many rounds as half the width (Zhang and Suen, Communications of
    the ACM 27, 1984, p. 236). So memory grows with the length of the lines, not with the extent.
    """

    cell_m: float
    """Pixel of the raster; what is narrower than two pixels may be lost."""
    min_hole_m2: float
    """Smaller holes are filled."""
    tile_px: int
    """Side of a tile."""
    sight: Sight | None = None
    """Heatmap whose faint ground is thinned with the surface."""
    faint: float = 1.0
    """Probability from which on ground is faint."""
    around_m: float = 0.0
    """How far beyond the surface's bounds faint ground is looked at."""

    def __call__(self, surface: np.ndarray) -> np.ndarray:
        """Return lines (n,) LineString Z from junction to junction, but cut at tiles, along polygons (k,) in metres.

        Vertices are neighbouring pixels; Z is the distance (m) to the nearest pixel outside.

        Raises:
            ThemeError: the surface is too wide for this `cell_m`.
        """
        if len(surface) == 0:
            return np.empty(0, dtype=object)
        tree, around_m = shapely.STRtree(surface), self.around_m if self.sight else 0.0
        bounds = shapely.total_bounds(surface) + np.array([-1, -1, 1, 1]) * around_m
        left, bottom, right, top = bounds / (self.cell_m * self.tile_px)
        chains = []
        for row in range(int(np.floor(-top)), int(np.ceil(-bottom))):
            for col in range(int(np.floor(left)), int(np.ceil(right))):
                core = Window(col * self.tile_px, row * self.tile_px, self.tile_px, self.tile_px)
                chains.append(self._chains(tree, bounds, core))
        return np.concatenate(chains)

    def _chains(self, tree: shapely.STRtree, bounds: np.ndarray, core: Window) -> np.ndarray:
        """Return the lines in one tile."""
        halo, needed = 0, _HALO_PX
        while halo < needed:
            halo = needed
            window, mask = self._mask(tree, bounds, core.pad(halo))
            distance = ndimage.distance_transform_edt(np.pad(mask, 1))
            needed = int(3 * distance.max()) + 8
        row, col = _steps(np.pad(skeletonize(mask), (0, 1)), *core.clip(window).slices(window))
        down, right = _to_ridge(distance, row + 1, col + 1)
        x, y = window.col + col + 0.5 + right, -(window.row + row + 0.5 + down)
        steps = shapely.linestrings(np.stack([x, y, distance[row + 1, col + 1]], axis=-1) * self.cell_m)
        return _cut(merged(steps), self.cell_m, self.tile_px)

    def _mask(self, tree: shapely.STRtree, bounds: np.ndarray, window: Window) -> tuple[Window, np.ndarray]:
        """The part of the window inside bounds, and the surface there (h, w) bool, smooth and without holes."""
        box = np.array([window.col, -window.stop[1], window.stop[0], -window.row]) * self.cell_m
        parts = shapely.clip_by_rect(tree.geometries[np.sort(tree.query(shapely.box(*box)))], *box)
        parts = parts[shapely.area(parts) > 0]
        if self.sight is None:
            if len(parts) == 0:
                return Window(window.col, window.row, 0, 0), np.zeros((0, 0), dtype=bool)
            bounds = shapely.total_bounds(parts)
        left, bottom, right, top = bounds / self.cell_m
        col, row = int(np.floor(left)), int(np.floor(-top))
        window = Window(col, row, int(np.ceil(right)) - col, int(np.ceil(-bottom)) - row).clip(window)
        if window.width * window.height > _WINDOW_PX:
            raise ThemeError(
                f"centrelines: a surface of up to {window.width * self.cell_m:.0f} x {window.height * self.cell_m:.0f} "
                f"m is too wide to be thinned with cell_m {self.cell_m}: raise cell_m, or leave the feature out"
            )
        grid = Affine(self.cell_m, 0, window.col * self.cell_m, 0, -self.cell_m, -window.row * self.cell_m)
        shape = (window.height, window.width)
        mask = np.zeros(shape, dtype=bool)
        if len(parts) and all(shape):
            mask = rasterize(parts, shape, transform=grid, dtype="uint8") > 0
        if self.sight is not None and all(shape):
            mask |= self.sight(grid, shape) >= self.faint
        return window, _smooth(_without_holes(mask, self.min_hole_m2 / self.cell_m**2))


def merged(lines: np.ndarray) -> np.ndarray:
    """Return lines (m,) in one piece wherever exactly two of the lines (n,) meet."""
    return np.asarray(shapely.get_parts(shapely.line_merge(shapely.multilinestrings(lines))))


def _cut(lines: np.ndarray, cell_m: float, tile_px: int) -> np.ndarray:
    """Return lines (n,) cut at the pixels that tiles share: a line of the next tile may make a junction of each."""
    vertices, line = shapely.get_coordinates(lines, include_z=True, return_index=True)
    shared = (np.floor(vertices[:, :2] * (1, -1) / cell_m) % tile_px == 0).any(axis=1)
    shared &= (np.diff(line, prepend=-1) == 0) & (np.diff(line, append=-1) == 0)  # ends are cuts already
    copy = np.repeat(np.arange(len(line)), 1 + shared)
    second = np.diff(copy, prepend=-1) == 0
    piece = (line + np.cumsum(shared) - shared)[copy] + second
    return np.asarray(shapely.linestrings(vertices[copy], indices=piece))


def _without_holes(mask: np.ndarray, min_px: float) -> np.ndarray:
    """Return the mask (h, w) bool with holes of less than `min_px` filled, those cut by its border left."""
    holes, _ = ndimage.label(~np.pad(mask, 1))
    filled = np.bincount(holes.ravel()) < min_px
    filled[[0, holes[0, 0]]] = False
    return np.asarray(mask | filled[holes][1:-1, 1:-1])


def _smooth(mask: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.gaussian_filter(mask.astype(np.float32), _EDGE_PX, mode="constant") > 0.5)


def _steps(skeleton: np.ndarray, rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (m, 2) and columns (m, 2) of neighbouring pixels, each pair once, by the corner of its 2x2 block.

    No diagonal where the way around the corner is there, and a full block is left open at its first row.
    """
    a, b, c, d = (skeleton[rows.start + i : rows.stop + i, cols.start + j : cols.stop + j] for i, j in np.ndindex(2, 2))
    pairs = {
        ((0, 0), (0, 1)): a & b & ~(c & d),
        ((0, 0), (1, 0)): a & c,
        ((0, 0), (1, 1)): a & d & ~(b | c),
        ((0, 1), (1, 0)): b & c & ~(a | d),
    }
    found = np.concatenate([np.argwhere(where)[:, None] + pair for pair, where in pairs.items()])
    return found[..., 0] + rows.start, found[..., 1] + cols.start


def _to_ridge(distance: np.ndarray, row: np.ndarray, col: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far down and right of pixels (m, 2) the ridge of `distance` (h, w) runs, in pixels, up to 0.45.

    An even width has its middle between two pixels, of which thinning keeps the same one all along. On a roof of slope
    1 half the difference between the neighbours is the offset of the ridge, in each direction that crosses it.
    """
    down = (distance[row + 1, col] - distance[row - 1, col]) / 2
    right = (distance[row, col + 1] - distance[row, col - 1]) / 2
    most = np.maximum(np.abs(down), np.abs(right))
    scale = np.minimum(most, 0.45) / np.maximum(np.hypot(down, right), 1e-9)
    return down * scale, right * scale

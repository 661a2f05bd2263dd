"""What a heatmap says of any outlines: whether their ground was seen, and how much of it is the class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import shapely
from affine import Affine
from rasterio.features import rasterize
from scipy.special import logit

from hybridseg.cog import whole
from hybridseg.heatmap import Heatmap
from hybridseg.read.tiles import tile, transformed
from hybridseg.types import Window

SEEN = 0.5
"""Share of an object's ground that must be seen to tell whether it is there."""
STILL_THERE = 0.4
"""Mean probability of the class on an object's ground from which on it is there, though it was not found."""
MOST = 6.0
"""A pixel says no more than these log odds."""
_CELL_PX = 1024
"""Outlines whose middles lie in one square of this side are looked at together."""
_READ_PX = 4096
"""Side of what is read at once."""


class Evidence(NamedTuple):
    """Of N outlines.

    seen: (N,) share of the outline with data.
    extent: (N,) mean probability of the class on what is seen; 0 where nothing is.
    odds: (N,) mean of the log odds of each pixel on what is seen; 0 where nothing is.
    """

    seen: np.ndarray
    extent: np.ndarray
    odds: np.ndarray


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Return log odds of a probability, up to `MOST`."""
    return np.clip(logit(probability), -MOST, MOST)


def evidence(heatmap: Heatmap, label: str, outlines: Sequence[shapely.Geometry]) -> Evidence:
    """Return what a heatmap says of outlines in its CRS, reading little more than they cover of it."""
    grid = whole(heatmap.geobox)
    drawn = transformed(np.array(outlines, object), ~heatmap.geobox.affine)
    sums = np.zeros((len(drawn), 4))
    there = np.flatnonzero(~shapely.is_empty(drawn))
    bounds = shapely.bounds(drawn)
    beside = there[~((bounds[there, :2] >= 0) & (bounds[there, 2:] <= (grid.width, grid.height))).all(1)]
    inside = shapely.clip_by_rect(drawn[beside], 0, 0, grid.width, grid.height)
    sums[beside, 0] = shapely.area(drawn[beside]) - shapely.area(inside)
    cells: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in there.tolist():
        middle = (bounds[row, :2] + bounds[row, 2:]) // (2 * _CELL_PX)
        cells[int(middle[0]), int(middle[1])].append(row)
    for rows in cells.values():
        together = _window(bounds[rows]).clip(grid)
        groups = [rows] if max(together.width, together.height) <= _READ_PX else [[row] for row in rows]
        for group in groups:
            ground = _window(bounds[group]).clip(grid)
            for part in tile((ground.height, ground.width), _READ_PX):
                window = Window(ground.col + part.col, ground.row + part.row, part.width, part.height)
                extent, _, valid = heatmap.read(window, label)
                for row in group:
                    sums[row] += _sums(drawn[row], _window(bounds[[row]]).clip(window), window, extent, valid)
    covered, seen, total, odds = sums.T
    return Evidence(*(np.divide(a, b, out=np.zeros_like(a), where=b > 0)
                      for a, b in ((seen, covered), (total, seen), (odds, seen))))  # fmt: skip


def _window(bounds: np.ndarray) -> Window:
    """Whole pixels that cover boxes (N, 4)."""
    (left, top), (right, bottom) = np.floor(bounds[:, :2].min(0)), np.ceil(bounds[:, 2:].max(0))
    return Window(int(left), int(top), max(1, int(right - left)), max(1, int(bottom - top)))


def _sums(
    outline: shapely.Geometry, own: Window, window: Window, extent: np.ndarray, valid: np.ndarray
) -> tuple[int, int, float, float]:
    """Pixels of an outline, those of them with data, and the sums of the class's probability and log odds on these.

    Args:
        outline: in pixels of the heatmap.
        own: the part of `window` that it lies in.
        window: what was read.
        extent: (H, W) of the window.
        valid: (H, W) of the window.
    """
    if not own.width or not own.height:
        return 0, 0, 0.0, 0.0
    where = Affine.translation(own.col, own.row)
    # of an outline thinner than a pixel, the pixels that it touches
    for touched in (False, True):
        burnt = rasterize([outline], (own.height, own.width), transform=where, all_touched=touched, dtype=np.uint8)
        if burnt.any():
            break
    part = own.slices(window)
    seen = burnt.astype(bool) & valid[part]
    values = extent[part][seen].astype(float)
    return int(burnt.sum()), len(values), float(values.sum()), float(log_odds(values).sum())

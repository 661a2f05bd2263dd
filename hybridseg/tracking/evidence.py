"""What a date's heatmap says of outlines: whether their ground was seen, and how much of it is the class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import shapely
from affine import Affine
from rasterio.features import rasterize

from hybridseg.heatmap import Heatmap
from hybridseg.read.tiles import tile
from hybridseg.types import Window

_BLOCK_PX = 2048


class Evidence(NamedTuple):
    """Of N outlines.

    seen: (N,) share of the outline with data.
    extent: (N,) mean probability of the class on what is seen; 0 where nothing is.
    """

    seen: np.ndarray
    extent: np.ndarray


def evidence(heatmap: Heatmap, label: str, outlines: Sequence[shapely.Geometry]) -> Evidence:
    """Return what a heatmap says of outlines in its CRS, reading no more of it than they cover."""
    sums = np.array([_sums(heatmap, label, outline) for outline in outlines], float).reshape(-1, 3)
    covered, seen, extent = sums.T
    return Evidence(
        np.divide(seen, covered, out=np.zeros_like(seen), where=covered > 0),
        np.divide(extent, seen, out=np.zeros_like(seen), where=seen > 0),
    )


def _sums(heatmap: Heatmap, label: str, outline: shapely.Geometry) -> tuple[float, float, float]:
    """Pixels of an outline, those of them with data, and the sum of the class's probability on these."""
    if outline.is_empty:
        return 0.0, 0.0, 0.0
    a, b, c, d, e, f = tuple(~heatmap.geobox.affine)[:6]
    drawn = shapely.transform(outline, lambda xy: np.column_stack([a * xy[:, 0] + b * xy[:, 1] + c,
                                                                   d * xy[:, 0] + e * xy[:, 1] + f]))  # fmt: skip
    left, top = np.floor(drawn.bounds[:2]).astype(int).tolist()
    right, bottom = np.ceil(drawn.bounds[2:]).astype(int).tolist()
    total = np.zeros(3)
    for part in tile((max(1, bottom - top), max(1, right - left)), _BLOCK_PX):
        window = Window(left + part.col, top + part.row, part.width, part.height)
        extent, _, valid = heatmap.read(window, label)
        where = Affine.translation(window.col, window.row)
        # of an outline thinner than a pixel, the pixels that it touches
        for touched in (False, True):
            inside = rasterize([drawn], extent.shape, transform=where, all_touched=touched, dtype=np.uint8).astype(bool)
            if inside.any():
                break
        total += inside.sum(), (inside & valid).sum(), extent[inside & valid].sum(dtype=float)
    return float(total[0]), float(total[1]), float(total[2])

"""What the refiner is told, in the same form when training and when extracting."""

from __future__ import annotations

import numpy as np

POINTS = 6
"""Points of every prompt, box corners included, padded with label -1. Fixed, because to SAM2 each padding is a token:
with another number of them a mask changes."""
SLOPE = 12.0
LIMIT = 8.0
DISC = 0.05
"""Radius of the disc that stands in for an object known by a point only, as a share of the image's side."""


def hint_logits(cover: np.ndarray) -> np.ndarray:
    """Mask logits from the share of each hint pixel that the support covers.

    cover: (..., h, w) in [0, 1]. Returns float32 in [-6, 6]: 0 on the outline, where the support is least sure.
    """
    return np.clip((cover.astype(np.float32) - 0.5) * SLOPE, -LIMIT, LIMIT)


def stand_in(points: np.ndarray, labels: np.ndarray, image_px: int) -> np.ndarray:
    """What to give for a support where there is none: the box filled, or else a disc around each positive point.

    For models that look at hints only (`needs_hint` in their card), as a small SAM2 does until it is trained for days.

    points: (N, P, 2) pixels of the model's image; labels: (N, P) as SAM2's. Returns cover (N, S/4, S/4) float32.
    """
    side = image_px // 4
    y, x = 4 * (np.mgrid[:side, :side] + 0.5)
    cover = np.zeros((len(points), side, side), np.float32)
    for shape, at, kinds in zip(cover, points, labels, strict=True):
        corners = at[(kinds == 2) | (kinds == 3)]
        if len(corners) == 2:
            (x0, y0), (x1, y1) = corners
            shape[(x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)] = 1
        else:
            for px, py in at[kinds == 1]:
                shape[np.hypot(x - px, y - py) <= image_px * DISC] = 1
    return cover

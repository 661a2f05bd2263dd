"""What the refiner is told, in the same form when training and when extracting."""

from __future__ import annotations

import numpy as np

POINTS = 6
"""Points of every prompt, box corners included, padded with label -1. Fixed, because to SAM2 each padding is a token:
with another number of them a mask changes."""
SLOPE = 12.0
LIMIT = 8.0


def hint_logits(cover: np.ndarray) -> np.ndarray:
    """Mask logits from the share of each hint pixel that the support covers.

    cover: (..., h, w) in [0, 1]. Returns float32 in [-6, 6]: 0 on the outline, where the support is least sure.
    """
    return np.clip((cover.astype(np.float32) - 0.5) * SLOPE, -LIMIT, LIMIT)

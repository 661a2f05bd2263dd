"""How a support becomes a mask hint: the same arithmetic when training and when extracting."""

from __future__ import annotations

import numpy as np

SLOPE = 12.0
LIMIT = 8.0


def hint_logits(cover: np.ndarray) -> np.ndarray:
    """Mask logits from the share of each hint pixel that the support covers.

    cover: (..., h, w) in [0, 1]. Returns float32 in [-6, 6]: 0 on the outline, where the support is least sure.
    """
    return np.clip((cover.astype(np.float32) - 0.5) * SLOPE, -LIMIT, LIMIT)

"""What the refiner is told about an object, in the same form when training and when extracting."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, field_serializer

from hybridseg.types import HINT_SLOPE, Settings

PromptPart = Literal["box", "points", "hint"]


class PromptSettings(Settings):
    """What the refiner is told about each object, and at what zoom it sees it."""

    parts: frozenset[PromptPart] = frozenset({"box", "points", "hint"})
    negatives: int = Field(3, ge=0, le=8, description="most points on touching neighbours")
    span: float = Field(0.3, gt=0.05, le=0.7, description="most of the window's side that an object's box may take")
    max_zoom: float = Field(4.0, ge=1, le=64, description="most that source pixels are enlarged for the refiner")
    windows: Literal["own", "shared"] = Field(
        "own",
        description="own: each object at the zoom that suits it; shared: through the first sweep's windows, encoded "
        "once for both, where classifier and refiner have one encoder; span and max_zoom do not count then",
    )

    @field_serializer("parts")
    def _in_order(self, parts: frozenset[str]) -> list[str]:
        return sorted(parts)  # a set's own order changes from process to process, and with it the fingerprint


def hint_logits(cover: np.ndarray) -> np.ndarray:
    """Return mask logits (..., h, w) float32, 0 on the outline, where the support is least sure.

    Args:
        cover: (..., h, w) share of each pixel that the support covers, in [0, 1].
    """
    return np.asarray((cover.astype(np.float32) - 0.5) * HINT_SLOPE)

"""The gate: a refined mask must earn its place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybridseg.theme import Gate

OFFSET = 1.0
"""Logits that the threshold is moved by, up and down, to see how stable a mask is (SAM's automatic mask generator)."""


@dataclass(frozen=True)
class Verdict:
    """Why a mask was kept or not.

    iou_pred: what the model expects; stability: IoU of the mask at two thresholds; agreement: IoU with the support.
    """

    iou_pred: float
    stability: float
    agreement: float
    kept: bool


def judge(logits: np.ndarray, support: np.ndarray, iou_pred: float, gate: Gate) -> Verdict:
    """Judge one mask. logits: (M, M) float32; support: (M, M) share covered, in [0, 1]."""
    mask, coarse = logits > 0, support >= 0.5
    stability = _share(logits > OFFSET, logits > -OFFSET)
    agreement = _share(mask & coarse, mask | coarse)
    kept = iou_pred >= gate.iou_pred and stability >= gate.stability and agreement >= gate.agreement
    return Verdict(float(iou_pred), stability, agreement, bool(kept))


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    """Pixels of one mask as a share of another's; 0 of nothing."""
    return float(part.sum() / max(1, whole.sum()))

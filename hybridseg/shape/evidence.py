"""How certain an outline is along its way: where the logits of its mask are steep, the border is sharp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from affine import Affine
from pyproj import CRS, Transformer
from scipy import ndimage

from hybridseg.shape.measure import same_turn

_BLUR_PX = 0.7
"""Deviation of the Gaussian that takes the noise of single pixels off the logits."""

_RANGE = (0.05, 2.0)
"""Least and greatest steepness, in medians of the object's outline."""


@dataclass(frozen=True)
class Evidence:
    """Logits of one object's mask on a grid: above 0 inside, below outside."""

    logits: np.ndarray
    """(H, W) of any float type; the object with a margin of some pixels is enough."""
    affine: Affine
    """From columns and rows (pixel corners at whole numbers) to the features' CRS."""

    def steepness(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return how fast the logits change per pixel at places (m,) in the features' CRS."""
        smooth = ndimage.gaussian_filter(self.logits.astype(np.float32), _BLUR_PX)
        steep = np.hypot(*np.gradient(smooth))
        col, row = ~self.affine @ (x, y)
        return np.asarray(ndimage.map_coordinates(steep, [row - 0.5, col - 0.5], order=1, mode="nearest"))


@dataclass(frozen=True)
class Certainty:
    """How certain outlines are, by the evidence of their objects."""

    evidence: Sequence[Evidence | None]
    """Of each object; None: everywhere alike."""
    crs: CRS
    """Of the places asked for."""
    own_crs: CRS
    """Of the evidence."""

    def of(self, rows: np.ndarray) -> Certainty:
        """Return the certainty of objects `rows` (k,) alone, numbered anew."""
        return replace(self, evidence=[self.evidence[row] for row in rows])

    def __call__(self, z: np.ndarray, of: np.ndarray) -> np.ndarray:
        """Return how certain the outlines of objects `of` (m,) are at places x + iy (m,): 1 at an object's median.

        It is the square of the steepness, for the error of a border is as the inverse of that.
        """
        x, y = Transformer.from_crs(self.crs, self.own_crs, always_xy=True).transform(z.real, z.imag)
        certain = np.ones(len(z))
        order = np.argsort(of, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(of[order])) + 1):
            evidence = self.evidence[of[rows[0]]] if len(rows) else None
            if evidence is not None:
                east = same_turn(x[rows], evidence.affine.c, self.own_crs)
                steep = evidence.steepness(east, y[rows])
                certain[rows] = np.clip(steep / max(np.median(steep), 1e-9), *_RANGE) ** 2
        return certain

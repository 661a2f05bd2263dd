"""Parts of one object put together: a fine watershed cuts roofs at ridges and shade, too, and borders say where.

What a dip of interior means depends on the ground around it: among huts of 4 m it is the gap between two of them, on a
hall of 30 m a ridge. No fixed blur or threshold fits both, so a logistic regression looks at each border between two
parts together with how large and how dense parts are nearby. Learnt merging of a watershed's parts is after
Nunez-Iglesias et al. (2013, PLoS ONE 8(8): e71715), here in one step.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy import ndimage as ndi
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hybridseg.types import Settings

_SIDE = 2.0
"""Side of a box, in `near_m`: two box blurs, one after the other, weigh ground by a cone that ends at that distance."""

_NARROW, _WIDE = 1 / 25, 2.2 / 25
"""Blurs of interior, in `near_m`: a gap between two objects outlasts the first, ground between rows the second."""


class Merging(Settings):
    """Weights of a logistic regression: two parts are one object where the weighted sum of their border is above 0.

    near_m: half of how far away the ground counts; about three objects.
    """

    near_m: float = Field(25.0, gt=0, le=2_000)
    constant: float
    saddle: float = Field(description="highest interior on the border, as a share of the lower of the two peaks")
    blurred: float = Field(description="the same of interior blurred by a 25th of `near_m`")
    wide: float = Field(description="highest interior on the border, blurred by an 11th of `near_m`")
    interior: float = Field(description="mean interior along the border")
    extent: float = Field(description="highest extent on the border")
    sizes: float = Field(description="natural logarithm of the smaller area as a share of the larger")
    width: float = Field(description="natural logarithm of the usual side of parts nearby, in m")
    cover: float = Field(description="share of the ground nearby that is inside parts")

    @property
    def reach_m(self) -> float:
        """How far away parts change whether two are merged."""
        return _SIDE * self.near_m

    def merged(
        self, labels: np.ndarray, extent: np.ndarray, interior: np.ndarray, valid: np.ndarray, pixel_m: float
    ) -> np.ndarray:
        """Return for each label (n + 1,) int32, 0 among them, the number of its object: 0 for 0, the others from 1 on.

        Args:
            labels: (h, w) int32, 0 none, 1 to n parts.
            extent: (h, w) float32 in [0, 1].
            interior: (h, w), the same.
            valid: (h, w) bool, where there is data.
            pixel_m: side of a pixel.
        """
        pairs, seen = borders(labels, extent, interior, valid, pixel_m, self.near_m)
        sums = self.constant + seen @ [getattr(self, name) for name in FIGURES]
        one, two = pairs[np.round(sums, 6) > 0].T
        count = int(labels.max()) + 1
        links = coo_array((np.ones(len(one)), (one, two)), shape=(count, count))
        group = connected_components(links, directed=False)[1]
        _, first, number = np.unique(group, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first)).astype(np.int32)[number]  # in the order of their first parts, so 0 stays 0


FIGURES = tuple(name for name in Merging.model_fields if name not in ("near_m", "constant"))
"""What is seen of a border, in the order of the columns of `borders`."""


def borders(
    labels: np.ndarray, extent: np.ndarray, interior: np.ndarray, valid: np.ndarray, pixel_m: float, near_m: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of parts that touch (m, 2) and the `FIGURES` of each border (m, 8); arguments as of `merged`."""
    area = np.bincount(labels.ravel()).astype(float) * pixel_m**2
    blurs = [interior, *(ndi.gaussian_filter(interior, share * near_m / pixel_m) for share in (_NARROW, _WIDE))]
    pairs, (saddle, narrow, wide, highest), mean = _along(labels, [*blurs, extent])
    parts = np.arange(len(area))
    peaks, narrow_peaks = (ndi.maximum(depth, labels, parts)[pairs].min(axis=1) for depth in blurs[:2])
    one, two = area[pairs].T
    width, cover = _nearby(labels, area, valid, pixel_m, near_m)
    middle = _middles(labels, len(area))[pairs].mean(axis=1).astype(int)
    figures = (
        saddle / np.maximum(peaks, _LEAST),
        narrow / np.maximum(narrow_peaks, _LEAST),
        wide,
        mean,
        highest,
        np.log(np.minimum(one, two) / np.maximum(one, two)),
        width[tuple(middle.T)],
        cover[tuple(middle.T)],
    )
    return pairs, np.stack(figures, axis=1)


_LEAST = 0.02
"""Least peak that a saddle is a share of: lower ones are noise."""


def _along(labels: np.ndarray, layers: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Return pairs of labels that touch (m, 2), the highest of each layer on their borders, and the mean of the first.

    Of two pixels across a border the lower one counts.
    """
    pairs, lower = [], []
    for axis in (0, 1):
        near, far = np.moveaxis(labels, axis, 0)[:-1], np.moveaxis(labels, axis, 0)[1:]
        met = (near > 0) & (far > 0) & (near != far)
        pairs.append(np.sort(np.stack([near[met], far[met]], axis=1), axis=1))
        sides = [(np.moveaxis(layer, axis, 0)[:-1][met], np.moveaxis(layer, axis, 0)[1:][met]) for layer in layers]
        lower.append(np.stack([np.minimum(*side) for side in sides], axis=1))
    found, number, count = np.unique(np.concatenate(pairs), axis=0, return_inverse=True, return_counts=True)
    values, number = np.concatenate(lower), number.ravel()
    highest = np.zeros((len(found), len(layers)))
    np.maximum.at(highest, number, values)
    return found, list(highest.T), np.bincount(number, values[:, 0], len(found)) / np.maximum(count, 1)


def _nearby(
    labels: np.ndarray, area: np.ndarray, valid: np.ndarray, pixel_m: float, near_m: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return (h, w) the logarithm of the usual side of parts around each pixel, by area, and the share they cover."""
    side_px = 2 * int(_SIDE * near_m / pixel_m / 2) + 1

    def around(values: np.ndarray) -> np.ndarray:
        for _ in range(2):
            values = ndi.uniform_filter(values.astype(float), side_px, mode="constant")
        return values

    inside = labels > 0
    covered = around(inside)
    sides = around(np.log(np.maximum(area, pixel_m**2))[labels] / 2 * inside)
    return sides / np.maximum(covered, 1e-6), covered / np.maximum(around(valid), 1e-6)


def _middles(labels: np.ndarray, count: int) -> np.ndarray:
    """Return the mean row and column (count, 2) of each label; those of 0 are 0."""
    rows, cols = np.nonzero(labels)
    number = labels[rows, cols]
    pixels = np.maximum(np.bincount(number, minlength=count), 1)
    return np.stack([np.bincount(number, at, count) / pixels for at in (rows, cols)], axis=1)

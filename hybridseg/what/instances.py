"""From a heatmap to objects: peaks of interior, and the watershed that gives each its support.

After the marker-controlled watershed of Meyer and Beucher (1990) on the learned interior, as in deep watershed
transform (Bai and Urtasun, CVPR 2017): touching objects come apart where the interior dips between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from hybridseg.theme import InstancePolicy


@dataclass(frozen=True)
class Objects:
    """Objects of one block.

    labels: (h, w) int32, 0 none, k = object k; peaks: (N, 2) int, row and column of each object's peak;
    score: (N,) mean extent inside the support; area_px: (N,).
    """

    labels: np.ndarray
    peaks: np.ndarray
    score: np.ndarray
    area_px: np.ndarray


def find_objects(extent: np.ndarray, interior: np.ndarray, policy: InstancePolicy, pixel_m: float) -> Objects:
    """Objects on a piece of heatmap.

    extent, interior: (h, w) float32 in [0, 1], 0 where there is no data; pixel_m: side of a heatmap pixel.
    """
    inside = extent >= policy.extent
    # quantised so that noise in the last bit of a float cannot move a peak
    depth = np.round(ndi.gaussian_filter(interior, policy.smooth_m / pixel_m) * inside * 255).astype(np.int16)
    # h-maxima (Soille 2003, 6.3.4): peaks that rise less than this above the saddle to a higher one drown in it.
    # skimage's own h_maxima gives every part of a peak that the dips inside it leave over.
    rise = max(1, round(policy.rise * 255))
    # no peak stands higher than `rise` above `join`: where the saddle between two reaches `join`, both drown in it
    drowned = reconstruction(np.minimum(depth, round(policy.join * 255) + rise) - rise, depth)
    markers, _ = ndi.label(local_maxima(drowned) & inside, structure=np.ones((3, 3)))
    tall = ndi.maximum(depth, markers, np.arange(markers.max() + 1)) >= max(1, policy.peak * 255)
    tall[0] = False
    count = int(np.count_nonzero(tall))
    markers = (np.cumsum(tall) * tall)[markers]
    labels = watershed(-depth, markers, mask=inside).astype(np.int32)
    if not count:
        return Objects(labels, np.zeros((0, 2), int), np.zeros(0), np.zeros(0))
    index = np.arange(1, count + 1)
    peaks = _deepest(depth, markers)
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    score = ndi.sum_labels(extent, labels, index) / np.maximum(area, 1)
    return Objects(labels, peaks, score, area)


def _deepest(depth: np.ndarray, markers: np.ndarray) -> np.ndarray:
    """(N, 2) row and column of each marker's highest pixel; of several, the first as one reads, in whatever block."""
    rows, cols = np.nonzero(markers)
    label = markers[rows, cols]
    order = np.lexsort((cols, rows, -depth[rows, cols], label))
    first = order[np.unique(label[order], return_index=True)[1]]
    return np.stack([rows[first], cols[first]], axis=1)


def touching(labels: np.ndarray, reach: int = 2) -> set[tuple[int, int]]:
    """Pairs (a, b), both ways, of labels that come within `reach` pixels of each other along a row or column."""
    pairs: set[tuple[int, int]] = set()
    for axis in (0, 1):
        for step in range(1, reach + 1):
            near, far = np.moveaxis(labels, axis, 0)[:-step], np.moveaxis(labels, axis, 0)[step:]
            met = (near > 0) & (far > 0) & (near != far)
            found = np.unique(np.stack([near[met], far[met]], axis=1), axis=0)
            pairs |= {(a, b) for a, b in found.tolist()} | {(b, a) for a, b in found.tolist()}
    return pairs

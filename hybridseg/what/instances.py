"""From a heatmap to objects: peaks of interior, and the watershed that gives each its support.

After the marker-controlled watershed of Meyer and Beucher (1990) on the learned interior, as in deep watershed
transform (Bai and Urtasun, CVPR 2017): touching objects come apart where the interior dips between them. Parts of one
object may be merged again, see `merging`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from pydantic import Field
from rasterio.features import shapes
from scipy import ndimage as ndi
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from hybridseg.rowfile import PackedRows
from hybridseg.tables import Prompts
from hybridseg.what.lattice import Block, Lattice, ObjectSettings, deepest, join_in_order, multiples
from hybridseg.what.merging import Merging

NEGATIVES = 8
"""Most neighbours whose peaks a prompt names; the refiner is told as many of them as the theme says."""


_NEARLY = 0.75
"""Thresholds this share away leave it open whether a dip in the heatmap is a border."""

_DOUBT = 1.1
"""So do log odds of merging within this: one in four to three in four."""


class Instances(ObjectSettings):
    """Discrete objects: peaks of interior, a watershed inside extent."""

    in_pieces = False
    counted = True

    kind: Literal["instances"] = "instances"
    extent: float = Field(0.5, gt=0, lt=1, description="a pixel is the class above this probability")
    peak: float = Field(0.3, ge=0, lt=1, description="least interior at an object's peak")
    rise: float = Field(0.1, ge=0, lt=1, description="least rise of a peak above the saddle to a higher one")
    join: float = Field(1.0, gt=0, le=1, description="peaks are one object where interior at the saddle reaches this")
    smooth_m: float = Field(0.5, ge=0, description="standard deviation of the blur of interior before peaks are sought")
    merge: Merging | None = Field(None, description="which parts that touch are one object, by weights of their border")
    min_area_m2: float = Field(6.0, ge=0)
    min_score: float = Field(0.5, ge=0, le=1, description="least mean extent inside a support")
    max_object_m: float = Field(
        150.0, gt=0, le=10_000, description="objects up to this size are found whole, whatever the blocks"
    )

    @property
    def reach_m(self) -> float:
        """One object around the extent, and what merges its parts."""
        return self.max_object_m + (0.0 if self.merge is None else self.merge.reach_m)

    def halo_px(self, lattice: Lattice) -> int:
        """So many that every object with its peak in the core is whole."""
        return int(np.ceil(self.reach_m / lattice.pixel_m))

    def find(self, block: Block, lattice: Lattice, label: str) -> gpd.GeoDataFrame:
        """Return the prompts whose peaks lie in a block's core."""
        objects = find_objects(block.extent, block.interior, self, lattice.pixel_m, block.valid)
        rows, cols = block.core.slices(block.window)
        y, x = objects.peaks.T
        mine = (y >= rows.start) & (y < rows.stop) & (x >= cols.start) & (x < cols.stop)
        mine &= objects.area_px * lattice.pixel_m**2 >= self.min_area_m2
        mine &= objects.score >= self.min_score
        affine = lattice.affine * Affine.translation(block.window.col, block.window.row)
        supports = _trace(objects.labels, np.flatnonzero(mine) + 1, affine)
        neighbours = _nearest_neighbours(objects, set(supports))
        records = []
        for number, support in supports.items():
            row, col = objects.peaks[number - 1].tolist()
            x0, y0 = affine * (col + 0.5, row + 0.5)
            away = [affine * (c + 0.5, r + 0.5) for r, c in neighbours[number]]
            identity = lattice.identity(label, block.window.col + col, block.window.row + row)
            score = float(objects.score[number - 1])
            positive = shapely.MultiPoint([(x0, y0)])
            records.append((identity, label, score, x0, y0, positive, shapely.MultiPoint(away), support))
        return Prompts.from_records(records, lattice.crs).rows

    def gather(self, parts: Sequence[PackedRows], lattice: Lattice, label: str) -> Prompts:
        """Return all blocks' prompts."""
        return join_in_order(parts, lattice.crs)

    def parting(self, sooner: bool) -> Instances:
        """Return the same for borders in doubt: they part objects where `sooner`, and join their parts where not."""
        if self.merge is not None:
            doubt = -_DOUBT if sooner else _DOUBT
            weights = self.merge.model_copy(update={"constant": self.merge.constant + doubt})
            return self.model_copy(update={"merge": weights})
        share = _NEARLY if sooner else 1 / _NEARLY
        return self.model_copy(update={"rise": min(1.0, self.rise * share), "join": min(1.0, self.join / share)})

    def choices(self) -> Mapping[str, Sequence[float]]:
        """Thresholds, and multiples of the lengths and areas at hand."""
        return {
            "min_score": (0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
            "rise": (0.04, 0.07, 0.1, 0.15, 0.22, 0.3),
            "join": (1.0, 0.5, 0.4, 0.3, 0.2),
            "extent": (0.3, 0.4, 0.5, 0.6, 0.7),
            "peak": (0.1, 0.2, 0.3, 0.4, 0.5),
            "smooth_m": multiples(self.smooth_m, (0.0, 0.5, 1.0, 2.0)),
            "min_area_m2": multiples(self.min_area_m2, (0.5, 1.0, 2.0, 4.0)),
        }


@dataclass(frozen=True)
class FoundObjects:
    """Objects of one block.

    labels: (h, w) int32, 0 none, k = object k.
    peaks: (N, 2) int, row and column of each object's peak.
    score: (N,) mean extent inside the support.
    area_px: (N,) pixels of the support.
    """

    labels: np.ndarray
    peaks: np.ndarray
    score: np.ndarray
    area_px: np.ndarray


def find_objects(
    extent: np.ndarray, interior: np.ndarray, policy: Instances, pixel_m: float, valid: np.ndarray | None = None
) -> FoundObjects:
    """Find the objects on a piece of heatmap.

    Args:
        extent: (h, w) float32 in [0, 1], 0 where there is no data.
        interior: (h, w), the same.
        policy: thresholds.
        pixel_m: side of a heatmap pixel.
        valid: (h, w) bool, where there is data; None: everywhere.
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
    labels: np.ndarray = watershed(-depth, markers, mask=inside).astype(np.int32)
    if not count:
        return FoundObjects(labels, np.zeros((0, 2), int), np.zeros(0), np.zeros(0))
    if policy.merge is not None:
        known = np.ones(labels.shape, bool) if valid is None else valid
        number = policy.merge.merged(labels, extent, interior, known, pixel_m)
        labels, markers, count = number[labels], number[markers], int(number.max())
    index = np.arange(1, count + 1)
    peaks = deepest(depth, markers)
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    score = ndi.sum_labels(extent, labels, index) / np.maximum(area, 1)
    return FoundObjects(labels, peaks, score, area)


def touching(labels: np.ndarray) -> set[tuple[int, int]]:
    """Return pairs (a, b), both ways, of labels within 2 pixels of each other along a row or column."""
    pairs: set[tuple[int, int]] = set()
    for axis in (0, 1):
        for step in (1, 2):
            near, far = np.moveaxis(labels, axis, 0)[:-step], np.moveaxis(labels, axis, 0)[step:]
            met = (near > 0) & (far > 0) & (near != far)
            found = np.unique(np.stack([near[met], far[met]], axis=1), axis=0)
            pairs |= {(a, b) for a, b in found.tolist()} | {(b, a) for a, b in found.tolist()}
    return pairs


def _nearest_neighbours(objects: FoundObjects, wanted: set[int]) -> dict[int, list[tuple[int, int]]]:
    """Row and column of the peaks of each object's touching neighbours, nearest first."""
    near: dict[int, list[int]] = {number: [] for number in wanted}
    for a, b in touching(objects.labels):
        if a in near:
            near[a].append(b)
    chosen = {}
    for number, others in near.items():
        peaks = objects.peaks[np.array(sorted(others), int) - 1]
        order = np.argsort(np.square(peaks - objects.peaks[number - 1]).sum(1), kind="stable")
        chosen[number] = [(int(r), int(c)) for r, c in peaks[order[:NEGATIVES]]]
    return chosen


def _trace(labels: np.ndarray, wanted: np.ndarray, affine: Affine) -> dict[int, shapely.Polygon]:
    """Outline of each wanted label along the pixel grid."""
    mask = np.isin(labels, wanted)
    traced = shapes(labels, mask=mask, connectivity=4, transform=affine)
    return {int(value): shapely.geometry.shape(geometry) for geometry, value in traced}

"""Objects of a map against objects of the truth: which were found, and how well their areas agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import harmonic_mean
from typing import TypeAlias

import geopandas as gpd
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

Geometries: TypeAlias = gpd.GeoSeries | np.ndarray | Sequence[BaseGeometry]


@dataclass(frozen=True)
class Match:
    """One-to-one pairs of predicted and true objects.

    pred, truth: (n,) int, positions of the pairs, best pair first.
    ious: (n,) float64, intersection over union of each pair.
    n_pred, n_truth: how many objects there were.
    """

    pred: np.ndarray
    truth: np.ndarray
    ious: np.ndarray
    n_pred: int
    n_truth: int

    @property
    def precision(self) -> float:
        """Share of predicted objects that are true ones."""
        return share(len(self.ious), self.n_pred, none_expected=self.n_truth == 0)

    @property
    def recall(self) -> float:
        """Share of true objects that were found."""
        return share(len(self.ious), self.n_truth, none_expected=self.n_pred == 0)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 for nothing against nothing."""
        return harmonic_mean([self.precision, self.recall])

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the pairs; without pairs 1 for nothing against nothing, else 0."""
        return share(float(self.ious.sum()), len(self.ious), none_expected=self.n_pred == self.n_truth == 0)


def share(part: float, whole: float, *, none_expected: bool) -> float:
    """`part` / `whole`; of nothing it is 1 when nothing was expected, else 0."""
    return part / whole if whole else float(none_expected)


def match(pred: Geometries, truth: Geometries, iou: float = 0.5) -> Match:
    """Pair predicted with true polygons of the same CRS whose intersection over union is at least `iou`.

    The best pair is taken first, then the best of what is left. Above 0.5 this is exact: among polygons that do not
    overlap one another an object then has one partner at most (Kirillov et al. 2019, Panoptic Segmentation, section 4).
    Where they do overlap, or below 0.5, best first still pairs what a person would pair; an optimal assignment would
    part a perfect pair to gain a second, poor one. Ties go to the lower positions. Invalid polygons are repaired.
    """
    pred, truth = _repaired(pred), _repaired(truth)
    first, second = shapely.STRtree(truth).query(pred, predicate="intersects")
    common = shapely.area(shapely.intersection(pred[first], truth[second]))
    union = shapely.area(pred[first]) + shapely.area(truth[second]) - common
    ious = np.divide(common, union, out=np.zeros_like(common), where=common > 0)

    order = np.lexsort((second, first, -ious))
    free_pred, free_truth = np.ones(len(pred), bool), np.ones(len(truth), bool)
    chosen = []
    for pair in order[ious[order] >= max(iou, np.finfo(float).tiny)]:
        if free_pred[first[pair]] and free_truth[second[pair]]:
            free_pred[first[pair]] = free_truth[second[pair]] = False
            chosen.append(pair)
    pairs = np.asarray(chosen, int)
    return Match(first[pairs], second[pairs], ious[pairs], len(pred), len(truth))


def area_iou(pred: Geometries, truth: Geometries) -> float:
    """Intersection over union of the ground covered, objects aside; 1 for nothing against nothing.

    The CRS is the same for both; units cancel, so in an equal-area one this is the share of the ground.
    """
    pred_ground, truth_ground = shapely.union_all(_repaired(pred)), shapely.union_all(_repaired(truth))
    common = shapely.intersection(pred_ground, truth_ground).area
    return share(common, pred_ground.area + truth_ground.area - common, none_expected=True)


def _repaired(geometries: Geometries) -> np.ndarray:
    """As a fresh (n,) object array of valid geometries."""
    array = np.array(geometries, dtype=object)
    invalid = ~shapely.is_valid(array) & ~shapely.is_missing(array)
    array[invalid] = shapely.make_valid(array[invalid], method="structure", keep_collapsed=False)
    return array

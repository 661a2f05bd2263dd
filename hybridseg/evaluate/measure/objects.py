"""Objects of a map against objects of the truth: which were found, and how well their areas agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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


@dataclass(frozen=True)
class Overlaps:
    """All pairs of a predicted and a true object that meet, each once.

    pred, truth: (m,) int, positions.
    common: (m,) float64, area in both (m2), 0 where they only touch.
    pred_area, truth_area: (n_pred,), (n_truth,) float64, area of every object (m2).
    """

    pred: np.ndarray
    truth: np.ndarray
    common: np.ndarray
    pred_area: np.ndarray
    truth_area: np.ndarray

    @cached_property
    def ious(self) -> np.ndarray:
        """Intersection over union of each pair, (m,) float64."""
        union = self.pred_area[self.pred] + self.truth_area[self.truth] - self.common
        return np.divide(self.common, union, out=np.zeros_like(self.common), where=self.common > 0)

    @property
    def of_pred(self) -> np.ndarray:
        """Share of each pair's predicted object that lies in the true one, (m,) float64."""
        return self.common / np.maximum(self.pred_area[self.pred], np.finfo(float).tiny)

    @property
    def of_truth(self) -> np.ndarray:
        """Share of each pair's true object that lies in the predicted one, (m,) float64."""
        return self.common / np.maximum(self.truth_area[self.truth], np.finfo(float).tiny)

    def where(self, chosen: np.ndarray) -> Overlaps:
        """Only the pairs chosen by a mask or by positions."""
        return Overlaps(self.pred[chosen], self.truth[chosen], self.common[chosen], self.pred_area, self.truth_area)


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
    return best_first(overlaps(repaired(pred), repaired(truth)), iou)


def overlaps(pred: np.ndarray, truth: np.ndarray) -> Overlaps:
    """Which valid polygons of (n_pred,) and (n_truth,) meet, and on how much ground."""
    first, second = shapely.STRtree(truth).query(pred, predicate="intersects")
    common = shapely.area(shapely.intersection(pred[first], truth[second]))
    return Overlaps(first, second, common, _area(pred), _area(truth))


def best_first(found: Overlaps, iou: float) -> Match:
    """The pairing that `match` describes, from overlaps at hand."""
    order = np.lexsort((found.truth, found.pred, -found.ious))
    order = order[found.ious[order] >= max(iou, np.finfo(float).tiny)]
    pairs = order[take_free(found.pred[order], found.truth[order])]
    sizes = len(found.pred_area), len(found.truth_area)
    return Match(found.pred[pairs], found.truth[pairs], found.ious[pairs], *sizes)


def take_free(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Walk down a list of pairs and take each whose two members are both still free.

    Args:
        first: (m,) int, one member of each pair, in the order of preference.
        second: (m,) int, the other member, numbered on its own.

    Returns:
        (m,) bool, the pairs taken.
    """
    if len(first) == 0:
        return np.zeros(0, bool)
    # A pair without rivals is taken whatever the order: mostly that is nearly all of them, and it needs no loop.
    taken = (np.bincount(first)[first] == 1) & (np.bincount(second)[second] == 1)
    free_first, free_second = np.ones(first.max() + 1, bool), np.ones(second.max() + 1, bool)
    for pair in np.flatnonzero(~taken):
        if free_first[first[pair]] and free_second[second[pair]]:
            free_first[first[pair]] = free_second[second[pair]] = False
            taken[pair] = True
    return taken


def area_iou(pred: Geometries, truth: Geometries) -> float:
    """Intersection over union of the ground covered, objects aside; 1 for nothing against nothing.

    The CRS is the same for both; units cancel, so in an equal-area one this is the share of the ground.
    """
    pred_ground, truth_ground = shapely.union_all(repaired(pred)), shapely.union_all(repaired(truth))
    common = shapely.intersection(pred_ground, truth_ground).area
    return share(common, pred_ground.area + truth_ground.area - common, none_expected=True)


def repaired(geometries: Geometries) -> np.ndarray:
    """As a fresh (n,) object array of valid geometries."""
    array = np.array(geometries, dtype=object)
    invalid = ~shapely.is_valid(array) & ~shapely.is_missing(array)
    array[invalid] = shapely.make_valid(array[invalid], method="structure", keep_collapsed=False)
    return array


def _area(geometries: np.ndarray) -> np.ndarray:
    return np.nan_to_num(shapely.area(geometries))  # missing ones have none

"""Objects of a map against objects of the truth: pairs by overlap, a verdict on each object, segmentation errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import harmonic_mean
from typing import NamedTuple, TypeAlias

import geopandas as gpd
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from hybridseg.read.vectors import repair

Geometries: TypeAlias = gpd.GeoSeries | np.ndarray | Sequence[BaseGeometry]

HIT, FALSE, MISSED, SPLIT, MERGED, IGNORED = "hit", "false", "missed", "split", "merged", "ignored"
"""Verdicts on an object."""

_HALF = 0.5
_TINY = np.finfo(float).tiny


@dataclass(frozen=True)
class Match:
    """One-to-one pairs of predicted and true objects. `+` appends those of another scene, positions counted on.

    Attributes:
        pred: (n,) int, positions of the predicted objects, best pair first within a scene.
        truth: (n,) int, positions of their partners.
        ious: (n,) float64, intersection over union of each pair.
        n_pred: number of predicted objects, paired or not.
        n_truth: number of true objects.
    """

    pred: np.ndarray
    truth: np.ndarray
    ious: np.ndarray
    n_pred: int
    n_truth: int

    def __add__(self, other: Match) -> Match:
        return Match(
            np.concatenate([self.pred, other.pred + self.n_pred]),
            np.concatenate([self.truth, other.truth + self.n_truth]),
            np.concatenate([self.ious, other.ious]),
            self.n_pred + other.n_pred,
            self.n_truth + other.n_truth,
        )

    @property
    def precision(self) -> float:
        """Share of predicted objects that have a partner."""
        return share(len(self.ious), self.n_pred, none_expected=self.n_truth == 0)

    @property
    def recall(self) -> float:
        """Share of true objects that have a partner."""
        return share(len(self.ious), self.n_truth, none_expected=self.n_pred == 0)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 where neither side has objects."""
        return harmonic_mean([self.precision, self.recall])

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the pairs; without pairs 1 where neither side has objects, else 0."""
        return share(float(self.ious.sum()), len(self.ious), none_expected=self.n_pred == self.n_truth == 0)


@dataclass(frozen=True)
class Overlaps:
    """All pairs of a predicted and a true object that meet, each pair once.

    Attributes:
        pred: (m,) int, positions of the predicted objects.
        truth: (m,) int, positions of the true objects.
        common: (m,) float64, area that both cover (m2), 0 where they only touch.
        pred_area: (n_pred,) float64, area of every predicted object (m2).
        truth_area: (n_truth,) float64, area of every true object (m2).
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
        return self.common / np.maximum(self.pred_area[self.pred], _TINY)

    @property
    def of_truth(self) -> np.ndarray:
        """Share of each pair's true object that lies in the predicted one, (m,) float64."""
        return self.common / np.maximum(self.truth_area[self.truth], _TINY)

    def where(self, chosen: np.ndarray) -> Overlaps:
        """Return only the pairs chosen by a mask or by positions."""
        return Overlaps(self.pred[chosen], self.truth[chosen], self.common[chosen], self.pred_area, self.truth_area)


def match(pred: Geometries, truth: Geometries, iou: float = 0.5) -> Match:
    """Pair predicted with true polygons of the same CRS whose intersection over union is at least `iou`.

    The best pair is taken first, then the best of those left. Above 0.5 the result is exact: among polygons that do not
    overlap one another, an object then has at most one possible partner (Kirillov et al. 2019, Panoptic Segmentation,
    section 4). Where polygons overlap, or below 0.5, an optimal assignment would give up a perfect pair to gain a
    second, poor one; best first keeps it. Ties go to the lower positions. Invalid polygons are repaired.
    """
    return best_first(overlaps(*map(_valid, (pred, truth))), iou)


def overlaps(pred: np.ndarray, truth: np.ndarray) -> Overlaps:
    """Find the valid polygons of (n_pred,) and (n_truth,) that meet, and measure the area that each pair shares."""
    first, second = shapely.STRtree(truth).query(pred, predicate="intersects")
    common = shapely.area(shapely.intersection(pred[first], truth[second]))
    return Overlaps(first, second, common, _area(pred), _area(truth))


def best_first(pairs: Overlaps, iou: float) -> Match:
    """Return the pairing described at `match`, from overlaps that are known already."""
    order = np.lexsort((pairs.truth, pairs.pred, -pairs.ious))
    order = order[pairs.ious[order] >= max(iou, _TINY)]
    taken = order[take_free(pairs.pred[order], pairs.truth[order])]
    sizes = len(pairs.pred_area), len(pairs.truth_area)
    return Match(pairs.pred[taken], pairs.truth[taken], pairs.ious[taken], *sizes)


def take_free(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Go through a list of pairs in order and take each pair whose two members are both still free.

    Args:
        first: (m,) int, one member of each pair, in the order of preference.
        second: (m,) int, the other member, numbered separately.

    Returns:
        (m,) bool, the pairs taken.
    """
    if len(first) == 0:
        return np.zeros(0, bool)
    # A pair without rivals is taken in any order. These are nearly all pairs, and they need no loop.
    taken = (np.bincount(first)[first] == 1) & (np.bincount(second)[second] == 1)
    free_first, free_second = np.ones(first.max() + 1, bool), np.ones(second.max() + 1, bool)
    for pair in np.flatnonzero(~taken):
        if free_first[first[pair]] and free_second[second[pair]]:
            free_first[first[pair]] = free_second[second[pair]] = False
            taken[pair] = True
    return taken


def verdicts(pairs: Overlaps, matched: Match, ignored: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return a verdict on each predicted and each true object, (n_pred,) and (n_truth,) text.

    Objects that count for nothing are "ignored"; the others are "hit", "split", "merged", or else "false" (predicted)
    and "missed" (true), the first of these that applies.

    "split" and "merged" follow Hoover et al. 1996 (An experimental comparison of range image segmentation algorithms)
    with a threshold of a half. A true object is split into two or more predicted ones that lie in it by half each and
    together cover half of it; true objects are merged in a predicted one that holds half of each and is covered by them
    by half.

    Args:
        pairs: overlaps of objects of the same class.
        matched: the hits, those of ignored objects included.
        ignored: (n_pred,) and (n_truth,) bool, objects that count for nothing. A predicted object that matches an
            ignored true one is ignored, too; one that matches a true object that counts is not.
    """
    part, split = _divided(pairs.truth, pairs.common, pairs.of_pred, pairs.truth_area)
    held, merging = _divided(pairs.pred, pairs.common, pairs.of_truth, pairs.pred_area)
    parts, merged = np.zeros(matched.n_pred, bool), np.zeros(matched.n_truth, bool)
    parts[pairs.pred[part]] = merged[pairs.truth[held]] = True
    hit_pred, hit_truth = np.zeros(matched.n_pred, bool), np.zeros(matched.n_truth, bool)
    hit_pred[matched.pred] = hit_truth[matched.truth] = True
    no_pred, no_truth = ignored[0] & ~hit_pred, ignored[1].copy()
    no_pred[matched.pred] = ignored[1][matched.truth]
    of_pred = np.select([no_pred, hit_pred, parts, merging], [IGNORED, HIT, SPLIT, MERGED], FALSE)
    of_truth = np.select([no_truth, hit_truth, split, merged], [IGNORED, HIT, SPLIT, MERGED], MISSED)
    return of_pred, of_truth


class Segmentation(NamedTuple):
    """Pairs of a true object and a segment (predicted object) that belongs to it.

    Attributes:
        truth: (m,) int, position of the true object.
        over: (m,) float64, share of the true object outside of the segment.
        under: (m,) float64, share of the segment outside of the true object.
    """

    truth: np.ndarray
    over: np.ndarray
    under: np.ndarray


def segmentation(pairs: Overlaps, pred: np.ndarray, truth: np.ndarray) -> Segmentation:
    """Over- and under-segmentation, 0 to 1, 0 is best; the figure of a layer is the mean over these pairs.

    Clinton et al. 2010 (Accuracy assessment measures for object-based image segmentation goodness): a segment belongs
    to a true object (their set Y*) if it holds the object's centroid, has its own centroid in the object, holds more
    than half of the object, or lies in it by more than half. An object without any such segment is not counted here,
    but lowers recall. The measure takes segments for a partition of the ground: objects of one layer that overlap one
    another belong to one another, too, so that such a layer does not score 0 even against itself.

    Args:
        pairs: overlaps of the two layers.
        pred: (n_pred,) polygons.
        truth: (n_truth,) polygons.
    """
    pairs = pairs.where(pairs.common > 0)
    one, two = pred[pairs.pred], truth[pairs.truth]
    belongs = (pairs.of_pred > _HALF) | (pairs.of_truth > _HALF)
    belongs |= shapely.intersects(one, shapely.centroid(two)) | shapely.intersects(two, shapely.centroid(one))
    pairs = pairs.where(belongs)
    return Segmentation(pairs.truth, (1 - pairs.of_truth).clip(0), (1 - pairs.of_pred).clip(0))


def common_and_union(pred: Geometries, truth: Geometries) -> tuple[float, float]:
    """Return the area covered by both layers and the area covered by either, each place counted once."""
    pred_cover, truth_cover = (shapely.union_all(_valid(side)) for side in (pred, truth))
    common = shapely.intersection(pred_cover, truth_cover).area
    return common, pred_cover.area + truth_cover.area - common


def area_iou(pred: Geometries, truth: Geometries) -> float:
    """Intersection over union of the area covered, objects disregarded; 1 where neither side has any.

    Both layers are in the same CRS; units cancel, so that in an equal-area CRS this is a share of the ground.
    """
    return share(*common_and_union(pred, truth), none_expected=True)


def share(part: float, whole: float, *, none_expected: bool) -> float:
    """Return `part` / `whole`; where `whole` is 0, 1 if nothing was expected, else 0."""
    return part / whole if whole else float(none_expected)


def _divided(
    whole: np.ndarray, common: np.ndarray, of_part: np.ndarray, whole_area: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the objects of one layer that several objects of the other divide among themselves.

    Args:
        whole: (m,) int, the object to be divided, of each pair of overlapping objects.
        common: (m,) float64, area that the pair shares.
        of_part: (m,) float64, share of the other object that lies in the first.
        whole_area: (n,) float64, area of the first layer's objects.

    Returns:
        (m,) bool, the pairs in which a part lies in such an object; (n,) bool, such objects.
    """
    inside = of_part >= _HALF
    count = np.bincount(whole[inside], minlength=len(whole_area))
    cover = np.bincount(whole[inside], common[inside], minlength=len(whole_area))
    divided = (count >= 2) & (cover >= _HALF * whole_area)
    return inside & divided[whole], divided


def _valid(geometries: Geometries) -> np.ndarray:
    return repair(np.asarray(geometries, dtype=object))


def _area(geometries: np.ndarray) -> np.ndarray:
    return np.nan_to_num(shapely.area(geometries))  # missing ones have none

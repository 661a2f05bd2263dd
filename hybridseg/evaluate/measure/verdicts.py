"""What became of each object: hit, false, missed, split or merged; and how much the map over- and under-segments."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import shapely

from hybridseg.evaluate.measure.objects import Match, Overlaps

HIT, FALSE, MISSED, SPLIT, MERGED, IGNORED = "hit", "false", "missed", "split", "merged", "ignored"
_HALF = 0.5


class Segmentation(NamedTuple):
    """Pairs of a reference object and a segment that belongs to it.

    truth: (m,) int, position of the reference object.
    over: (m,) float64, share of the reference object that the segment leaves out.
    under: (m,) float64, share of the segment that lies outside of the reference object.
    """

    truth: np.ndarray
    over: np.ndarray
    under: np.ndarray


def segmentation(found: Overlaps, pred: np.ndarray, truth: np.ndarray) -> Segmentation:
    """Over- and under-segmentation, 0 to 1, 0 is best; the measure of a layer is the mean of each.

    Clinton et al. 2010 (Accuracy assessment measures for object-based image segmentation goodness), whose set Y* of
    segments belongs to a reference object: those that hold its centroid, have their centroid in it, hold more than half
    of it, or have more than half of themselves in it. What has no such segment is not in the measure but in recall.
    Segments are taken for a partition of the ground, as there: objects of one layer that overlap each other belong to
    each other too, so that such a layer is not at 0 even against itself.

    Args:
        found: overlaps.
        pred: (n_pred,) polygons.
        truth: (n_truth,) polygons.
    """
    found = found.where(found.common > 0)
    one, two = pred[found.pred], truth[found.truth]
    belongs = (found.of_pred > _HALF) | (found.of_truth > _HALF)
    belongs |= shapely.intersects(one, shapely.centroid(two)) | shapely.intersects(two, shapely.centroid(one))
    found = found.where(belongs)
    return Segmentation(found.truth, (1 - found.of_truth).clip(0), (1 - found.of_pred).clip(0))


def split_and_merged(found: Overlaps) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Which objects are part of a split or a merger.

    As Hoover et al. 1996 (An experimental comparison of range image segmentation algorithms), at a threshold of a half:
    a reference object is split into two or more predicted ones that lie in it by half each and together cover half of
    it; it is merged with others in a predicted one that holds half of each and is covered by them by half.

    Returns:
        (n_pred,) bool, parts of a split; (n_pred,) bool, mergers; (n_truth,) bool, split; (n_truth,) bool, merged.
    """
    part, split = _groups(found.truth, found.common, found.of_pred, found.truth_area)
    held, merging = _groups(found.pred, found.common, found.of_truth, found.pred_area)
    parts, merged = np.zeros(len(found.pred_area), bool), np.zeros(len(found.truth_area), bool)
    parts[found.pred[part]] = True
    merged[found.truth[held]] = True
    return parts, merging, split, merged


def verdicts(found: Overlaps, matched: Match, ignored: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """One word for each predicted and each reference object, (n_pred,) and (n_truth,) text.

    Hits first; then "ignored" for what counts for nothing; then "split" and "merged"; the rest is "false" or "missed".
    """
    parts, merging, split, merged = split_and_merged(found)
    hit_pred, hit_truth = np.zeros(matched.n_pred, bool), np.zeros(matched.n_truth, bool)
    hit_pred[matched.pred] = hit_truth[matched.truth] = True
    no_pred, no_truth = ignored[0] & ~hit_pred, ignored[1].copy()
    no_pred[matched.pred] = ignored[1][matched.truth]
    of_pred = np.select([no_pred, hit_pred, parts, merging], [IGNORED, HIT, SPLIT, MERGED], FALSE)
    of_truth = np.select([no_truth, hit_truth, split, merged], [IGNORED, HIT, SPLIT, MERGED], MISSED)
    return of_pred, of_truth


def _groups(
    whole: np.ndarray, common: np.ndarray, of_part: np.ndarray, whole_area: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(pairs (m,) whose parts lie in a whole with other parts, wholes (n,) that are so divided)."""
    inside = of_part >= _HALF
    count = np.bincount(whole[inside], minlength=len(whole_area))
    cover = np.bincount(whole[inside], common[inside], minlength=len(whole_area))
    divided = (count >= 2) & (cover >= _HALF * whole_area)
    return inside & divided[whole], divided

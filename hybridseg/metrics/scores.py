"""Metrics of confidence scores: average precision, reliability curve and expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybridseg.metrics.bootstrap import mean_over_classes, ratio
from hybridseg.metrics.objects import Overlaps, take_free

IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU thresholds 0.50, 0.55, ... 0.95 of average precision."""
RECALLS = np.linspace(0, 1, 101)
"""Recalls at which precision is read."""
BINS = 10
"""Bins of the reliability curve, of equal width."""


@dataclass(frozen=True)
class Ranking:
    """Predicted objects of one class by falling score, with the outcome of each at every threshold of `IOUS`.

    Attributes:
        hits: (10, n) bool, true positives.
        wrong: (10, n) bool, false positives; an object that counts for nothing is neither.
        ends: (m,) int, position of the last object of each distinct score.
        scores: (m,) float64, the distinct scores, falling.
        blocks: (n,) int, block of each object.
        truths: (blocks,) float64, number of true objects in each block.
    """

    hits: np.ndarray
    wrong: np.ndarray
    ends: np.ndarray
    scores: np.ndarray
    blocks: np.ndarray
    truths: np.ndarray

    def average_precision(self, weights: np.ndarray | None = None, levels: int = len(IOUS)) -> np.ndarray:
        """COCO average precision at each IoU threshold, (levels,) float64; nan without true objects.

        Lin et al. 2014 and cocodataset.org/#detection-eval: precision made monotonic, read at 101 recalls, averaged;
        here without a limit on the number of objects. Objects of equal score enter together, so that the order of rows
        does not matter; COCO's own tool depends on it there.

        Args:
            weights: (blocks,) how often each block counts; default: once.
            levels: number of thresholds, from 0.5 up.
        """
        truths = self.truths.sum() if weights is None else weights @ self.truths
        if truths == 0:
            return np.full(levels, np.nan)
        return np.array([self._curve(level, weights, truths).mean() for level in range(levels)])

    def precisions(self) -> np.ndarray:
        """Precision at recalls 0, 0.01, ... 1 for IoU 0.5, (101,) float64."""
        return self._curve(0, None, max(self.truths.sum(), 1))

    def _curve(self, level: int, weights: np.ndarray | None, truths: float) -> np.ndarray:
        times = 1 if weights is None else weights[self.blocks]
        hits = np.cumsum(self.hits[level] * times)[self.ends]
        wrong = np.cumsum(self.wrong[level] * times)[self.ends]
        precision = np.nan_to_num(ratio(hits, hits + wrong))
        falling = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
        return np.asarray(falling[np.searchsorted(hits / truths, RECALLS)])


def rank(
    pairs: Overlaps,
    scores: np.ndarray,
    ignored: tuple[np.ndarray, np.ndarray],
    classes: tuple[np.ndarray, np.ndarray],
    blocks: tuple[np.ndarray, np.ndarray],
    n_classes: int,
    n_blocks: int,
) -> list[Ranking]:
    """Pair objects by score as COCO does, and return a ranking for each class.

    The object of highest score first takes the free true object that it overlaps most. An object that takes an ignored
    true object, or that takes none and is ignored itself, counts for nothing.

    Args:
        pairs: overlaps of objects of the same class.
        scores: (n_pred,) float64.
        ignored: (n_pred,) and (n_truth,) bool.
        classes: (n_pred,) and (n_truth,) int.
        blocks: (n_pred,) and (n_truth,) int.
        n_classes: number of classes.
        n_blocks: number of blocks.
    """
    outcomes = [_outcomes(pairs, scores, ignored, threshold) for threshold in IOUS]
    hits, wrong = (np.array(side) for side in zip(*outcomes, strict=True))
    rankings = []
    for number in range(n_classes):
        own = np.flatnonzero(classes[0] == number)
        own = own[np.argsort(-scores[own], kind="stable")]
        ends = np.append(np.flatnonzero(np.diff(scores[own])), len(own) - 1) if len(own) else np.zeros(0, int)
        truths = np.bincount(blocks[1][(classes[1] == number) & ~ignored[1]], minlength=n_blocks).astype(float)
        rankings.append(Ranking(hits[:, own], wrong[:, own], ends, scores[own][ends], blocks[0][own], truths))
    return rankings


def mean_average_precision(
    rankings: list[Ranking], weights: np.ndarray | None = None, levels: int = len(IOUS)
) -> np.ndarray:
    """Mean of `Ranking.average_precision` over the classes that the truth has, (levels,) float64."""
    return mean_over_classes(np.array([ranking.average_precision(weights, levels) for ranking in rankings]).T)


def reliability(scores: np.ndarray, hit: np.ndarray, groups: np.ndarray, n_groups: int, bins: int = BINS) -> np.ndarray:
    """Sum scores and hits by bin of score, for `reliability_curve` and `calibration_error`.

    Args:
        scores: (n,) float64, 0 to 1.
        hit: (n,) bool, whether each object is right.
        groups: (n,) int, keep the sums of these apart (blocks of ground).
        n_groups: number of groups.
        bins: number of bins of equal width; the last includes 1.

    Returns:
        (n_groups, bins, 3) float64: number, sum of scores, number of hits.
    """
    sums = np.zeros((n_groups, bins, 3))
    place = np.minimum((scores * bins).astype(int), bins - 1)
    np.add.at(sums, (groups, place), np.stack([np.ones(len(scores)), scores, hit], axis=-1))
    return sums


def reliability_curve(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (mean score, share of hits, number) of each bin from sums (bins, 3); nan for empty bins."""
    number = sums[..., 0]
    return ratio(sums[..., 1], number), ratio(sums[..., 2], number), number


def calibration_error(sums: np.ndarray) -> np.ndarray:
    """Expected calibration error from sums (..., bins, 3): mean gap between score and share of hits, 0 is best.

    Guo et al. 2017 (On calibration of modern neural networks); a bin weighs as the number of objects in it.
    """
    gaps = np.abs(sums[..., 1] - sums[..., 2]).sum(axis=-1)
    return ratio(gaps, sums[..., 0].sum(axis=-1))


def _outcomes(
    pairs: Overlaps, scores: np.ndarray, ignored: tuple[np.ndarray, np.ndarray], threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return which predicted objects are hits and which are wrong at one IoU threshold, (n_pred,) bool each."""
    order = np.lexsort((-pairs.ious, ignored[1][pairs.truth], -scores[pairs.pred]))
    order = order[pairs.ious[order] >= threshold]
    taken = order[take_free(pairs.pred[order], pairs.truth[order])]
    hit, wrong = np.zeros(len(scores), bool), ~ignored[0]
    hit[pairs.pred[taken]] = ~ignored[1][pairs.truth[taken]]
    wrong[pairs.pred[taken]] = False
    return hit, wrong

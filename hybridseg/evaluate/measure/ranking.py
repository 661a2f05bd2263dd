"""Average precision: how good the ranking by score is, over all thresholds at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybridseg.evaluate.measure.bootstrap import over_classes, ratio
from hybridseg.evaluate.measure.objects import Overlaps, take_free

IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""0.50, 0.55, ... 0.95."""
RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Ranking:
    """Predicted objects of one class from the surest down, at each IoU of `IOUS`.

    hits, wrong: (10, n) bool; an object may be neither, when it counts for nothing.
    ends: (m,) int, the last position of each distinct score.
    scores: (m,) float64, the distinct scores.
    blocks: (n,) int, the block of ground of each object.
    truths: (blocks,) float64, how many reference objects each block holds.
    """

    hits: np.ndarray
    wrong: np.ndarray
    ends: np.ndarray
    scores: np.ndarray
    blocks: np.ndarray
    truths: np.ndarray

    def average_precision(self, weights: np.ndarray | None = None, levels: int = len(IOUS)) -> np.ndarray:
        """Area under the curve of precision over recall at each IoU, (levels,) float64; nan without reference objects.

        COCO's: precision made to fall only, read at the 101 recalls 0, 0.01, ... 1 (Lin et al. 2014 and
        cocodataset.org/#detection-eval), with no limit on the number of objects. Objects of one score come in together,
        so the order of rows does not matter; COCO's own tool goes by it there.

        Args:
            weights: (blocks,) how often each block counts; default: once.
            levels: the first so many of `IOUS`.
        """
        truths = self.truths.sum() if weights is None else weights @ self.truths
        if truths == 0:
            return np.full(levels, np.nan)
        return np.array([self._curve(level, weights, truths).mean() for level in range(levels)])

    def precisions(self, level: int = 0) -> np.ndarray:
        """Precision at recalls 0, 0.01, ... 1, at one of `IOUS`, (101,) float64."""
        return self._curve(level, None, max(self.truths.sum(), 1))

    def _curve(self, level: int, weights: np.ndarray | None, truths: float) -> np.ndarray:
        times = 1 if weights is None else weights[self.blocks]
        hits = np.cumsum(self.hits[level] * times)[self.ends]
        wrong = np.cumsum(self.wrong[level] * times)[self.ends]
        precision = np.nan_to_num(ratio(hits, hits + wrong))
        falling = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
        return np.asarray(falling[np.searchsorted(hits / truths, RECALLS)])


def rank(
    found: Overlaps,
    scores: np.ndarray,
    ignored: tuple[np.ndarray, np.ndarray],
    classes: tuple[np.ndarray, np.ndarray],
    blocks: tuple[np.ndarray, np.ndarray],
    n_classes: int,
    n_blocks: int,
) -> list[Ranking]:
    """Pair by score, as COCO does: the surest object first takes the free reference object it overlaps most.

    What takes an ignored reference object, and what takes none but is ignored itself, counts for nothing.

    Args:
        found: overlaps of objects of one class each.
        scores: (n_pred,) float64.
        ignored: (n_pred,) and (n_ref,) bool.
        classes: (n_pred,) and (n_ref,) int.
        blocks: (n_pred,) and (n_ref,) int.
        n_classes: how many rankings to return.
        n_blocks: how many blocks there are.
    """
    states = [_states(found, scores, ignored, threshold) for threshold in IOUS]
    hits, wrong = np.array([hit for hit, _ in states]), np.array([bad for _, bad in states])
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
    """Mean of the classes that the reference has, at the first so many of `IOUS`, (levels,) float64."""
    return over_classes(np.array([ranking.average_precision(weights, levels) for ranking in rankings]).T)


def _states(
    found: Overlaps, scores: np.ndarray, ignored: tuple[np.ndarray, np.ndarray], threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """(n_pred,) bool each: hits, and false ones, at one IoU."""
    order = np.lexsort((-found.ious, ignored[1][found.truth], -scores[found.pred]))
    order = order[found.ious[order] >= threshold]
    taken = order[take_free(found.pred[order], found.truth[order])]
    hit, wrong = np.zeros(len(scores), bool), ~ignored[0]
    hit[found.pred[taken]] = ~ignored[1][found.truth[taken]]
    wrong[found.pred[taken]] = False
    return hit, wrong

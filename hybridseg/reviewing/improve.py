"""What would change of a map that nobody has looked at yet, once a classifier has learnt from the decisions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from hybridseg.metrics.objects import match
from hybridseg.reviewing.geopackage import FIGURES
from hybridseg.reviewing.objects import Object
from hybridseg.reviewing.order import was_right
from hybridseg.run.survey import Survey

SAME_IOU = 0.5
"""An object that is found again with this IoU stays as it is."""
MOVED_IOU = 0.2
"""One that is found again with this IoU gets the outline that was found."""
COVERED = 0.5
"""Share of the smaller of two outlines that the other covers, where both are one thing."""
LEAST_SORTED = 5
"""Right objects, and wrong ones, that it takes to tell them apart by their figures."""
DOUBTFUL = 0.3
"""Chance of being right below which an object goes: F1 gains by leaving out what is less likely than half of F1."""


@dataclass(frozen=True)
class Improvement:
    """What would change. Objects that a person decided on are never among it.

    changes: (as it is, as it would be); None before: a new object; its key is 0.
    kept: number of undecided objects that stay as they are.
    """

    changes: tuple[tuple[Object | None, Object], ...]
    kept: int

    @property
    def new(self) -> list[Object]:
        """Objects that would come."""
        return [after for before, after in self.changes if before is None or not before.present]

    @property
    def gone(self) -> list[Object]:
        """Objects that would go."""
        return [before for before, after in self.changes if before is not None and not after.present]

    @property
    def changed(self) -> list[Object]:
        """Objects that would get another outline."""
        return [after for before, after in self.changes if before is not None and before.present and after.present]


def found_anew(objects: Sequence[Object], survey: Survey) -> Improvement:
    """Return what a survey with another classifier finds differently. Only what differs is refined.

    Args:
        objects: all of the review.
        survey: of the same scene; its theme names the class.
    """
    label = survey.theme.label
    open_ = [one for one in objects if not one.decided and one.verdict != "proposed" and one.label == label]
    decided = _outlines([one for one in objects if one.decided])
    prompts = survey.prompts()
    prompts = prompts.take(~_covered(prompts.rows.geometry.to_numpy(), decided))
    there, found = _outlines(open_), prompts.rows.geometry.to_numpy()
    same = match(found, there, iou=SAME_IOU)
    fresh = np.setdiff1d(np.arange(len(found)), same.pred)
    fresh = fresh[~_covered(found[fresh], there[same.truth])]
    features = survey.features(survey.refine(prompts.take(fresh))).rows
    made = [
        Object(0, row.id, label, row.score, row.iou_pred, row.stability, row.agreement, row.geometry, row.origin)
        for row in features.itertuples(index=False)
    ]
    lost = np.setdiff1d(np.arange(len(there)), same.truth)
    moved = match(_outlines(made), there[lost], iou=MOVED_IOU)
    changes: list[tuple[Object | None, Object]] = []
    for new, old in zip(moved.pred.tolist(), lost[moved.truth].tolist(), strict=True):
        changes.append((open_[old], replace(made[new], key=open_[old].key, id=open_[old].id)))
    for old in np.setdiff1d(lost, lost[moved.truth]).tolist():
        changes.append((open_[old], replace(open_[old], verdict="withdrawn")))
    for old in same.truth.tolist():
        if not open_[old].present:
            changes.append((open_[old], replace(open_[old], verdict="unseen")))
    changes += [(None, made[new]) for new in np.setdiff1d(np.arange(len(made)), moved.pred).tolist()]
    changes = [(before, after) for before, after in changes if before is None or before.present or after.present]
    return Improvement(tuple(changes), sum(open_[old].present for old in same.truth.tolist()))


def sorted_out(objects: Sequence[Object], before: Mapping[int, Object], label: str) -> Improvement:
    """Return which undecided objects would go, as they resemble those that a person found wrong.

    A logistic regression of right and wrong on the figures of an object and its size; too few of either: none goes.

    Args:
        objects: all of the review.
        before: objects of the extraction, by key.
        label: the class.
    """
    judged = [one for one in objects if one.decided and one.key in before and before[one.key].label == label]
    open_ = [one for one in objects if one.verdict == "unseen" and one.label == label]
    right = np.array([was_right(before[one.key], one) for one in judged], bool)
    if min(right.sum(), (~right).sum()) < LEAST_SORTED or not open_:
        return Improvement((), len(open_))
    known, asked = _figures([before[one.key] for one in judged]), _figures(open_)
    known, asked = (np.where(np.isnan(x), np.nan_to_num(np.nanmedian(known, axis=0)), x) for x in (known, asked))
    scale = StandardScaler().fit(known)
    model = LogisticRegression(C=1.0).fit(scale.transform(known), right)
    chance = model.predict_proba(scale.transform(asked))[:, 1]
    pairs = zip(open_, chance.tolist(), strict=True)
    gone = [(one, replace(one, verdict="withdrawn")) for one, share in pairs if share < DOUBTFUL]
    return Improvement(tuple(gone), len(open_) - len(gone))


def _figures(objects: Sequence[Object]) -> np.ndarray:
    """(N, 5): the figures of an object, and the logarithm of its area."""
    return np.array(
        [[*(getattr(one, name) for name in FIGURES), math.log(max(one.geometry.area, 1e-12))] for one in objects], float
    )


def _outlines(objects: Sequence[Object]) -> np.ndarray:
    return np.array([one.geometry for one in objects], dtype=object)


def _covered(shapes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) bool, which shapes are one thing with one of others, by the share of the smaller of both."""
    covered = np.zeros(len(shapes), bool)
    own, other = shapely.STRtree(others).query(shapes, "intersects")
    common = shapely.area(shapely.intersection(shapes[own], others[other]))
    least = np.minimum(shapely.area(shapes[own]), shapely.area(others[other]))
    covered[own[common >= COVERED * least]] = True
    return covered

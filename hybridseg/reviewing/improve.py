"""What the machine would change of a map that nobody has decided on: found anew, missing, or grouped otherwise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import geopandas as gpd
import numpy as np
import shapely

from hybridseg.heatmap import Heatmap
from hybridseg.metrics.objects import match
from hybridseg.reviewing.geopackage import single
from hybridseg.reviewing.objects import Object
from hybridseg.run.survey import Survey
from hybridseg.tables import Prompts
from hybridseg.what import Instances

SAME_IOU = 0.5
"""An object that is found again with this IoU stays as it is."""
MOVED_IOU = 0.2
"""One that is found again with this IoU gets the outline that was found."""
COVERED = 0.5
"""Share of the smaller of two outlines that the other covers, where both are one thing."""
FAINT = 0.5
"""Share of a theme's thresholds at which something may be missing."""
WITHIN = 0.8
"""Share of a smaller outline that must lie in a larger one to be a part of it."""
MOST = 4
"""Parts of one object; where more would be one, it is the ground that runs together and not the objects."""


@dataclass(frozen=True)
class Improvement:
    """What would change. Objects that a person decided on are never among it.

    changes: (as it is, as it would be); None before: a new object; its key is 0.
    kept: number of undecided objects that stay as they are.
    """

    changes: tuple[tuple[Object | None, Object], ...]
    kept: int

    def free_of(self, objects: Sequence[Object]) -> list[tuple[Object | None, Object]]:
        """Return the changes without new objects where a person has decided on one meanwhile.

        Args:
            objects: all of the review, as they are now.
        """
        fresh = [after for before, after in self.changes if before is None]
        taken = covered(outlines(fresh), outlines([one for one in objects if one.decided]))
        left = [(None, after) for after, gone in zip(fresh, taken.tolist(), strict=True) if not gone]
        return [*(pair for pair in self.changes if pair[0] is not None), *left]

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
    open_ = [one for one in objects if not one.decided and one.verdict != "declined" and one.label == label]
    decided = outlines([one for one in objects if one.decided])
    prompts = survey.prompts()
    prompts = prompts.take(~covered(prompts.rows.geometry.to_numpy(), decided))
    there, found = outlines(open_), prompts.rows.geometry.to_numpy()
    same = match(found, there, iou=SAME_IOU)
    fresh = np.setdiff1d(np.arange(len(found)), same.pred)
    fresh = fresh[~covered(found[fresh], there[same.truth])]
    made = _made(survey, prompts.take(fresh))
    lost = np.setdiff1d(np.arange(len(there)), same.truth)
    moved = match(outlines(made), there[lost], iou=MOVED_IOU)
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


def missing(objects: Sequence[Object], survey: Survey, heatmap: Heatmap) -> Improvement:
    """Return what may be missing: objects that the heatmap shows more faintly than the theme asks, where there is none.

    Args:
        objects: all of the review, of any class; what a person rejected is not proposed again.
        survey: of the same scene; its theme names the class.
        heatmap: of the survey.
    """
    policy = survey.theme.objects
    faint = policy.model_copy(update={name: FAINT * getattr(policy, name) for name in ("extent", "peak", "min_score")})
    looking = replace(survey, theme=survey.theme.model_copy(update={"objects": faint}))
    prompts = looking.prompts(heatmap)
    known = outlines([one for one in objects if one.verdict not in ("withdrawn", "declined")])
    prompts = prompts.take(~covered(prompts.rows.geometry.to_numpy(), known))
    made = _made(looking, prompts)
    made = [one for one, taken in zip(made, covered(outlines(made), known).tolist(), strict=True) if not taken]
    return Improvement(tuple((None, replace(one, verdict="proposed")) for one in made), 0)


def _made(survey: Survey, prompts: Prompts) -> list[Object]:
    """Objects of prompts, refined."""
    return objects_from(survey.features(survey.refine(prompts)).rows, survey.theme.label)


def objects_from(rows: gpd.GeoDataFrame, label: str) -> list[Object]:
    """Return features of a class as objects that have no key yet."""
    return [
        Object(
            0, row.id, label, row.score, row.iou_pred, row.stability, row.agreement,
            single(row.geometry), row.origin,
        )
        for row in rows.itertuples(index=False)
    ]  # fmt: skip


def outlines(objects: Sequence[Object]) -> np.ndarray:
    """Return the outlines (N,) of objects."""
    return np.array([one.geometry for one in objects], dtype=object)


def covered(shapes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return (N,) bool, which shapes are one thing with one of others, by the share of the smaller of both."""
    taken = np.zeros(len(shapes), bool)
    own, other = shapely.STRtree(others).query(shapes, "intersects")
    common = shapely.area(shapely.intersection(shapes[own], others[other]))
    least = np.minimum(shapely.area(shapes[own]), shapely.area(others[other]))
    taken[own[common >= COVERED * least]] = True
    return taken


def regrouped(objects: Sequence[Object], survey: Survey, heatmap: Heatmap) -> list[Object]:
    """Return proposed unions and parts of objects that nobody has decided on; `parents` are the ids they would replace.

    Objects are found again where borders in doubt part them sooner and later than the theme says
    (`Instances.parting`). Where that makes one object of several, or several of one, and SAM2's masks pass the gate, it
    is proposed; but not what was proposed before.

    Args:
        objects: all of the review.
        survey: of the same scene; its theme names the class and has peaks.
        heatmap: of the survey.
    """
    open_ = [one for one in objects if one.verdict == "unseen" and one.label == survey.theme.label]
    known = {frozenset(one.parents) for one in objects if one.parents}
    drawn = outlines(open_)
    made = list[Object]()
    unions = _found(survey, heatmap, sooner=False)
    groups = {
        support: names
        for support, parts in _parts_of(unions.rows.geometry.to_numpy(), drawn).items()
        if frozenset(names := tuple(open_[part].id for part in parts)) not in known
    }
    made += [replace(one, parents=groups[at]) for at, one in _refined(survey, unions, list(groups)).items()]
    pieces = _found(survey, heatmap, sooner=True)
    cuts = {
        (open_[whole].id,): parts
        for whole, parts in _parts_of(drawn, pieces.rows.geometry.to_numpy()).items()
        if frozenset([open_[whole].id]) not in known
    }
    found = _refined(survey, pieces, [part for parts in cuts.values() for part in parts])
    for whole, parts in cuts.items():
        sound = [found[part] for part in parts if part in found]
        made += [replace(one, parents=whole) for one in sound if len(sound) > 1]
    return [replace(one, verdict="proposed") for one in made]


def _found(survey: Survey, heatmap: Heatmap, sooner: bool) -> Prompts:
    """What is found where borders in doubt part objects sooner, or later, than the theme says."""
    policy = survey.theme.objects
    assert isinstance(policy, Instances)
    looking = replace(survey, theme=survey.theme.model_copy(update={"objects": policy.parting(sooner)}))
    return looking.prompts(heatmap)


def _refined(survey: Survey, prompts: Prompts, chosen: Sequence[int]) -> dict[int, Object]:
    """The objects of some prompts, by number, whose masks passed the gate."""
    asked = prompts.take(np.array(chosen, int))
    made = objects_from(survey.features(survey.refine(asked)).rows, survey.theme.label)
    refined = {one.id: one for one in made if one.origin == "refined"}
    names = zip(chosen, asked.rows["id"], strict=True)
    return {number: refined[name] for number, name in names if name in refined}


def _parts_of(wholes: np.ndarray, parts: np.ndarray) -> Mapping[int, list[int]]:
    """The parts of each of the wholes that has several, which cover the larger part of it."""
    whole, part = shapely.STRtree(parts).query(wholes, "intersects")
    shared = shapely.area(shapely.intersection(wholes[whole], parts[part]))
    inside = shared >= WITHIN * shapely.area(parts[part])
    found, held = defaultdict[int, list[int]](list), defaultdict[int, float](float)
    for at, one, area in zip(whole[inside].tolist(), part[inside].tolist(), shared[inside].tolist(), strict=True):
        found[at].append(one)
        held[at] += area
    return {at: ones for at, ones in found.items() if 2 <= len(ones) <= MOST and held[at] >= COVERED * wholes[at].area}

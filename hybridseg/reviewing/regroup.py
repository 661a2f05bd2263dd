"""Proposals of other groupings: neighbours that may be one object, and objects that may be several."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import shapely

from hybridseg.heatmap import Heatmap
from hybridseg.reviewing.improve import COVERED, objects_from, outlines
from hybridseg.reviewing.objects import Object
from hybridseg.run.survey import Survey
from hybridseg.tables import Prompts

NEARLY = 0.75
"""Thresholds this share away from the theme's still leave it open whether a dip in the heatmap is a border."""
WITHIN = 0.8
"""Share of a smaller outline that must lie in a larger one to be a part of it."""
MOST = 4
"""Parts of one object; where more would be one, it is the ground that runs together and not the objects."""


def regrouped(objects: Sequence[Object], survey: Survey, heatmap: Heatmap) -> list[Object]:
    """Return proposed unions and parts of objects that nobody has decided on; `parents` are the ids they would replace.

    An object is found again with the dips between peaks that part objects, `rise` and `join` of the theme, a quarter
    less and a quarter more strict. Where that makes one object of several, or several of one, and SAM2's masks pass the
    gate, it is proposed; but not what was proposed before.

    Args:
        objects: all of the review.
        survey: of the same scene; its theme names the class and has peaks.
        heatmap: of the survey.
    """
    open_ = [one for one in objects if one.verdict == "unseen" and one.label == survey.theme.label]
    known = {frozenset(one.parents) for one in objects if one.parents}
    drawn = outlines(open_)
    made = list[Object]()
    unions = _found(survey, heatmap, join=NEARLY, rise=1 / NEARLY)
    groups = {
        support: names
        for support, parts in _parts_of(unions.rows.geometry.to_numpy(), drawn).items()
        if frozenset(names := tuple(open_[part].id for part in parts)) not in known
    }
    made += [replace(one, parents=groups[at]) for at, one in _refined(survey, unions, list(groups)).items()]
    pieces = _found(survey, heatmap, join=1 / NEARLY, rise=NEARLY)
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


def _found(survey: Survey, heatmap: Heatmap, **times: float) -> Prompts:
    """What is found with so many times the theme's thresholds of dips between peaks."""
    policy = survey.theme.objects
    dips = {name: min(1.0, share * getattr(policy, name)) for name, share in times.items()}
    looking = replace(survey, theme=survey.theme.model_copy(update={"objects": policy.model_copy(update=dips)}))
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

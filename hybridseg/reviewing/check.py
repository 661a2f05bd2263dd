"""Hold a layer that came from elsewhere against imagery: what is there, lies elsewhere, is not shown, is lacking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from hybridseg.errors import ReviewError
from hybridseg.heatmap import Heatmap
from hybridseg.metrics.objects import match
from hybridseg.read.prompts import read_prompts
from hybridseg.read.scene import Scene
from hybridseg.read.vectors import repair
from hybridseg.reviewing.difference import ALIKE, Likeness, in_metres, likeness
from hybridseg.reviewing.findings import Finding, Said
from hybridseg.reviewing.geopackage import single
from hybridseg.reviewing.improve import MOVED_IOU, SAME_IOU, covered, objects_from, outlines
from hybridseg.reviewing.objects import Object
from hybridseg.run.survey import Survey
from hybridseg.shape.geometry import iou
from hybridseg.tables import FIGURES, Refined
from hybridseg.what.evidence import SEEN, STILL_THERE, evidence

REACH_M = 8.0
"""How far an object's middle may lie from that of what shows it."""
CLICKED = 0.6
"""IoU of an outline with what SAM2 draws of a click in its middle alone, from which on imagery shows it, too."""
GONE, HINTED = 0.2, 0.1
"""Mean probability of the class on its ground below which what was not found is gone, and below which no click counts.
"""
SMALL_PX = 150
"""Of an object of fewer pixels it says nothing that it was not found."""
AGREES = 0.7
"""IoU of SAM2's mask with an outline from which on imagery shows it, though it was found as one with a neighbour."""


def on_scene(objects: Sequence[Object], scene: Scene, layer: Any) -> list[Object]:
    """Return the objects that touch a scene, numbered anew: an extract often reaches further.

    Args:
        objects: of the layer, in the scene's CRS.
        scene: the imagery.
        layer: what messages call it.

    Raises:
        ReviewError: none does.
    """
    if not objects:
        raise ReviewError(f"{layer} holds no object that could be held against imagery; give another layer")
    ground = scene.geobox.extent.geom
    shapely.prepare(ground)
    kept = [one for one in objects if ground.intersects(one.geometry)]
    if not kept:
        raise ReviewError(
            f"none of the {len(objects)} objects of {layer} lies on {scene.name}; check the CRS of both, or give "
            "another scene"
        )
    return [replace(one, key=key) for key, one in enumerate(kept, 1)]


def check(objects: Sequence[Object], surveys: Sequence[Survey]) -> tuple[list[Object], list[Finding]]:
    """Return a layer's objects with scores, then what it lacks as proposals, and what imagery says of each.

    Objects count as the class of the first survey where none of the layer's classes is looked for; else those of
    classes that are not looked for stay unknown.

    Args:
        objects: of the layer, by key from 1 on.
        surveys: of the scene, one for each class that is looked for.

    Raises:
        HybridsegError: a model cannot be had, or every window failed.
    """
    labels = [survey.theme.label for survey in surveys]
    if not any(one.label in labels for one in objects):
        objects = [replace(one, label=labels[0]) for one in objects]
    scored = {one.key: one for one in objects}
    findings = {one.key: Finding(one.key, "unknown", 0.0) for one in objects}
    lacking: list[Object] = []
    for survey in surveys:
        mine = [one for one in objects if one.label == survey.theme.label]
        made, said, new = _checked(mine, survey)
        scored |= {one.key: one for one in made}
        findings |= {one.key: one for one in said}
        lacking += new
    taken = {one.id for one in objects}
    for key, one in enumerate(lacking, len(objects) + 1):
        name = one.id if one.id not in taken else f"{one.id}#{key}"
        scored[key] = replace(one, key=key, id=name, verdict="proposed")
        findings[key] = Finding(key, "added", one.score)
    return list(scored.values()), list(findings.values())


def _checked(objects: Sequence[Object], survey: Survey) -> tuple[list[Object], list[Finding], list[Object]]:
    """The objects of one class with their figures, what is said of each, and what is found besides."""
    label, scene = survey.theme.label, survey.scene
    steps = survey.steps()
    found = objects_from(steps.features.rows, label)
    if not objects:
        return [], [], found
    assert steps.heatmap is not None
    drawn, shown = repair(outlines(objects)), outlines(found)
    said = evidence(steps.heatmap, label, list(drawn))
    in_view = np.flatnonzero(said.seen >= SEEN)
    masks = _refined(survey, objects, drawn, in_view)
    figures = np.full((len(drawn), len(FIGURES)), np.nan)
    figures[in_view] = masks.rows[list(FIGURES)].to_numpy(float)
    scores = np.where(said.seen >= SEEN, said.extent, np.nan)
    scored = [
        replace(one, score=score, iou_pred=row[0], stability=row[1], agreement=row[2])
        for one, score, row in zip(objects, scores.tolist(), figures.tolist(), strict=True)
    ]
    own, other, alike = _matched(drawn, shown, scene)
    places = np.full(len(drawn), None, object)
    origins = np.full(len(drawn), "refined", object)
    agrees = figures[:, FIGURES.index("agreement")]
    # one outline over several objects: the refiner, asked for each, tells them apart
    apart = (alike.iou < SAME_IOU) & (agrees[own] >= AGREES) & (said.extent[own] >= STILL_THERE)
    differs = alike.moved(scene) | ((alike.iou < SAME_IOU) & ~apart)
    places[own[differs]] = shown[other[differs]]
    origins[own[differs]] = [found[at].origin for at in other[differs].tolist()]
    best = np.nan_to_num(agrees)
    best[own] = np.maximum(best[own], alike.iou)
    lone = np.setdiff1d(in_view, own)
    strayed = np.isin(in_view, lone)
    strayed &= _strays(masks, drawn[in_view], shown[other], steps.heatmap, survey)
    places[in_view[strayed]] = masks.rows.geometry.to_numpy()[strayed]
    elsewhere = ~shapely.is_missing(places)
    whole = np.where(elsewhere, places, drawn)
    to = likeness(in_metres(drawn, scene), in_metres(whole, scene))
    moved = to.moved(scene)
    doubtful = np.isin(np.arange(len(drawn)), lone) & ~elsewhere & (said.extent < STILL_THERE)
    small = doubtful & (shapely.area(drawn) < SMALL_PX * abs(scene.geobox.affine.determinant))
    clicked = _clicked(survey, objects, drawn, np.flatnonzero(doubtful & ~small & (said.extent >= HINTED)))
    best = np.maximum(best, clicked)
    doubtful &= clicked < CLICKED
    gone = doubtful & ~small & (said.extent < GONE)
    findings = []
    for at, one in enumerate(objects):
        if said.seen[at] < SEEN:
            findings.append(Finding(one.key, "unknown", 0.0))
        elif doubtful[at]:
            findings.append(Finding(one.key, "removed" if gone[at] else "unknown", 1 - float(said.extent[at])))
        elif elsewhere[at]:
            what: Said = "moved" if moved[at] else "changed"
            place = single(places[at])
            findings.append(Finding(one.key, what, 1 - float(to.iou[at]), float(to.shift_m[at]), place, origins[at]))
        else:
            findings.append(Finding(one.key, "kept", 1 - float(best[at])))
    free, hidden = np.setdiff1d(np.arange(len(found)), other), said.seen < SEEN
    free = free[~covered(shown[free], whole[~gone & ~hidden])]
    in_part = shapely.intersection(
        whole[hidden], scene.geobox.extent.geom
    )  # what reaches beyond may be a whole country
    free = np.delete(free, match(shown[free], in_part, iou=MOVED_IOU).pred)
    return scored, findings, [found[at] for at in free.tolist()]


def _matched(drawn: np.ndarray, shown: np.ndarray, scene: Scene) -> tuple[np.ndarray, np.ndarray, Likeness]:
    """Pairs of an object and what shows it, one to one: those that overlap, and those of one shape near by.

    Of all pairings that with the most likeness: in a row of like houses that are shifted, each lies on its neighbour's
    place, and the best pair first would leave the last one without any.
    """
    old, new = in_metres(drawn, scene), in_metres(shown, scene)
    own, other = shapely.STRtree(new).query(old, "dwithin", distance=REACH_M)
    alike = likeness(old[own], new[other])
    near = alike.shift_m / REACH_M
    rated = (alike.iou >= MOVED_IOU) | ((alike.fit >= ALIKE) & (near <= 1))
    own, other, alike = own[rated], other[rated], Likeness(*(part[rated] for part in alike))
    gain = alike.iou + alike.fit * (1 - near[rated].clip(0, 1))
    lone = np.arange(len(drawn))  # each may also have no partner, at no gain
    rows, columns = np.concatenate([own, lone]), np.concatenate([other, len(shown) + lone])
    price = np.concatenate([3 - gain, np.full(len(drawn), 3.0)])
    partner = min_weight_full_bipartite_matching(csr_array((price, (rows, columns))))[1]
    taken = partner[own] == other
    return own[taken], other[taken], Likeness(*(part[taken] for part in alike))


def _refined(survey: Survey, objects: Sequence[Object], drawn: np.ndarray, rows: np.ndarray) -> Refined:
    """What the refiner makes of some of the outlines, in the order of `rows`."""
    asked = gpd.GeoDataFrame(
        {"id": [str(objects[row].key) for row in rows.tolist()], "class": survey.theme.label},
        geometry=drawn[rows],
        crs=survey.scene.crs,
    )
    prompts = read_prompts(asked, [survey.theme.label], survey.scene).prompts
    return survey.refine(prompts)


def _clicked(survey: Survey, objects: Sequence[Object], drawn: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """IoU (N,) of outlines with what the refiner draws of a point inside each, without knowing of the outline.

    Args:
        survey: of the scene.
        objects: N of them.
        drawn: (N,) their outlines.
        rows: which are asked for; 0 for all others.
    """
    found = np.zeros(len(drawn))
    if len(rows):
        prompts = survey.theme.prompts.model_copy(update={"parts": frozenset({"points"})})
        blind = replace(survey, theme=survey.theme.model_copy(update={"prompts": prompts}))
        masks = _refined(blind, objects, drawn, rows)
        there = masks.masked
        found[rows[there]] = iou(drawn[rows[there]], masks.rows.geometry.to_numpy()[there])
    return found


def _strays(masks: Refined, drawn: np.ndarray, others: np.ndarray, heatmap: Heatmap, survey: Survey) -> np.ndarray:
    """Return (N,) bool, of which of N outlines mask and heatmap together show another one."""
    gate, scene = survey.theme.gate.model_copy(update={"agreement": 0.0}), survey.scene
    strays = gate.passes(masks)
    place, own = masks.rows.geometry.to_numpy()[strays], drawn[strays]
    there = evidence(heatmap, survey.theme.label, list(place)).extent >= STILL_THERE
    there &= ~covered(place, others)
    strays[strays] = there & (likeness(in_metres(own, scene), in_metres(place, scene)).iou < SAME_IOU)
    return strays

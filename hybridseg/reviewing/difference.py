"""How a reviewed layer differs from the one that came: what is added, removed, moved, changed and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import shapely

from hybridseg.read.scene import Scene
from hybridseg.reviewing.findings import Finding, Said
from hybridseg.reviewing.given import frame_of
from hybridseg.reviewing.objects import Object
from hybridseg.shape.geometry import iou

ALIKE = 0.6
"""IoU of two outlines, laid middle on middle, from which on they are one shape."""
BETTER = 0.1
"""By so much more must they agree when laid so, to count as moved."""
LEAST_SHIFT_M = 1.0
LEAST_SHIFT_PX = 2.0
"""Middles lie further apart than that, whichever is more, where an object has moved."""


class Likeness(NamedTuple):
    """Of N pairs of outlines.

    iou: where they lie.
    fit: with the first one's middle laid on the second one's.
    shift_m: between their middles.
    """

    iou: np.ndarray
    fit: np.ndarray
    shift_m: np.ndarray

    def moved(self, scene: Scene) -> np.ndarray:
        """Return (N,) bool, which pairs are one shape at two places, as far as a scene shows that."""
        least_m = max(LEAST_SHIFT_M, LEAST_SHIFT_PX * scene.gsd_m)
        return (self.shift_m >= least_m) & (self.fit >= ALIKE) & (self.fit >= self.iou + BETTER)


def likeness(first: np.ndarray, second: np.ndarray) -> Likeness:
    """Compare outlines pairwise.

    Args:
        first: (N,) polygons, none empty, in metres.
        second: (N,) polygons, none empty, in metres.
    """
    ends = [shapely.get_coordinates(shapely.centroid(side)).reshape(-1, 2) for side in (first, second)]
    shift = ends[1] - ends[0]
    corners, owner = shapely.get_coordinates(first, return_index=True)
    laid = shapely.set_coordinates(first.copy(), corners + shift[owner])
    return Likeness(iou(first, second), iou(laid, second), np.hypot(*shift.T))


def difference_of(
    objects: Sequence[Object], before: Mapping[int, Object], findings: Mapping[int, Finding], scene: Scene
) -> gpd.GeoDataFrame:
    """Return how a review's objects differ from those of the layer that it began with, in the columns of an export.

    What somebody decided on counts as decided; elsewhere what imagery says, and `verdict` is `unseen` or `proposed`.
    `difference` says what (see `Said`), `old_ids` the ids of the layer that a row takes the place of, `shift_m` how far
    it lies from there. An object that is split gives several rows, several that are merged give one.

    Args:
        objects: all of the review, gone or not.
        before: objects of the layer, by key.
        findings: what imagery says, by key; nothing where it was not asked.
        scene: of the review.
    """
    by_id = {one.id: one for one in objects}
    rows: list[tuple[Object, Said, tuple[str, ...]]] = []
    pairs: list[tuple[int, Object]] = []  # rows whose outline is to be compared with the one before
    for one in objects:
        olds = _olds(one, by_id, before)
        said = findings.get(one.key)
        if one.verdict in ("split", "merged"):
            continue
        if one.key in before and not one.present:
            rows.append((replace(one, geometry=before[one.key].geometry), "removed", olds))
        elif one.verdict == "proposed" or (one.present and not olds):
            rows.append((one, "added", ()))
        elif one.key in before and one.verdict == "unseen" and one.geometry.equals(before[one.key].geometry):
            shown = one
            if said is not None and said.place is not None:
                shown = replace(one, geometry=said.place, origin=said.origin)
                pairs.append((len(rows), before[one.key]))
            rows.append((shown, "unknown" if said is None else said.said, olds))
        elif one.key in before:
            pairs.append((len(rows), before[one.key]))
            rows.append((one, "kept" if one.label == before[one.key].label else "changed", olds))
        elif one.present:
            rows.append((one, "changed", olds))
    held = {name for _, _, olds in rows for name in olds}
    rows += [(by_id[one.id], "removed", (one.id,)) for one in before.values() if one.id not in held]
    return _frame(rows, pairs, scene)


def _frame(
    rows: Sequence[tuple[Object, Said, tuple[str, ...]]], pairs: Sequence[tuple[int, Object]], scene: Scene
) -> gpd.GeoDataFrame:
    said = np.array([what for _, what, _ in rows], object)
    shift_m = np.full(len(rows), np.nan)
    if pairs:
        at = np.array([row for row, _ in pairs])
        old = in_metres([one.geometry for _, one in pairs], scene)
        new = in_metres([rows[row][0].geometry for row in at.tolist()], scene)
        alike = likeness(old, new)
        shift_m[at] = alike.shift_m
        same = (said[at] == "kept") & ~shapely.equals(old, new)
        said[at[same]] = np.where(alike.moved(scene), "moved", "changed")[same]
    frame = frame_of([one for one, _, _ in rows], scene.crs)
    frame.insert(2, "difference", said.astype(str))
    frame.insert(3, "old_ids", [" ".join(olds) for _, _, olds in rows])
    frame.insert(4, "shift_m", shift_m)
    return frame.drop(columns="parents")


def in_metres(outlines: Sequence[Any] | np.ndarray, scene: Scene) -> np.ndarray:
    """Return outlines (N,) of a scene's CRS with metres along both of its axes."""
    scale = scene.metres_per_unit
    return shapely.transform(np.array(outlines, object), lambda xy: xy * scale)


def _olds(one: Object, by_id: Mapping[str, Object], before: Mapping[int, Object]) -> tuple[str, ...]:
    """Ids of the layer that an object was made of, itself or by splits and merges."""
    if one.key in before:
        return (one.id,)
    parents = [by_id[name] for name in one.parents if name in by_id]
    return tuple(dict.fromkeys(name for parent in parents for name in _olds(parent, by_id, before)))

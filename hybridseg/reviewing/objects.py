"""The objects of a review as values, and what each action makes of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import shapely
from shapely.ops import split as cut

from hybridseg.errors import ReviewError

Verdict = Literal[
    "unseen", "accepted", "rejected", "corrected", "added", "deleted", "split", "merged", "proposed", "withdrawn",
    "declined",
]  # fmt: skip
"""What a person said of an object. unseen: nothing yet; split, merged: others took its place; proposed: something may
be missing here, or others be grouped so, nothing yet; withdrawn: nothing, before an improvement took it from the map;
declined: that others are not to be grouped so, which says nothing of the ground."""

PRESENT: tuple[Verdict, ...] = ("unseen", "accepted", "corrected", "added")
"""Verdicts of objects that are on the map."""

OPEN: tuple[Verdict, ...] = (*PRESENT, "proposed")
"""Verdicts of objects on which a person may decide."""

MACHINE: tuple[Verdict, ...] = ("unseen", "proposed", "withdrawn", "declined")
"""Verdicts of objects of which nobody has said whether they are there."""

Kind = Literal["accept", "reject", "relabel", "replace", "add", "delete", "split", "merge"]
"""Actions, apart from undo and redo."""

Hand = Literal["clicked", "drawn", "refined", "coarse", "given"]
"""`origin` of an outline that a person made by clicks that SAM2 answered, or point by point; or of a proposed place
that a person took: as in an extraction, or the object's own outline, moved (given)."""

MOST_MERGED = 50


@dataclass(frozen=True)
class Object:
    """A row of a review.

    key: its number in the review file, for good.
    id: as in the extraction, or a new one.
    label: its class.
    score, iou_pred, stability, agreement: as in the extraction; NaN where there is none.
    geometry: Polygon or MultiPolygon in the scene's CRS.
    origin: as in the extraction, or `Hand`.
    verdict: see `Verdict`.
    parents: ids of the objects that it was made of by split or merge, or, of a proposal, that it would replace.
    version: number of the last action that touched it; 0: none did.
    who, when: of that action; when is UTC, ISO 8601.
    """

    key: int
    id: str
    label: str
    score: float
    iou_pred: float
    stability: float
    agreement: float
    geometry: shapely.Geometry
    origin: str
    verdict: Verdict = "unseen"
    parents: tuple[str, ...] = ()
    version: int = field(default=0, compare=False)
    who: str = field(default="", compare=False)
    when: str = field(default="", compare=False)

    @property
    def present(self) -> bool:
        """Whether it is on the map."""
        return self.verdict in PRESENT

    @property
    def decided(self) -> bool:
        """Whether a person has said what it is."""
        return self.verdict not in MACHINE


class Unknown(ReviewError):
    """There is no such object."""


class Conflict(ReviewError):
    """The object, or the record, is not as the caller saw it: somebody else was faster."""


@dataclass(frozen=True)
class Action:
    """What a person wants done.

    kind: see `Kind`.
    label: the new class, for relabel and add.
    geometry: the new outline, for replace and add; the line to cut along, for split.
    origin: of that outline.
    """

    kind: Kind
    label: str | None = None
    geometry: shapely.Geometry | None = None
    origin: Hand = "drawn"


@dataclass(frozen=True)
class Done:
    """What an action did.

    seq: its number in the record.
    changed: the objects that it touched, as they are now; those that are gone are among them.
    removed: keys of objects that are not there any more, as after the undo of an add.
    """

    seq: int
    changed: tuple[Object, ...]
    removed: tuple[int, ...] = ()


def outcome(action: Action, objects: Sequence[Object], key: int, behind: Sequence[Object] = ()) -> list[Object]:
    """Return the objects that an action changes or makes, as they are after it.

    Args:
        action: what is wanted.
        objects: those that it is about, as they are.
        key: the first free one.
        behind: objects that proposals among `objects` would replace; they go when such a one comes onto the map.

    Raises:
        ReviewError: it makes no sense of these objects.
    """
    gone = [one.id for one in objects if one.verdict not in OPEN]
    if gone:
        raise ReviewError(f"{gone[0]} is not on the map any more; undo what removed it first")
    least, most = {"add": (0, 0), "merge": (2, MOST_MERGED)}.get(action.kind, (1, 1))
    if not least <= len(objects) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise ReviewError(f"{action.kind} is about {wanted} objects at a time, got {len(objects)}")
    made = _RULES[action.kind](action, objects, key)
    return [*made, *(_replaced(objects, behind) if any(one.present for one in made) else ())]


def _replaced(proposals: Sequence[Object], behind: Sequence[Object]) -> list[Object]:
    """What a proposal replaces: merged, where it is a union of several, or split."""
    count = {name: len(one.parents) for one in proposals for name in one.parents}
    return [replace(one, verdict="merged" if count[one.id] > 1 else "split") for one in behind if one.verdict in OPEN]


def _accept(action: Action, objects: Sequence[Object], key: int) -> list[Object]:
    (one,) = objects
    return [replace(one, verdict=_ACCEPTED.get(one.verdict, one.verdict))]


def _reject(action: Action, objects: Sequence[Object], key: int) -> list[Object]:
    (one,) = objects
    grouping = one.verdict == "proposed" and one.parents
    return [replace(one, verdict="declined" if grouping else "rejected")]


def _delete(action: Action, objects: Sequence[Object], key: int) -> list[Object]:
    return [replace(objects[0], verdict="deleted")]


def _relabel(action: Action, objects: Sequence[Object], key: int) -> list[Object]:
    if action.label is None:
        raise ReviewError("relabel needs a class; give one of those of the review")
    return [replace(objects[0], label=action.label, verdict=_corrected(objects[0]))]


def _replace(action: Action, objects: Sequence[Object], key: int) -> list[Object]:
    drawn = replace(objects[0], geometry=_polygon(action), origin=action.origin, verdict=_corrected(objects[0]))
    return [replace(drawn, label=action.label or drawn.label)]


def _add(action: Action, objects: Sequence[Object], key: int) -> list[Object]:
    if action.label is None:
        raise ReviewError("add needs a class; give one of those of the review")
    nan = float("nan")
    name = f"{action.label}-{secrets.token_hex(6)}"  # another review of this map may add, too
    return [Object(key, name, action.label, nan, nan, nan, nan, _polygon(action), action.origin, "added")]


def _split(action: Action, objects: Sequence[Object], key: int) -> list[Object]:
    (one,) = objects
    if not isinstance(action.geometry, shapely.LineString):
        raise ReviewError("split needs a line to cut along")
    parts = [part for piece in shapely.get_parts(one.geometry) for part in cut(piece, action.geometry).geoms]
    if len(parts) == len(shapely.get_parts(one.geometry)):
        raise ReviewError(f"the line does not cut {one.id} in two; begin and end it outside")
    made = [
        replace(one, key=key + k, id=f"{one.id}/{key + k}", geometry=part, verdict=_corrected(one), parents=(one.id,))
        for k, part in enumerate(parts)
    ]
    return [replace(one, verdict="split"), *made]


def _merge(action: Action, objects: Sequence[Object], key: int) -> list[Object]:
    first = max(objects, key=lambda one: float(one.geometry.area))
    parents = tuple(one.id for one in objects)
    verdict: Verdict = "added" if all(_corrected(one) == "added" for one in objects) else "corrected"
    union = shapely.union_all([one.geometry for one in objects])
    whole = replace(first, key=key, id=f"{first.id}/{key}", geometry=union, verdict=verdict, parents=parents)
    return [*(replace(one, verdict="merged") for one in objects), whole]


def _corrected(one: Object) -> Verdict:
    """The verdict of an object whose outline or class a person changed."""
    return "added" if one.verdict in ("added", "proposed") else "corrected"


def _polygon(action: Action) -> shapely.Geometry:
    """The outline of an action, repaired."""
    drawn = action.geometry
    if not isinstance(drawn, shapely.Polygon | shapely.MultiPolygon):
        raise ReviewError(f"{action.kind} needs an outline; give a polygon")
    if not shapely.is_valid(drawn):
        drawn = shapely.make_valid(drawn, method="structure", keep_collapsed=False)
    if drawn.is_empty or not drawn.area > 0 or not isinstance(drawn, shapely.Polygon | shapely.MultiPolygon):
        raise ReviewError("the outline covers no ground; draw at least three corners that are not on one line")
    return drawn


_ACCEPTED: dict[Verdict, Verdict] = {"unseen": "accepted", "proposed": "added"}

_RULES: dict[Kind, Callable[[Action, Sequence[Object], int], list[Object]]] = {
    "accept": _accept,
    "reject": _reject,
    "relabel": _relabel,
    "replace": _replace,
    "add": _add,
    "delete": _delete,
    "split": _split,
    "merge": _merge,
}

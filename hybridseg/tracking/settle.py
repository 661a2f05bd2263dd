"""Whether objects are there at each date, told from what all dates say of their ground."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import shapely

from hybridseg.tracking.chain import likeliest, measured, probability, told
from hybridseg.tracking.follow import ABSENT, CARRIED, PRESENT, UNKNOWN, Dated, Observation, Track
from hybridseg.tracking.tracks import polygonal
from hybridseg.what.evidence import MOST, SEEN, STILL_THERE

COVERED = 0.5
"""Share of an object's ground that others may hold before it counts as theirs."""
RING = (1 / 12, 1 / 3)
"""Where the ground around an object begins and ends, from its outline, as shares of the root of its area."""

Carry = Callable[[int, Sequence[Track]], Sequence[shapely.Geometry | None]]
"""Outlines of objects at the date of a number, from where they were found at the nearest others; None: in place."""


def in_place(_: int, tracks: Sequence[Track]) -> list[shapely.Geometry | None]:
    """Leave objects where they were (a `Carry`)."""
    return [None] * len(tracks)


def settle(
    tracks: Sequence[Track], dates: Sequence[Dated], label: str, change: float, carry: Carry = in_place
) -> list[Track]:
    """Return the objects with the likeliest of what all dates together say, without those that are never there.

    What was found at a date and is not likely there is absent; what was not found and likely is stays as it was at the
    nearest date, or where it is carried, but for ground that another object holds. Too little seen is unknown.

    Args:
        tracks: as `follow` gives them.
        dates: what was found at each.
        label: class of the objects.
        change: probability that an object comes or goes between two dates.
        carry: gives the outline of an object at a date at which it was not found.
    """
    if not tracks:
        return []
    seen, extent, odds = _said(tracks, dates, label)
    there, chance = likeliest(odds, change), probability(odds, change)
    found = np.array([[number in track.seen_at for number in range(len(dates))] for track in tracks])
    kept = np.flatnonzero((there & found).any(axis=1)).tolist()
    ids = {tracks[at].id for at in kept}
    made = []
    for at in kept:
        track = tracks[at]
        now = Track(track.id, track.into if track.into in ids else None)
        for number in range(len(dates)):
            one = track.seen_at.get(number)
            if one is None or not there[at, number]:
                one = Observation(number, ABSENT if seen[at, number] >= SEEN else UNKNOWN)
            now.seen_at[number] = replace(
                one, seen=float(seen[at, number]), extent=float(extent[at, number]),
                doubt=float(chance[at, number] * (1 - chance[at, number])),
                joined=tuple(name for name in one.joined if name in ids),
            )  # fmt: skip
        made.append(now)
    missed = there & ~found & (seen >= SEEN)
    for number, date in enumerate(dates):
        wanted = {row: tracks[at] for row, at in enumerate(kept) if missed[at, number]}
        _bridge(made, number, date, label, wanted, carry)
    return made


def _said(tracks: Sequence[Track], dates: Sequence[Dated], label: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each date says of objects (N, T): share of the ground seen, mean of the heatmap there, odds of presence.

    An index and a layer tell of an object's own outline at the date, or at the nearest at which it was found. A
    classifier is the surer of what it drew itself: of it, all dates are asked about the same ground, where it was the
    surest, and about the ground around that.
    """
    own = np.array([[track.nearest(number).outline for number in range(len(dates))] for track in tracks], object)
    here = [date.evidence(label, own[:, number]) for number, date in enumerate(dates)]
    seen, extent, odds = (np.stack(columns, axis=1) for columns in zip(*here, strict=True))
    found = np.array([[number in track.seen_at for number in range(len(dates))] for track in tracks])
    surest = np.where(found, extent, -1.0).argmax(axis=1)
    ground = own[np.arange(len(tracks)), surest]
    around = _around(ground)
    ring = np.zeros_like(extent)
    index = np.array([date.measured or date.heatmap is None for date in dates])
    for number in np.flatnonzero(~index).tolist():
        seen[:, number], extent[:, number], odds[:, number] = dates[number].evidence(label, ground)
        ring[:, number] = dates[number].evidence(label, around).odds
    for number in range(len(dates)):
        where = own[:, number] if index[number] else ground
        taken = ~found[:, number] & (_taken(where, own[found[:, number], number]) >= COVERED)
        extent[taken, number], odds[taken, number] = 0.0, -MOST
    known = seen >= SEEN
    return seen, extent, np.where(index, measured(extent, known), told(odds, ring, known & ~index))


def _around(ground: np.ndarray) -> np.ndarray:
    """Rings (N,) around outlines."""
    side = np.sqrt(shapely.area(ground))
    inner, outer = (shapely.buffer(ground, share * side) for share in RING)
    return shapely.difference(outer, inner)


def _taken(ground: np.ndarray, outlines: np.ndarray) -> np.ndarray:
    """Share (N,) of grounds that lies in outlines of a date, which do not overlap."""
    rows, others = shapely.STRtree(outlines).query(ground, "intersects")
    areas = shapely.area(shapely.intersection(ground[rows], outlines[others]))
    return np.bincount(rows, areas, len(ground)) / np.maximum(shapely.area(ground), 1e-12)


def _bridge(
    made: Sequence[Track], number: int, date: Dated, label: str, wanted: Mapping[int, Track], carry: Carry
) -> None:
    """Draw objects (rows of `made`, with where each was found) that were missed at a date, beside those found there."""
    drawn = [outline or shapely.Polygon() for outline in carry(number, list(wanted.values()))]
    agreed = date.evidence(label, drawn).extent >= STILL_THERE  # a mask must earn its place
    taken = np.array([o for track in made if (o := track.seen_at[number].outline) is not None], object)
    tree = shapely.STRtree(taken)
    for (row, track), mask, good in zip(wanted.items(), drawn, agreed, strict=True):
        near = track.nearest(number)
        outline: Any = mask if good else near.outline
        left = polygonal(outline.difference(shapely.union_all(taken[tree.query(outline, "intersects")])))
        if left.area > (1 - COVERED) * outline.area:
            made[row].seen_at[number] = replace(
                made[row].seen_at[number], status=PRESENT, outline=left, score=near.score, origin=CARRIED
            )

"""The loop over the dates: what is found at each, joined with what the dates before and after say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import geopandas as gpd
import numpy as np
import shapely

from hybridseg.heatmap import Heatmap
from hybridseg.read.vectors import repair
from hybridseg.tracking.chain import likeliest, odds, probability
from hybridseg.tracking.tracks import assign, polygonal
from hybridseg.what.evidence import SEEN, STILL_THERE, Evidence, evidence

PRESENT, ABSENT, UNKNOWN = "present", "absent", "unknown"
CARRIED = "carried"
"""Origin of an outline of another date that the heatmap of this one agrees with."""
GIVEN = "given"
"""Origin of an outline of a layer that the user has."""
HELD = 3
"""Dates whose outlines make up the ground that an object holds, the last at which it is present: one poor date does not
give it to another."""
COVERED = 0.5
"""Share of an object's ground that another may hold before it counts as that one's."""


@dataclass(frozen=True)
class Observation:
    """An object at a date.

    date: number of the date.
    outline: where it lies; None where it is not present.
    origin: refined, coarse, given or carried.
    seen, extent: what the heatmap says of its ground, see `evidence`; extent is 0 where another object holds it.
    doubt: probability times its complement that the object is there, by all dates, see `settle`.
    joined: other objects that were found as one with it. parts: outlines that it was found in.
    """

    date: int
    status: str
    outline: shapely.Geometry | None = None
    score: float = float("nan")
    origin: str | None = None
    seen: float = float("nan")
    extent: float = float("nan")
    joined: tuple[str, ...] = ()
    parts: int = 1
    doubt: float = 0.0


@dataclass
class Track:
    """An object through time.

    id: stable, as the dates before the first one that has it do not change when dates are added behind.
    into: id of the object that it was merged into.
    seen_at: what was said of it, by the number of the date.
    """

    id: str
    into: str | None = None
    seen_at: dict[int, Observation] = field(default_factory=dict)

    @property
    def found(self) -> list[Observation]:
        """Where it is present, in order of the dates."""
        return [one for _, one in sorted(self.seen_at.items()) if one.outline is not None]

    def held(self, date: int) -> list[shapely.Geometry]:
        """Return its outlines at the last dates before one; none where it was not there yet."""
        return [one.outline for one in self.found if one.date < date][-HELD:]


@dataclass(frozen=True)
class Dated:
    """What was found at a date.

    features: rows with `id`, `score`, `origin`, geometry; in the CRS of all dates.
    heatmap: of the date; None of a layer that somebody gives.
    """

    features: gpd.GeoDataFrame
    heatmap: Heatmap | None

    def evidence(self, label: str, outlines: Sequence[shapely.Geometry]) -> Evidence:
        """Return what the date says of outlines; a layer is seen all over and sure of its rows."""
        if self.heatmap is None:
            tree = shapely.STRtree(self.features.geometry.to_numpy())
            inside = np.zeros(len(outlines))
            # those that it holds: the outlines are its own rows, or parts of them
            points = shapely.point_on_surface(np.array(outlines, object))
            inside[tree.query(points, "intersects")[0]] = 1.0
            return Evidence(np.ones(len(outlines)), inside)
        return evidence(self.heatmap, label, outlines)


Carry = Callable[[int, Sequence[Track]], Sequence[shapely.Geometry | None]]
"""Outlines of objects at the date of a number, from where they were found at the nearest others; None: in place."""


def follow(dates: Iterator[Dated], label: str, carry: Carry) -> list[Track]:
    """Follow objects through all dates, in order.

    Of each date: outlines are given to objects (see `assign`); objects that were not found are carried there, and stay
    where the date's own heatmap agrees; what is new is looked for at the dates before in the same way, until one does
    not have it. Only outlines stay in memory; each date's pixels are read when they are asked for.

    Args:
        dates: in order.
        label: class of the objects.
        carry: gives the outline of an object where it was not found.
    """
    tracks: list[Track] = []
    past: list[Dated] = []
    for number, date in enumerate(dates):
        past.append(date)
        held = [track.held(number) for track in tracks]
        rows = date.features
        outlines = list(repair(rows.geometry.to_numpy()))
        made = assign(held, outlines)
        shared = _shared(made.rows)
        rowwise = date.evidence(label, outlines)
        here = date.evidence(label, list(made.held.values()))
        said = {at: (float(seen), float(extent)) for at, seen, extent in zip(made.held, *here, strict=True)}
        for at, track in enumerate(tracks):
            track.into = tracks[made.merged[at]].id if at in made.merged else None
            if at in made.held:
                row = rows.iloc[made.rows[at][0]]
                others = tuple(tracks[other].id for other in shared[at])
                track.seen_at[number] = Observation(
                    number, PRESENT, made.held[at], float(row["score"]), str(row["origin"]), *said[at],
                    joined=others, parts=len(made.rows[at]),
                )  # fmt: skip
        missing = [track for at, track in enumerate(tracks) if at not in made.held]
        _look(date, number, label, missing, tracks, carry)
        taken = {track.id for track in tracks}
        for at in made.fresh:
            row = rows.iloc[at]
            name = next(n for k in range(1, 10**6) if (n := row["id"] if k == 1 else f"{row['id']}#{k}") not in taken)
            taken.add(name)
            track = Track(str(name))
            track.seen_at[number] = Observation(
                number, PRESENT, outlines[at], float(row["score"]), str(row["origin"]),
                float(rowwise.seen[at]), float(rowwise.extent[at]),
            )  # fmt: skip
            tracks.append(track)
        new = tracks[len(tracks) - len(made.fresh) :]
        for back in range(number - 1, -1, -1):
            _look(past[back], back, label, new, tracks, carry)
    return tracks


def settle(tracks: Sequence[Track], change: float) -> list[Track]:
    """Return the objects with the likeliest of what all dates together say, without those that are never there.

    What was found at a date and is not likely there is absent; what was not found and likely is stays as it was at the
    nearest date, where no other object holds that ground. What a date does not show stays unknown.

    Args:
        tracks: as `follow` gives them.
        change: probability that an object comes or goes between two dates.
    """
    if not tracks:
        return []
    dates = sorted(tracks[0].seen_at)
    seen, extent = (
        np.array([[getattr(track.seen_at[date], name) for date in dates] for track in tracks])
        for name in ("seen", "extent")
    )
    told = odds(extent, seen >= SEEN)
    states, likely = likeliest(told, change), probability(told, change)
    kept: list[Track] = []
    for track, there, chance in zip(tracks, states, likely, strict=True):
        found = [one for one in track.found if there[dates.index(one.date)]]
        if found:
            doubts = (chance * (1 - chance)).tolist()
            now = {date: replace(track.seen_at[date], doubt=doubts[at]) for at, date in enumerate(dates)}
            for at, (date, one) in enumerate(now.items()):
                if one.status == PRESENT and not there[at]:
                    now[date] = Observation(date, ABSENT, seen=one.seen, extent=one.extent, doubt=one.doubt)
            kept.append(Track(track.id, track.into, now))
    ids = {track.id for track in kept}
    for track in kept:
        track.into = track.into if track.into in ids else None
        for date, one in track.seen_at.items():
            track.seen_at[date] = replace(one, joined=tuple(name for name in one.joined if name in ids))
    wanted = {track.id: there for track, there in zip(tracks, states, strict=True)}
    for at, date in enumerate(dates):
        _bridge(kept, date, [track for track in kept if wanted[track.id][at] and track.seen_at[date].status == ABSENT])
    return kept


def _bridge(tracks: Sequence[Track], date: int, missed: Sequence[Track]) -> None:
    """Leave objects that were missed at a date where they were found at the nearest one."""
    taken = np.array([o for track in tracks if (o := track.seen_at[date].outline) is not None], object)
    tree = shapely.STRtree(taken)
    for track in missed:
        nearest, outline = _nearest(track, date)
        left = polygonal(outline.difference(shapely.union_all(taken[tree.query(outline, "intersects")])))
        if left.area > (1 - COVERED) * outline.area:
            carried = {"status": PRESENT, "outline": left, "score": nearest.score, "origin": CARRIED}
            track.seen_at[date] = replace(track.seen_at[date], **carried)


def _shared(rows: dict[int, list[int]]) -> dict[int, list[int]]:
    """Objects that have a part of the same outline, by object."""
    by_row: dict[int, list[int]] = {}
    for number, made_of in rows.items():
        for row in made_of:
            by_row.setdefault(row, []).append(number)
    return {
        number: sorted({other for row in made_of for other in by_row[row]} - {number})
        for number, made_of in rows.items()
    }


def _look(date: Dated, number: int, label: str, wanted: Sequence[Track], tracks: Sequence[Track], carry: Carry) -> None:
    """Say of objects that were not found at a date whether they are there all the same."""
    if not wanted:
        return
    nearest = [_nearest(track, number) for track in wanted]
    where = [outline for _, outline in nearest]
    said = date.evidence(label, where)
    known = [track.seen_at[number].outline for track in tracks if number in track.seen_at]
    taken = np.array([outline for outline in known if outline is not None], object)
    tree = shapely.STRtree(taken)
    others = [shapely.union_all(taken[tree.query(outline, "intersects")]) for outline in where]
    there: list[int] = []
    for at, (track, (one, outline)) in enumerate(zip(wanted, nearest, strict=True)):
        between = range(min(number, one.date) + 1, max(number, one.date))
        # what was absent nearer in time is not there again farther off, unless it is found
        gap = any(k in track.seen_at and track.seen_at[k].status == ABSENT for k in between)
        covered = outline.intersection(others[at]).area >= COVERED * outline.area
        told = said.seen[at] >= SEEN
        if told and not gap and not covered and said.extent[at] >= STILL_THERE:
            there.append(at)
        status = ABSENT if told else UNKNOWN
        extent = 0.0 if covered else float(said.extent[at])
        track.seen_at[number] = Observation(number, status, seen=float(said.seen[at]), extent=extent)
    if not there:
        return
    drawn = [outline or shapely.Polygon() for outline in carry(number, [wanted[at] for at in there])]
    agreed = date.evidence(label, drawn).extent >= STILL_THERE  # a mask must earn its place, too
    for at, outline, good in zip(there, drawn, agreed, strict=True):
        left = polygonal((outline if good else where[at]).difference(others[at]))
        if not left.is_empty:
            carried = {"status": PRESENT, "outline": left, "score": nearest[at][0].score, "origin": CARRIED}
            wanted[at].seen_at[number] = replace(wanted[at].seen_at[number], **carried)


def _nearest(track: Track, number: int) -> tuple[Observation, shapely.Geometry]:
    """Where an object was found at the date nearest to one."""
    one = min(track.found, key=lambda one: (abs(one.date - number), one.date))
    assert one.outline is not None  # `found` sees to it
    return one, one.outline


def in_place(_: int, tracks: Sequence[Track]) -> list[shapely.Geometry | None]:
    """Leave objects where they were (a `Carry`)."""
    return [None] * len(tracks)

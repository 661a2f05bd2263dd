"""Objects through the dates: which outlines are one, from the first date to the last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import geopandas as gpd
import numpy as np
import shapely

from hybridseg.heatmap import Heatmap
from hybridseg.read.vectors import repair
from hybridseg.tracking.tracks import assign
from hybridseg.what.evidence import Evidence, evidence, log_odds

PRESENT, ABSENT, UNKNOWN = "present", "absent", "unknown"
CARRIED = "carried"
"""Origin of an outline at a date at which the object was not found, but is there by what all dates say."""
GIVEN = "given"
"""Origin of an outline of a layer that the user has."""
HELD = 3
"""Dates whose outlines make up the ground that an object holds, the last at which it was found: one poor date does not
give it to another."""


@dataclass(frozen=True)
class Observation:
    """An object at a date.

    date: number of the date.
    outline: where it lies; None where it is not present.
    origin: refined, coarse, given or carried.
    seen, extent: what the heatmap says of its ground, see `settle`; extent is 0 where another object holds it.
    doubt: probability times its complement that the object is there, by all dates.
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
        """Where it was found, in order of the dates."""
        return [one for _, one in sorted(self.seen_at.items()) if one.outline is not None]

    def nearest(self, number: int) -> Observation:
        """Return where it was found at the date nearest to one, of two the earlier."""
        return min(self.found, key=lambda one: (abs(one.date - number), one.date))


@dataclass(frozen=True)
class Dated:
    """What was found at a date.

    features: rows with `id`, `score`, `origin`, geometry; in the CRS of all dates.
    heatmap: of the date; None of a layer that somebody gives.
    measured: whether the heatmap is of an index of the bands, which measures, and not of a classifier.
    """

    features: gpd.GeoDataFrame
    heatmap: Heatmap | None
    measured: bool = False

    def evidence(self, label: str, outlines: Sequence[shapely.Geometry] | np.ndarray) -> Evidence:
        """Return what the date says of outlines; a layer is seen all over and sure of its rows."""
        if self.heatmap is not None:
            return evidence(self.heatmap, label, list(outlines))
        tree, inside = shapely.STRtree(self.features.geometry.to_numpy()), np.zeros(len(outlines))
        # those that it holds: the outlines are its own rows, or parts of them
        inside[tree.query(shapely.point_on_surface(np.array(outlines, object)), "intersects")[0]] = 1.0
        return Evidence(np.ones(len(outlines)), inside, log_odds(inside))


def follow(dates: Iterable[Dated]) -> list[Track]:
    """Give the outlines of all dates, in order, to objects, see `assign`; what is of no object known is a new one."""
    tracks: list[Track] = []
    for number, date in enumerate(dates):
        rows, outlines = date.features, list(repair(date.features.geometry.to_numpy()))
        made = assign([[one.outline for one in track.found[-HELD:]] for track in tracks], outlines)
        shared = _shared(made.rows)
        for at, track in enumerate(tracks):
            track.into = tracks[made.merged[at]].id if at in made.merged else None
        taken = {track.id for track in tracks}
        for at in made.fresh:
            name = str(rows["id"].iloc[at])
            name = next(n for k in range(1, 10**6) if (n := name if k == 1 else f"{name}#{k}") not in taken)
            taken.add(name)
            made.held[len(tracks)], made.rows[len(tracks)] = outlines[at], [at]
            tracks.append(Track(name))
        for at, outline in made.held.items():
            score, origin = rows[["score", "origin"]].iloc[made.rows[at][0]]
            joined = tuple(tracks[other].id for other in shared.get(at, ()))
            tracks[at].seen_at[number] = Observation(
                number, PRESENT, outline, float(score), str(origin), joined=joined, parts=len(made.rows[at])
            )
    return tracks


def _shared(rows: dict[int, list[int]]) -> dict[int, list[int]]:
    """Objects that have a part of the same outline, by object."""
    by_row: dict[int, list[int]] = defaultdict(list)
    for number, made_of in rows.items():
        for row in made_of:
            by_row[row].append(number)
    return {
        number: sorted({other for row in made_of for other in by_row[row]} - {number})
        for number, made_of in rows.items()
    }

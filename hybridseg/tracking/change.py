"""What became of each object, and how much ground was gained and lost, with what is uncertain of it.

An outline is off by about half a pixel of what it was traced on, to one side along all of an object (so the error of
an area is the perimeter times that), for the most part independently between objects and dates. A date that lies off
the first by d moves all outlines by d: that leaves areas and net change as they are, but looks like gain on one side
and loss on the other, each d times the perimeter over pi for a convex object. Whether an object is there at all is
told with a probability p, see `settle`, which adds the area times the root of p (1 - p) to the error of the net
change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from pyproj import CRS

from hybridseg.read.vectors import repair
from hybridseg.shape.measure import local_metric_crs
from hybridseg.tracking.follow import ABSENT, PRESENT, UNKNOWN, Track

STABLE, NEW, GONE, GROWN, SHRUNK, SPLIT, MERGED, BRIEF = (
    "stable", "new", "gone", "grown", "shrunk", "split", "merged", "brief",
)  # fmt: skip
"""What became of an object from the first date that tells to the last; brief: absent at both, present between."""
LEAST_CHANGE = 0.1
"""Share of its area that an object must gain or lose to count as grown or shrunk, if that is more than the error."""
SURE = 2.0
"""Errors (standard deviations) that a change must exceed to count."""

TOGETHER = 0.3
"""Share of the outlines' errors that is the same for all of a date: light and season make a classifier draw them wide
or narrow. Chosen by how far the net change was off in the rendered towns 421 to 432."""


@dataclass(frozen=True)
class Errors:
    """What outlines are off by at a date, in metres.

    outline_m: by themselves; coarse_m: those that were not refined.
    place_m: all together, relative to the first date.
    """

    outline_m: float
    coarse_m: float
    place_m: float

    def of(self, origin: str | None) -> float:
        """Return what an outline of an origin is off by."""
        return self.coarse_m if origin == "coarse" else self.outline_m


@dataclass(frozen=True)
class Change:
    """Ground of a class between two dates, where it was told at both, in m2.

    label: the class.
    net_m2: gained less lost, with standard error net_sd_m2.
    gain_m2, loss_m2: each with standard error gross_sd_m2, as far as outlines err and dates lie off each other.
    """

    label: str
    start: date
    end: date
    before_m2: float
    after_m2: float
    net_m2: float
    net_sd_m2: float
    gain_m2: float
    loss_m2: float
    gross_sd_m2: float
    appeared: int
    vanished: int
    unknown: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as for JSON."""
        plain = asdict(self)
        return {"class": plain.pop("label")} | plain | {"start": str(self.start), "end": str(self.end)}


@dataclass(frozen=True)
class History:
    """All that is known of the objects.

    observations: a row an object and date. objects: a row an object. changes: gain and loss polygons.
    intervals: between dates that follow each other; overall: from the first to the last; of each class in turn.
    """

    observations: gpd.GeoDataFrame
    objects: gpd.GeoDataFrame
    changes: gpd.GeoDataFrame
    intervals: tuple[Change, ...]
    overall: tuple[Change, ...]

    @classmethod
    def joined(cls, parts: Sequence[History]) -> History:
        """Return the objects of all classes as one, in the CRS that they share."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            pd.concat([one.observations for one in parts], ignore_index=True),
            pd.concat([one.objects for one in parts], ignore_index=True),
            pd.concat([one.changes for one in parts], ignore_index=True),
            tuple(change for one in parts for change in one.intervals),
            tuple(change for one in parts for change in one.overall),
        )


def history(tracks: Sequence[Track], days: Sequence[date], errors: Sequence[Errors], crs: Any, label: str) -> History:
    """Return what became of tracked objects.

    Args:
        tracks: as `follow` gives them.
        days: of all dates.
        errors: of each date.
        crs: of the outlines.
        label: class of the objects.
    """
    rows = [
        {"track_id": track.id, "class": label, "number": number, "status": one.status, "score": one.score,
         "origin": one.origin, "seen": one.seen, "heatmap": one.extent, "joined": ",".join(one.joined) or None,
         "parts": one.parts, "doubt": one.doubt,
         "into": track.into, "outline": one.outline}
        for track in tracks for number, one in sorted(track.seen_at.items())
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["track_id", "class", "number", "status", "score", "origin", "seen", "heatmap",
                                        "joined", "parts", "doubt", "into", "outline"])  # fmt: skip
    places = gpd.GeoSeries(table.pop("outline").to_numpy(object), crs=crs)
    metric = _metric(places, crs)
    # a change of CRS may bend an outline across itself
    flat = gpd.GeoDataFrame(table, geometry=gpd.GeoSeries(repair(places.to_crs(metric).to_numpy()), crs=metric))
    flat["area_m2"] = flat.area.where(flat["status"] == PRESENT, np.where(flat["status"] == ABSENT, 0.0, np.nan))
    flat["sd_m2"] = [
        errors[n].of(origin) * outline.length if outline is not None else 0.0
        for n, origin, outline in zip(flat["number"], flat["origin"], flat.geometry, strict=True)
    ]
    # of an object that may be there or not, its ground
    flat["doubt_m2"] = np.sqrt(flat["doubt"].astype(float)) * flat.groupby("track_id")["area_m2"].transform("max")
    pieces = [_pieces(flat, errors, start, start + 1) for start in range(len(days) - 1)]
    intervals = [_change(flat, errors, days, label, start, start + 1, found) for start, found in enumerate(pieces)]
    overall = intervals
    if len(days) > 2:
        overall = [_change(flat, errors, days, label, 0, len(days) - 1, _pieces(flat, errors, 0, len(days) - 1))]
    filled = [one for one in pieces if len(one)]  # an empty table has no types
    changes = gpd.GeoDataFrame(pd.concat(filled, ignore_index=True), crs=metric) if filled else _none(metric)
    objects = _objects(tracks, flat, days, label)
    until = [*days[1:], None]
    shown = flat.assign(
        date=[days[n] for n in flat["number"]], until=[until[n] for n in flat["number"]],
        area_sd_m2=flat["sd_m2"].where(flat["status"] == PRESENT),
    )  # fmt: skip
    columns = ["track_id", "class", "date", "until", "status", "area_m2", "area_sd_m2", "score", "origin", "seen",
               "heatmap", "joined", "geometry"]  # fmt: skip
    changes = changes.assign(start=[days[n] for n in changes.pop("first")], end=[days[n] for n in changes.pop("last")])
    changes["class"] = label
    return History(
        shown.set_geometry(places)[columns],
        objects.to_crs(crs),
        changes[["track_id", "class", "start", "end", "change", "area_m2", "geometry"]].to_crs(crs),
        tuple(intervals),
        tuple(overall),
    )


def _metric(places: gpd.GeoSeries, crs: Any) -> CRS:
    """The equal-area CRS in metres of all outlines."""
    bounds = places.total_bounds
    return (
        local_metric_crs(tuple(bounds), CRS.from_user_input(crs)) if np.isfinite(bounds).all() else CRS.from_epsg(6933)
    )


def _none(metric: CRS) -> gpd.GeoDataFrame:
    columns = ["track_id", "change", "first", "last", "area_m2"]
    return gpd.GeoDataFrame({name: [] for name in columns}, geometry=gpd.GeoSeries([], crs=metric))


def _pairs(flat: gpd.GeoDataFrame, first: int, last: int) -> pd.DataFrame:
    """Rows of two dates side by side, of objects whose status is told at both."""
    told = flat[flat["status"] != UNKNOWN]
    sides = [told[told["number"] == n].set_index("track_id") for n in (first, last)]
    return pd.DataFrame(sides[0]).add_suffix("_0").join(pd.DataFrame(sides[1]).add_suffix("_1"), how="inner")


def _pieces(flat: gpd.GeoDataFrame, errors: Sequence[Errors], first: int, last: int) -> gpd.GeoDataFrame:
    """Polygons gained and lost between two dates; what is thinner than the outlines' own errors is none."""
    pairs = _pairs(flat, first, last)
    before, after = (np.where(shapely.is_missing(g := pairs[name].to_numpy(object)), shapely.Polygon(), g)
                     for name in ("geometry_0", "geometry_1"))  # fmt: skip
    outlines_m = np.hypot(pairs["origin_0"].map(errors[first].of), pairs["origin_1"].map(errors[last].of))
    thin = np.hypot(errors[first].place_m, errors[last].place_m) + outlines_m.to_numpy(float)
    tables = []
    for change, ground in (("gain", shapely.difference(after, before)), ("loss", shapely.difference(before, after))):
        parts, rows = shapely.get_parts(ground, return_index=True)
        thick = ~shapely.is_empty(shapely.buffer(parts, -thin[rows]))
        names = pairs.index.to_numpy()[rows[thick]]
        found = gpd.GeoDataFrame({"track_id": names, "change": change}, geometry=parts[thick], crs=flat.crs)
        tables.append(found.dissolve(["track_id", "change"], as_index=False))
    table = gpd.GeoDataFrame(pd.concat(tables, ignore_index=True), crs=flat.crs)
    return table.assign(first=first, last=last, area_m2=table.area) if len(table) else _none(flat.crs)


def _change(
    flat: gpd.GeoDataFrame,
    errors: Sequence[Errors],
    days: Sequence[date],
    label: str,
    first: int,
    last: int,
    pieces: gpd.GeoDataFrame,
) -> Change:
    pairs = _pairs(flat, first, last)
    gain, loss = (float(pieces.loc[pieces["change"] == kind, "area_m2"].sum()) for kind in ("gain", "loss"))
    parts = [(pairs[f"{name}_{k}"] ** 2).sum() for name in ("sd_m2", "doubt_m2") for k in (0, 1)]
    parts += [(TOGETHER * pairs[f"sd_m2_{k}"].sum()) ** 2 for k in (0, 1)]
    net_sd = float(np.sqrt(sum(parts)))
    place_m = float(np.hypot(errors[first].place_m, errors[last].place_m))
    both = pairs[(pairs["status_0"] == PRESENT) & (pairs["status_1"] == PRESENT)]
    lengths = [g.length for g in both["geometry_0"]]
    apparent = place_m * sum(lengths) / np.pi
    dates = flat[flat["number"].isin([first, last])]
    return Change(
        label=label, start=days[first], end=days[last],
        before_m2=float(pairs["area_m2_0"].sum()), after_m2=float(pairs["area_m2_1"].sum()),
        net_m2=float((pairs["area_m2_1"] - pairs["area_m2_0"]).sum()), net_sd_m2=net_sd,
        gain_m2=gain, loss_m2=loss, gross_sd_m2=float(np.hypot(net_sd, apparent)),
        appeared=int(((pairs["status_0"] == ABSENT) & (pairs["status_1"] == PRESENT)).sum()),
        vanished=int(((pairs["status_0"] == PRESENT) & (pairs["status_1"] == ABSENT) & pairs["into_1"].isna()).sum()),
        unknown=int(dates.loc[dates["status"] == UNKNOWN, "track_id"].nunique()),
    )  # fmt: skip


def _objects(tracks: Sequence[Track], flat: gpd.GeoDataFrame, days: Sequence[date], label: str) -> gpd.GeoDataFrame:
    """A row an object; `flat` has its dates in order."""
    names = pd.Index([track.id for track in tracks], dtype=object)

    def ends(rows: pd.DataFrame) -> list[pd.DataFrame]:
        by_track = rows.groupby("track_id", sort=False)
        return [end.set_index("track_id").reindex(names) for end in (by_track.head(1), by_track.tail(1))]

    told = flat[flat["status"] != UNKNOWN]
    (first, last), (start, end) = ends(pd.DataFrame(told)), ends(pd.DataFrame(flat[flat["status"] == PRESENT]))
    change, sd = last["area_m2"] - first["area_m2"], np.hypot(first["sd_m2"], last["sd_m2"])
    counts = pd.crosstab(flat["track_id"], flat["status"]).reindex(index=names, columns=[PRESENT, ABSENT, UNKNOWN])
    counts = counts.fillna(0).astype(int)
    steps = told.groupby("track_id")["area_m2"].diff()
    gain, loss = (part.groupby(told["track_id"]).sum().reindex(names) for part in (steps.clip(0), -steps.clip(upper=0)))
    was, now = first["status"] == PRESENT, last["status"] == PRESENT
    changed = change.abs() > np.maximum(LEAST_CHANGE * first["area_m2"], SURE * sd)
    became = np.select(
        [first["number"] == last["number"], ~was & now, was & ~now & last["into"].notna(), was & ~now, ~was & ~now,
         last["parts"] > first["parts"], changed & (change > 0), changed,
         last["joined"].notna() & first["joined"].isna()],
        [STABLE, NEW, MERGED, GONE, BRIEF, SPLIT, GROWN, SHRUNK, MERGED], STABLE,
    )  # fmt: skip
    table = {
        "track_id": names, "class": label, "became": became,
        "first_seen": [days[n] for n in start["number"]], "last_seen": [days[n] for n in end["number"]],
        "dates_present": counts[PRESENT], "dates_absent": counts[ABSENT], "dates_unknown": counts[UNKNOWN],
        "area_first_m2": start["area_m2"], "area_last_m2": end["area_m2"], "change_m2": change, "change_sd_m2": sd,
        "gain_m2": gain, "loss_m2": loss,
        "score": flat[flat["status"] == PRESENT].groupby("track_id")["score"].max().reindex(names),
        "merged_into": [track.into for track in tracks],
    }  # fmt: skip
    columns = {name: np.asarray(values) for name, values in table.items() if name != "class"}
    made = gpd.GeoDataFrame(columns, geometry=gpd.GeoSeries(end["geometry"].to_numpy(object), crs=flat.crs))
    made.insert(1, "class", label)
    return made

"""What tracking gives, and what it says of itself on the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import geopandas as gpd

from hybridseg.tracking.change import Change, History
from hybridseg.tracking.follow import CARRIED
from hybridseg.tracking.series import Series
from hybridseg.types import Failure


@dataclass(frozen=True)
class TrackSummary:
    """Counts and areas.

    became: number of objects by what became of them.
    intervals, overall: see `History`.
    shifts: of each scene against the first: date, metres to the right and down, their standard error, whether it was
        moved back.
    carried: observations that were not found but are there.
    doubtful: objects left out, see `change` of `track`.
    """

    theme: str
    dates: tuple[str, ...]
    objects: int
    became: Mapping[str, int]
    intervals: tuple[Change, ...]
    overall: tuple[Change, ...]
    shifts: tuple[Mapping[str, Any], ...]
    observations: int
    carried: int
    memory: bool
    doubtful: int = 0
    notes: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    out: str | None = None
    report: str | None = None

    @classmethod
    def of(
        cls,
        made: History,
        series: Series,
        theme: str,
        notes: Sequence[str],
        failures: tuple[Failure, ...],
        memory: bool,
        doubtful: int,
    ) -> TrackSummary:
        """Count."""
        intervals, rows = made.intervals, made.observations
        days = sorted({str(day) for one in intervals for day in (one.start, one.end)})
        pixel_m = [frame.scene.gsd_m for frame in series.frames]
        shifts = tuple(
            {
                "date": str(frame.day), "x_m": round(frame.shift.x_px * m, 3), "y_m": round(frame.shift.y_px * m, 3),
                "sd_m": round(frame.shift.sd_px * m, 3) if frame.shift.known else None, "moved": frame.moved,
            }
            for frame, m in zip(series.frames[1:], pixel_m[1:], strict=True)
        )  # fmt: skip
        said = [note for note in (*notes, *series.notes) if note]
        return cls(
            theme, tuple(days), len(made.objects), made.objects["became"].value_counts().to_dict(), intervals,
            made.overall, shifts, len(rows), int((rows["origin"] == CARRIED).sum()), memory, doubtful, tuple(said),
            failures,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as for JSON."""
        plain = asdict(self)
        changes = {name: [one.to_dict() for one in getattr(self, name)] for name in ("intervals", "overall")}
        return plain | changes

    def lines(self) -> list[tuple[str, str]]:
        """Return (what, how much) for the screen."""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.became.items())
        rows = [
            ("objects", f"{self.objects:,} of theme {self.theme} at {len(self.dates)} dates"),
            ("became", counts or "none"),
            ("observations", f"{self.observations:,}, of them {self.carried:,} not found, but there by all dates"),
        ]
        if self.doubtful:
            rows.append(("left out", f"{self.doubtful:,} found, but not likely there by all dates together (--change)"))
        several = len(self.overall) > 1
        rows += [(f"{one.start} to {one.end}", _line(one, several)) for one in self.intervals]
        if len(self.dates) > 2:
            rows += [("first to last", _line(one, several)) for one in self.overall]
        for shift in self.shifts:
            if shift["sd_m"] is not None and shift["moved"]:
                off = f"{shift['x_m']:+.2f} m right, {shift['y_m']:+.2f} m down of the first date"
                rows.append((f"moved {shift['date']}", f"it lay {off} (to {shift['sd_m']:.2f} m)"))
        rows += [("note", note) for note in self.notes]
        if self.failures:
            rows.append(("FAILED", f"{len(self.failures)} windows or objects; what lies there is unknown"))
            rows += [("", f"{f.place}: {f.reason}") for f in self.failures]
        rows += [(what, path) for what, path in (("written", self.out), ("report", self.report)) if path]
        return rows


def _line(one: Change, named: bool) -> str:
    return (
        (f"{one.label}: " if named else "")
        + f"net {one.net_m2:+,.0f} m2 (error {one.net_sd_m2:,.0f}): {one.gain_m2:,.0f} gained, {one.loss_m2:,.0f} lost "
        f"(error {one.gross_sd_m2:,.0f} each); {one.appeared:,} appeared, {one.vanished:,} vanished"
        + (f", {one.unknown:,} unknown" if one.unknown else "")
    )


@dataclass(frozen=True)
class Tracked:
    """Objects through time.

    objects: a row an object. observations: a row an object and date. changes: gain and loss polygons. All in the CRS of
    the first date.
    summary, provenance: as of `Result`.
    """

    objects: gpd.GeoDataFrame
    observations: gpd.GeoDataFrame
    changes: gpd.GeoDataFrame
    summary: TrackSummary
    provenance: Mapping[str, Any] = field(default_factory=dict)

"""What a run gives: features, what their scores mean, what made them, and its counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from odc.geo.geobox import GeoBox

from hybridseg.heatmap import Heatmap
from hybridseg.read.scene import Scene
from hybridseg.tables import Features, Prompts, Refined
from hybridseg.theme import Theme
from hybridseg.types import Failure, Sweep


@dataclass(frozen=True)
class Summary:
    """Counts and times of one extraction.

    windows_in_raster: windows that a full cover of the raster would refine.
    refined, coarse: prompts whose refined mask was kept, and those whose coarse outline stayed.
    windows_done, windows_reused: of both sweeps, those that this process did, and those of which the run had the
        result, from an earlier process or from one beside it.
    overlapping: objects dropped because they doubled another.
    doubled: ids that more than one feature has; must be 0.
    seconds: wall time by sweep.
    runtime: what computed the networks.
    notes: what a user should know of the result, a line each.
    """

    scene: str
    out: str | None
    theme: str
    refiner: str
    windows_classified: int
    windows_in_raster: int
    windows_refined: int
    windows_done: int
    windows_reused: int
    prompts: int
    refined: int
    coarse: int
    overlapping: int
    doubled: int
    features: int
    seconds: Mapping[str, float]
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    runtime: str = "none"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as for JSON."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Return (what, how much) for a person to read."""
        rows = [
            ("features", f"{self.features:,} of theme {self.theme}"),
            ("prompts", f"{self.prompts:,}: {self.refined:,} kept refined, {self.coarse:,} kept coarse"),
            ("dropped", f"{self.overlapping:,} that doubled another"),
            ("classified", f"{self.windows_classified:,} windows"),
            ("refined", self._refined()),
            ("windows", f"{self.windows_done:,} done now, {self.windows_reused:,} taken from the run"),
            ("seconds", ", ".join(f"{name} {value:.1f}" for name, value in self.seconds.items())),
        ]
        rows += [("computed by", self.runtime)] if self.runtime != "none" else []
        rows += [("note", note) for note in self.notes]
        if self.doubled:
            rows.append(("DOUBLED", f"{self.doubled:,} ids are of more than one feature"))
        if self.failures:
            rows.append(
                (
                    "FAILED",
                    f"{len(self.failures)} windows or objects; their ground is empty, coarse or as it was traced",
                )
            )
            rows += [("", f"{f.place}: {f.reason}") for f in self.failures]
        if self.out:
            rows.append(("written", self.out))
        return rows

    def _refined(self) -> str:
        """Which windows the refiner saw, and why not the others."""
        if self.refiner == "none":
            return "nothing: without a refiner the classifier's outlines stand"
        rest = self.windows_in_raster - self.windows_refined
        others = f"; {rest:,} more over the raster hold no prompt and were skipped" if rest > 0 else ""
        return f"{self.windows_refined:,} windows with prompts, by {self.refiner}{others}"


@dataclass(frozen=True)
class Steps:
    """All values of one survey, in the order in which they were made.

    heatmap: None where the masks came from elsewhere.
    load_prompts: reads the prompts again, None where they cannot be: nobody needs them beside the masks, and they take
        as much memory. None where they came from elsewhere.
    found: how the prompts were made.
    notes: what a user should know of the features, a line each.
    """

    theme: Theme
    refiner: str
    heatmap: Heatmap | None
    load_prompts: Callable[[], Prompts | None] | None
    refined: Refined
    features: Features
    notes: tuple[str, ...] = ()
    found: Sweep = Sweep()

    @property
    def sweeps(self) -> list[tuple[str, Sweep]]:
        """What was done after the heatmap, by name."""
        return [
            ("find objects", self.found),
            ("refine", self.refined.sweep),
            ("shape", self.features.sweep),
        ]

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What failed, the heatmap's windows first."""
        swept = [] if self.heatmap is None else [self.heatmap.sweep]
        return tuple(failure for sweep in [*swept, *(s for _, s in self.sweeps)] for failure in sweep.failures)


@dataclass(frozen=True)
class Result:
    """The result of a run.

    features: a row an object, with `FEATURE_COLUMNS`; or lines with their columns.
    summary: counts, times, failures.
    grid: of the scene.
    classes: that were looked for.
    provenance: what made it, as plain values.
    nodes: of a network of lines; None for polygons.
    traced: the same objects with the outlines that they were shaped from, where they were asked for.
    """

    features: gpd.GeoDataFrame
    summary: Summary
    grid: GeoBox
    classes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    nodes: gpd.GeoDataFrame | None = None
    traced: gpd.GeoDataFrame | None = None

    @classmethod
    def of(cls, scene: Scene, steps: Sequence[Steps]) -> Result:
        """Put the surveys of one scene together; a heatmap that several share counts once.

        Args:
            scene: that they looked at; its notes come before those on the features.
            steps: of each survey.
        """
        first = reversed([s.heatmap for s in steps if s.heatmap is not None])
        heatmaps = {heatmap.fingerprint: heatmap.sweep for heatmap in first}
        windows = [*heatmaps.values(), *(s.refined.sweep for s in steps)]
        sweeps = [("classify", sweep) for sweep in heatmaps.values()]
        sweeps += [pair for s in steps for pair in s.sweeps]
        layers = [s.features.rows for s in steps]
        features = gpd.GeoDataFrame(pd.concat(layers, ignore_index=True), crs=layers[0].crs)
        prompts = sum(len(s.refined) for s in steps)
        passed = [s.theme.gate.passes(s.refined) for s in steps]
        refined = sum(int(kept.sum()) for kept in passed)
        coarse = sum(int((~kept & s.refined.supported).sum()) for s, kept in zip(steps, passed, strict=True))
        summary = Summary(
            scene=scene.name,
            out=None,
            theme=",".join(s.theme.name for s in steps),
            refiner=",".join(sorted({s.refiner for s in steps} - {"none"})) or "none",
            windows_classified=sum(sweep.windows for sweep in heatmaps.values()),
            windows_in_raster=sum(s.refined.sweep.in_raster for s in steps),
            windows_refined=sum(s.refined.sweep.windows for s in steps),
            windows_done=sum(sweep.windows - sweep.reused for sweep in windows),
            windows_reused=sum(sweep.reused for sweep in windows),
            prompts=prompts,
            refined=refined,
            coarse=coarse,
            overlapping=sum(s.features.dropped for s in steps),
            doubled=features["id"].duplicated().sum().item(),
            features=len(features),
            seconds=total_seconds(sweeps),
            failures=tuple(failure for _, sweep in sweeps for failure in sweep.failures),
            notes=(*scene.notes, *(note for s in steps for note in s.notes)),
        )
        return cls(features, summary, scene.geobox, tuple(dict.fromkeys(s.theme.label for s in steps)))

    def at(self, out: str | Path) -> Result:
        """Return the result with the name of the file that holds it."""
        return replace(self, summary=replace(self.summary, out=str(out)))


def total_seconds(sweeps: Sequence[tuple[str, Sweep]]) -> dict[str, float]:
    """Return the seconds of named sweeps, those of one name added up; names of no time are left out."""
    seconds: dict[str, float] = {}
    for name, sweep in sweeps:
        seconds[name] = seconds.get(name, 0.0) + sweep.seconds
    return {name: round(value, 2) for name, value in seconds.items() if value}


def calibrated(
    features: gpd.GeoDataFrame, theme: Theme, refiner: str, card: Mapping[str, Any]
) -> tuple[gpd.GeoDataFrame, list[str]]:
    """Make `score` the chance that a polygon matches an object at IoU 0.5, where the model's card has a table for it.

    The table holds for the settings that it was fitted with; with others the scores stay as they are.

    Args:
        features: with the classifier's own `score`.
        theme: whose settings are in use.
        refiner: name of the one in use, or `none`.
        card: of the classifier: `calibration`, class to points [score, chance], rising; `calibration_settings`, class
            to the fingerprint of the settings (`Theme.score_fingerprint`).

    Returns:
        the features, with the classifier's score kept as `score_raw` where it was calibrated; and a note where there is
        a table that does not hold.
    """
    points = card.get("calibration", {}).get(theme.label)
    if points is None:
        return features, []
    if card.get("calibration_settings", {}).get(theme.label) != theme.score_fingerprint(refiner):
        note = f"scores of {theme.label} are the classifier's own: its calibration was fitted with other settings"
        return features, [note]
    at, chance = np.array(points, float).T
    raw = features["score"].to_numpy(float)
    return features.assign(score=np.interp(raw, at, chance), score_raw=raw), []

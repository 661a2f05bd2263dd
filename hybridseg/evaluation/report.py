"""The result of an evaluation: a value to look at, to draw from and to write as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import geopandas as gpd
import numpy as np

from hybridseg.metrics.bootstrap import Figure

UNITS = {
    "pixel_iou": "0 to 1, mean of classes",
    "pixel_f1": "0 to 1, mean of classes",
    "precision": "0 to 1, objects of all classes together, IoU 0.5",
    "recall": "0 to 1, objects of all classes together, IoU 0.5",
    "f1": "0 to 1, objects of all classes together, IoU 0.5",
    "ap50": "0 to 1, mean of classes, IoU 0.5",
    "ap50_95": "0 to 1, mean of classes, mean of IoU 0.5 to 0.95",
    "pq": "0 to 1, mean of classes",
    "sq": "0 to 1, mean of classes",
    "rq": "0 to 1, mean of classes",
    "over_segmentation": "0 to 1, 0 is best",
    "under_segmentation": "0 to 1, 0 is best",
    "boundary_precision": "0 to 1, share of length within the tolerance",
    "boundary_recall": "0 to 1, share of length within the tolerance",
    "boundary_f1": "0 to 1",
    "boundary_iou": "0 to 1, mean of hits, band as wide as the tolerance",
    "polis_m": "metres, mean of hits",
    "hausdorff_m": "metres, mean of hits",
    "vertex_ratio": "corners of predicted hits over corners of their references, 1 is best",
    "ece": "0 to 1, 0 is best",
    "apls": "0 to 1",
    "apls_reference": "0 to 1, paths of the reference found in the prediction",
    "apls_prediction": "0 to 1, paths of the prediction found in the reference",
    "buffer_precision": "0 to 1, share of length within the tolerance (correctness)",
    "buffer_recall": "0 to 1, share of length within the tolerance (completeness)",
    "buffer_f1": "0 to 1",
}
"""Headline figures in the order of reports, and what each is; 1 is best unless it says otherwise."""

LOWER_IS_BETTER = frozenset({"over_segmentation", "under_segmentation", "polis_m", "hausdorff_m", "ece"})
NEITHER_IS_BETTER = frozenset({"vertex_ratio"})


@dataclass(frozen=True)
class Rival:
    """Another map of the same ground, compared with the same reference.

    Attributes:
        name: its file.
        figures: its headline figures by name.
        differences: the map's figure minus the rival's, by name; both from the same draws of blocks, so that the
            interval shows whether the difference is more than chance.
    """

    name: str
    figures: Mapping[str, Figure]
    differences: Mapping[str, Figure]

    def verdict(self, name: str) -> str:
        """Return whether the map is "better", "worse" or "even" in a figure; "" where it is neither or unknown."""
        gain = self.differences[name]
        if name in NEITHER_IS_BETTER or gain.low is None or gain.high is None:
            return ""
        low, high = (-gain.high, -gain.low) if name in LOWER_IS_BETTER else (gain.low, gain.high)
        return "better" if low > 0 else "worse" if high < 0 else "even"


@dataclass(frozen=True)
class Report:
    """Result of `hybridseg.evaluation.evaluate`.

    Attributes:
        figures: headline figures by name, with 95 % intervals; `UNITS` explains them.
        per_class: by class: counts and figures.
        per_size: one entry a bin of ground area (m2), smallest first; a pair belongs to its reference object's bin.
        confusion: pixels by class, {"classes": names, the first for none; "pixels": reference in rows, prediction in
            columns}; None for lines.
        curves: "precision_recall" by class (101 recalls, IoU 0.5), "reliability", "by_iou" (F1 and AP at IoU 0.5 to
            0.95); without scores only "by_iou".
        verdicts: each object of both sides on the ground that counts: `side` (pred or ref), `row` in its file, `class`,
            `score`, `verdict` (hit, false, missed, split, merged, ignored), `best_iou` with any of its class, `match`
            (row of its partner in the other file, or -1), `area_m2`, geometry in `crs`. For lines: stretches of either
            side that lie near the other (hit) or not, with `side`, `verdict`, `length_m`.
        counts: numbers of objects, of blocks, and of objects that count for nothing.
        crs: the CRS in which everything was measured, as text for pyproj.
        notes: how it was measured: CRS, tolerance, pixels.
        warnings: what was repaired, left out, or should be known of the input.
        settings: the request, and the tolerance in use.
        rival: how another map compares, where one was given.
    """

    figures: Mapping[str, Figure]
    per_class: Mapping[str, Mapping[str, float | None]]
    per_size: tuple[Mapping[str, float | None], ...]
    confusion: Mapping[str, Any] | None
    curves: Mapping[str, Any]
    verdicts: gpd.GeoDataFrame
    counts: Mapping[str, int]
    crs: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    settings: Mapping[str, Any]
    rival: Rival | None = None

    def __getitem__(self, name: str) -> float:
        """Return the value of a headline figure, nan where it is not defined."""
        value = self.figures[name].value
        return math.nan if value is None else value

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without the verdicts (a layer); None where a figure is not defined."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "verdicts"}
        fields["figures"] = {name: asdict(figure) | {"unit": UNITS[name]} for name, figure in self.figures.items()}
        if self.rival is not None:
            verdicts = {name: self.rival.verdict(name) for name in self.rival.differences}
            fields["rival"] = {**asdict(self.rival), "verdicts": verdicts}
        plain: dict[str, Any] = _plain(fields)
        return plain

    def rows(self) -> list[tuple[str, str]]:
        """Return a table for a person to read: (name, value with its interval), then counts, notes and warnings."""
        rows = []
        for name, figure in self.figures.items():
            if figure.value is not None:
                rows.append((name, f"{figure.value:.3f}{interval(figure)}  {UNITS[name]}"))
                rows += self._gain(name)
        rows.append(("objects", ", ".join(f"{count:,} {name}" for name, count in self.counts.items())))
        rows += [("note", note) for note in self.notes]
        return rows + [("WARNING", warning) for warning in self.warnings]

    def _gain(self, name: str) -> list[tuple[str, str]]:
        """Return a row with the difference from the rival in one figure, where there is one."""
        rival = self.rival
        if rival is None or name not in rival.differences or rival.differences[name].value is None:
            return []
        gain, other = rival.differences[name], rival.figures[name]
        text = f"{gain.value:+.3f}{interval(gain, '+')}  against {other.value:.3f} of {rival.name}"
        return [("", f"{text}  {rival.verdict(name)}".rstrip())]


def interval(figure: Figure, sign: str = "") -> str:
    """Return '  (0.120 to 0.340)', or '' where a figure has no interval; `sign` '+' writes the sign of both."""
    if figure.low is None or figure.high is None:
        return ""
    return f"  ({figure.low:{sign}.3f} to {figure.high:{sign}.3f})"


def _plain(value: Any) -> Any:
    """Return mappings, sequences and numbers as JSON has them."""
    if isinstance(value, Figure):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value

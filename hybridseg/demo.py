"""The verb `demo`: render a town, extract its buildings, score them, draw them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd

from hybridseg.errors import OutputError, ThemeError
from hybridseg.metrics.boundary import BoundaryScore, boundary_f1
from hybridseg.metrics.objects import Match, match
from hybridseg.run.extract import extract
from hybridseg.run.progress import Progress
from hybridseg.run.result import Summary
from townscape import Town, render_town

SEED = 7
"""Seed of the demo's town; training uses the seeds from 1000 on."""


@dataclass(frozen=True)
class Outcome:
    """Result of the demo: the run's summary, its scores against the known truth, and the picture."""

    summary: Summary
    matched: Match
    boundary: BoundaryScore
    picture: Path

    def lines(self) -> list[tuple[str, str]]:
        """Return the scores and the picture as (what, how much)."""
        m, b = self.matched, self.boundary
        return [
            ("score", f"F1 {m.f1:.2f} at IoU 0.5 (precision {m.precision:.2f}, recall {m.recall:.2f})"),
            ("", f"mean IoU of matched {m.mean_iou:.2f}, boundary F1 at 2 px {b.f1:.2f}"),
            ("picture", str(self.picture)),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as for JSON."""
        m = self.matched
        scores = {
            "f1": m.f1,
            "precision": m.precision,
            "recall": m.recall,
            "mean_iou": m.mean_iou,
            "boundary_f1": self.boundary.f1,
        }
        return asdict(self.summary) | {"scores": scores, "picture": str(self.picture)}


def demo(
    folder: Path = Path("demo"),
    size_px: int = 1024,
    seed: int = SEED,
    refiner: str = "sam2-lite",
    progress: Progress | None = None,
) -> Outcome:
    """Map the buildings of a rendered town whose truth is known, and draw the result.

    Args:
        folder: where town.tif, town_truth.gpkg, buildings.gpkg and buildings.png are written.
        size_px: side of the town in pixels of 0.3 m.
        seed: which town.
        refiner: as for extract.
        progress: told how far the work is (Python only).

    Raises:
        OutputError: the folder cannot be made or written to.
        ThemeError: no town can be rendered from these numbers.
    """
    # matplotlib comes with it: `hybridseg --help` must not wait for it
    from hybridseg.evaluation.picture import against_truth, draw_features

    scene, truth_path = _write(_render(size_px, seed), folder)
    result = extract(scene, folder / "buildings.gpkg", theme="buildings", refiner=refiner, progress=progress)
    features, truth = result.features, gpd.read_file(truth_path)
    picture = folder / "buildings.png"
    draw_features(scene, against_truth(features, truth), picture)
    matched = match(features.geometry, truth.geometry)
    return Outcome(result.summary, matched, boundary_f1(features.geometry, truth.geometry, 0.6), picture)


def _render(size_px: int, seed: int) -> Town:
    try:
        return render_town(size_px, 0.3, seed)
    except ValueError as error:
        raise ThemeError(f"cannot render a town: {error}") from error


def _write(town: Town, folder: Path) -> tuple[Path, Path]:
    try:
        return town.write(folder)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"cannot write the town into {folder} ({reason}): name a folder to write to") from error

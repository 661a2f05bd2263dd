"""The verb `demo`: render a town, extract its buildings, score them, draw them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd

from hybridseg.demo.town import render_town
from hybridseg.errors import OutputError
from hybridseg.evaluate.measure.boundary import BoundaryScore, boundary_f1
from hybridseg.evaluate.measure.objects import Match, match
from hybridseg.run.extract import extract
from hybridseg.run.summary import Summary

SEED = 7
"""Town of the demo; training renders from 1000 on."""


@dataclass(frozen=True)
class Outcome:
    """What the demo did and how well it did it."""

    summary: Summary
    matched: Match
    boundary: BoundaryScore
    picture: Path

    def lines(self) -> list[tuple[str, str]]:
        """(what, how much) for a person to read."""
        m, b = self.matched, self.boundary
        return [
            ("score", f"F1 {m.f1:.2f} at IoU 0.5 (precision {m.precision:.2f}, recall {m.recall:.2f})"),
            ("", f"mean IoU of matched {m.mean_iou:.2f}, boundary F1 at 2 px {b.f1:.2f}"),
            ("picture", str(self.picture)),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as for JSON."""
        m = self.matched
        scores = {
            "f1": m.f1,
            "precision": m.precision,
            "recall": m.recall,
            "mean_iou": m.mean_iou,
            "boundary_f1": self.boundary.f1,
        }
        return asdict(self.summary) | {"scores": scores, "picture": str(self.picture)}


def demo(folder: Path = Path("demo"), size_px: int = 1024, seed: int = SEED, refiner: str = "sam2-lite") -> Outcome:
    """Map the buildings of a rendered town whose truth is known, and draw the result.

    Args:
        folder: gets town.tif, town_truth.gpkg, buildings.gpkg and buildings.png.
        size_px: side of the town; a pixel is 0.3 m.
        seed: another number, another town.
        refiner: as for extract.
    """
    # matplotlib comes with it: `hybridseg --help` must not wait for it
    from hybridseg.evaluate.show.picture import against_truth, draw_features

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder} for the demo: {error.strerror}") from error
    scene, truth_path = render_town(size_px, 0.3, seed).write(folder)
    features = extract(scene, folder / "buildings.gpkg", theme="buildings", refiner=refiner)
    truth = gpd.read_file(truth_path)
    picture = folder / "buildings.png"
    draw_features(scene, against_truth(features, truth), picture)
    matched = match(features.geometry, truth.geometry)
    return Outcome(features.attrs["summary"], matched, boundary_f1(features.geometry, truth.geometry, 0.6), picture)

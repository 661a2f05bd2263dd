"""How far a score is the chance that an object is right, on a place that had no part in it.

python -m benchmarks.calibration [DATA [THEME ...]]      writes benchmarks/results/calibration.json, and into the cards

Each theme as it ships maps its places that trained no weight. A curve from score to the share of polygons that match at
IoU 0.5 is fitted on all places but one (isotonic regression, as `finetune` does it) and judged on that one by the
expected calibration error (Guo et al. 2017). The curve of all places goes into the classifier's card; it holds for the
theme's settings, and is left out where there is one place only or it does not make the mean error smaller. Water and
roads have none: a network in one piece or in ten is not right or wrong as a whole.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.accuracy import RESULTS
from benchmarks.places import places
from benchmarks.publish import THEMES
from hybridseg.finetuning.settle import Judged, calibrate, judge
from hybridseg.folders import models_folders
from hybridseg.metrics.scores import calibration_error, reliability
from hybridseg.run.progress import Quiet
from hybridseg.theme import Theme, load_theme


def error_of(score: np.ndarray, matched: np.ndarray) -> float:
    """Expected calibration error of scores (n,) against what matched (n,)."""
    return float(calibration_error(reliability(score, matched, np.zeros(len(score), int), 1))[0])


def curve_of(judged: Sequence[Judged]) -> list[list[float]] | None:
    """Points (score, chance) from all polygons of some places; None where there are too few."""
    score, matched = (np.concatenate([getattr(one, name) for one in judged] or [[]]) for name in ("score", "matched"))
    return calibrate(score, matched.astype(bool))


def left_out(theme: Theme, judged: Sequence[Judged], names: Sequence[str]) -> list[dict[str, Any]]:
    """Errors at each place before, and after a curve of the other places; places without polygons have no row."""
    rows = []
    for one, name in zip(judged, names, strict=True):
        curve = curve_of([other for other in judged if other is not one])
        if curve is None or not len(one.score):
            continue
        chance = np.interp(one.score, *np.array(curve).T)
        rows.append(
            {
                "theme": theme.name, "place": name, "polygons": len(one.score), "right": float(one.matched.mean()),
                "ece_before": error_of(one.score, one.matched), "ece": error_of(chance, one.matched),
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def keep(theme: Theme, judged: Sequence[Judged], rows: Sequence[dict[str, Any]]) -> None:
    """Write the theme's curve into its classifier's card, or take it out."""
    path = models_folders()[-1] / theme.classifier / "card.yaml"
    card = yaml.safe_load(path.read_text())
    better = rows and np.mean([row["ece"] - row["ece_before"] for row in rows]) < 0
    curve = curve_of(judged) if better else None
    for entry, value in (
        ("calibration", curve),
        ("calibration_settings", curve and theme.score_fingerprint(judged[0].refiner)),
    ):
        values = {**card.pop(entry, {}), theme.label: value}
        if values := {label: known for label, known in values.items() if known}:
            card[entry] = values
    path.write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=100))


def main(data: Path, themes: Sequence[str]) -> None:
    """Measure, and write the figures and the cards; rows of themes not asked for stay."""
    path = RESULTS / "calibration.json"
    kept = [row for row in json.loads(path.read_text()) if row["theme"] not in themes] if path.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        found = [place for place in places(data, Path(folder)) if not place.trained]
        for theme in (theme for name in themes if (theme := load_theme(name)).counted):
            mine = [place for place in found if place.theme == theme.name]
            judged = judge(theme, mine, "cpu", Quiet())
            rows = left_out(theme, judged, [place.name for place in mine])
            keep(theme, judged, rows)
            kept += rows
    path.write_text(json.dumps(sorted(kept, key=lambda row: row["theme"]), indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"), sys.argv[2:] or THEMES)

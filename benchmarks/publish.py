"""Puts the measured figures where people read them: into the README, between its markers, and into the cards.

python -m benchmarks.publish
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from benchmarks.accuracy import RESULTS, RUNS
from hybridseg.theme import load_theme

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- scores: made by `make scores` -->", "<!-- end of scores -->"
THEMES = ("buildings", "fields", "roads", "solar", "water")
FIGURES = {"f1": "F1", "area_iou": "IoU", "boundary_f1": "boundary F1"}


def table(rows: list[dict[str, Any]]) -> str:
    """A row for each place and figure, a column for each run; the best of a row in bold."""
    lines = [f"| theme, place | | {' | '.join(RUNS)} |", "|---|---|" + "---|" * len(RUNS)]
    for theme, place in dict.fromkeys((row["theme"], row["place"]) for row in rows):
        runs = {row["run"]: row for row in rows if row["place"] == place and row["theme"] == theme}
        figures = FIGURES if theme != "roads" else {"relaxed_f1": "F1 within 3 px", "boundary_f1": "boundary F1"}
        for number, (name, title) in enumerate(figures.items()):
            values = [runs[run][name] for run in RUNS]
            cells = [f"**{v:.3f}**" if round(v, 3) == round(max(values), 3) else f"{v:.3f}" for v in values]
            count = runs["hybrid"]["objects"]
            head = f"{theme}: {place}, {count} object{'s' * (count != 1)}" if number == 0 else ""
            lines.append(f"| {head} | {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def scores_of(
    model: str, accuracy: list[dict[str, Any]], refiner: dict[str, Any], track: dict[str, Any]
) -> dict[str, Any]:
    """A card's entry: for a classifier the coarse outlines of its themes, for the refiner what it makes of prompts."""
    if model == refiner["model"]:
        return {
            "command": "make scores",
            "what": "mean IoU with the reference outline, by what it is told; predicted against real IoU",
            "places": [_rounded(row) for row in refiner["rows"]],
            "iou_pred": {f"looks {looks}": _rounded(found) for looks, found in refiner["iou_pred"].items()},
            "memory": {
                "what": "over three made-up dates: IoU on the last, and how often it tells whether an object is there",
                "places": [_rounded(row) for row in track["rows"]],
            },
        }
    mine = {name for name in THEMES if load_theme(name).classifier == model}
    rows = [row for row in accuracy if row["theme"] in mine and row["run"] == "coarse only"]
    kept = ("theme", "place", "objects", "f1", "mean_iou", "area_iou", "boundary_f1", "relaxed_f1")
    places = [_rounded({k: row[k] for k in kept if k in row}) for row in rows]
    what = "coarse outlines alone, with the thresholds that ship, which these places helped to choose"
    return {"command": "make scores", "what": what, "places": places}


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}


def main() -> None:
    """Write the README's tables and the cards' scores."""
    accuracy = json.loads((RESULTS / "accuracy.json").read_text())
    refiner = (RESULTS / "refiner.md").read_text().split("\n\n")
    measured, track = (json.loads((RESULTS / f"{name}.json").read_text()) for name in ("refiner", "memory_track"))
    for path in sorted((README.parent / "models").glob("*/card.yaml")):
        card = yaml.safe_load(path.read_text())
        scores = scores_of(path.parent.name, accuracy, measured, track)
        if scores["places"]:
            path.write_text(yaml.safe_dump(card | {"scores": scores}, sort_keys=False, allow_unicode=True, width=100))
    text = README.read_text()
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    README.write_text("\n\n".join([head + BEGIN, table(accuracy), *refiner[:3], END]).rstrip() + tail)


if __name__ == "__main__":
    main()

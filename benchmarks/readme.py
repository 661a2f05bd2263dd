"""Puts the measured figures into the README, between its markers.

python -m benchmarks.readme
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.accuracy import RESULTS, RUNS

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- scores: made by `make scores` -->", "<!-- end of scores -->"
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
            head = f"{theme}: {place}, {runs['hybrid']['objects']} objects" if number == 0 else ""
            lines.append(f"| {head} | {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Write both tables."""
    accuracy = json.loads((RESULTS / "accuracy.json").read_text())
    refiner = (RESULTS / "refiner.md").read_text().split("\n\n")
    text = README.read_text()
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    README.write_text("\n\n".join([head + BEGIN, table(accuracy), *refiner[:3], END]).rstrip() + tail)


if __name__ == "__main__":
    main()

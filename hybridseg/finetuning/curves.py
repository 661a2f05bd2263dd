"""How a training went, as a picture."""

from __future__ import annotations

import csv
from pathlib import Path


def draw_curves(run: Path, out: Path) -> Path:
    """Loss of training and validation against steps, from all the times that a run was started.

    Args:
        run: folder of the run, with `curves/version_<k>/metrics.csv`.
        out: PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")  # not pyplot: it keeps state and wants a display
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="step", ylabel="loss")
    for column, label in (("loss", "training"), ("val_loss", "validation")):
        points = read_curve(run, column)
        axes.plot(
            *zip(*points, strict=True) if points else ([], []), marker="." if column == "val_loss" else "", label=label
        )
    axes.legend()
    figure.savefig(out, dpi=120)
    return out


def read_curve(run: Path, column: str) -> list[tuple[int, float]]:
    """(step, value) of one column, by step; where a run was taken up again, the later value of a step."""
    found: dict[int, float] = {}
    for path in sorted((run / "curves").glob("version_*/metrics.csv"), key=lambda p: int(p.parent.name[8:])):
        with path.open() as file:
            found |= {int(r["step"]): float(r[column]) for r in csv.DictReader(file) if r.get(column)}
    return sorted(found.items())

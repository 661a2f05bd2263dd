"""What finetune gives: a model folder and its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIGURES = {"objects": "objects", "found": "found", "f1": "F1", "area_iou": "IoU", "boundary_f1": "boundary F1"}
"""Figures of a card's scores, and what they are called."""


@dataclass(frozen=True)
class Finetuned:
    """A model folder and its card."""

    folder: Path
    card: Mapping[str, Any]

    def lines(self) -> list[tuple[str, str]]:
        """Return (what, how much) for a person to read."""
        card, folder = self.card, self.folder
        labels = ", ".join(f"{count:,} {name}" for name, count in card["objects"].items())
        start = f", going on from {card['start']}" if card["start"] else ""
        rows = [
            ("learnt from", f"{labels} objects at {card['gsd_m']:g} m"),
            ("head", f"{card['head']} on {card['backbone']}{start}"),
        ]
        if card.get("steps") == 0:
            rows.append(("", "as it was: no step was better on the validation blocks"))
        for score in card["scores"]["places"]:
            figures = ", ".join(f"{called} {score[name]:g}" for name, called in FIGURES.items())
            interval = score.get("f1_interval")
            figures += f"; F1 from {interval[0]:g} to {interval[1]:g} (95 %)" if interval else ""
            rows.append((f"{score['class']}", f"{figures} (validation blocks, {score['place']})"))
        if not card["scores"]["places"]:
            rows.append(("scores", "none: no object lies in a validation block; label more, or raise --validation"))
        known = ", ".join(card["calibration"]) or "none: fewer than 10 polygons, or all right or all wrong"
        rows.append(("calibrated", known))
        return [*rows, ("written", str(folder)), ("use it", f"hybridseg extract SCENE map.gpkg --model {folder}")]

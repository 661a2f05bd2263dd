"""The model folder that finetune makes, and what it tells of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridseg.errors import OutputError
from hybridseg.files import check_not_input, hidden_folder, take_place

FILES = ("weights.safetensors", "card.yaml", "curves.png")
"""Files of a model folder beside its themes."""
THEMES = "theme*.yaml"
"""Themes of a model folder; those of a former model are removed."""


def check_folder(out: Path, inputs: Iterable[object]) -> None:
    """Refuse a folder in which a model would be written over what it is made from.

    Args:
        out: the model folder.
        inputs: as of `check_not_input`.

    Raises:
        OutputError: one of the model's files is one of the inputs.
    """
    inputs = list(inputs)
    for file in [*(out / name for name in FILES), *out.glob(THEMES)]:
        check_not_input(file, inputs)


@contextmanager
def model_at(out: Path) -> Iterator[Path]:
    """A folder beside `out` to fill; when the block ends well, its files take the place of those of a former model.

    Raises:
        OutputError: `out` cannot be made, or holds something else than a model.
    """
    if out.is_dir() and any(out.iterdir()) and not (out / "card.yaml").exists():
        raise OutputError(f"the folder {out} holds something else than a model; give --out a new name")
    try:
        if out.exists() and not out.is_dir():
            raise FileExistsError(17, "a file is in its place")
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {out}: {error.strerror}; give another --out") from error
    with hidden_folder(out) as folder:
        yield folder
        out.mkdir(exist_ok=True)
        fresh = os.listdir(folder)
        for former in [*out.glob(THEMES), out / "curves.png"]:
            if former.name not in fresh:
                former.unlink(missing_ok=True)
        for file in fresh:
            take_place(folder / file, out / file)


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

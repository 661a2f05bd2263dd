"""An extraction with doubles for the networks, to be run as a process of its own: slow, and with a log."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np

from hybridseg import Models, extract
from hybridseg.types import Chip
from tests.doubles import Bright, Threshold


class Logged(Threshold):
    """A refiner that writes down which windows it encodes, and takes its time."""

    def __init__(self, log: Path, pause_s: float) -> None:
        super().__init__()
        object.__setattr__(self, "log", log)
        object.__setattr__(self, "pause_s", pause_s)

    def encode(self, chip: Chip) -> np.ndarray:
        with self.log.open("a") as file:  # type: ignore[attr-defined]
            file.write(f"{os.getpid()} {chip.geobox.boundingbox.bbox}\n")
        time.sleep(self.pause_s)  # type: ignore[attr-defined]
        return super().encode(chip)


def work(scene: Path, out: Path, theme: Path, run: Path | None, log: Path, pause_s: float, engine: str) -> None:
    """Extract, and leave the summary beside the log, under the process's number."""
    models = Models(Bright(), Logged(log, pause_s))
    with patch.object(Models, "open", lambda *_: models):
        summary = extract(scene, out, theme=theme, run=run, engine=engine).summary
    (log.parent / f"{os.getpid()}.json").write_text(json.dumps(summary.to_dict()))

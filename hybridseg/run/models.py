"""The verb `models`: what each embedded model is, was made of, scores, and is bad at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridseg import nn


@dataclass(frozen=True)
class ModelCard:
    """The card of a model.

    name: of its folder.
    megabytes: of its weights.
    entries: of card.yaml, as they stand there.
    """

    name: str
    megabytes: float
    entries: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as for JSON."""
        entries = {key: value for key, value in self.entries.items() if key != "name"}
        return {"name": self.name, "megabytes": self.megabytes, **entries}

    def line(self) -> str:
        """Return a line for a list of models."""
        finds = ", ".join(self.entries.get("classes", [])) or "outlines of whatever it is prompted for"
        finest, coarsest = self.entries.get("gsd_range_m", ("?", "?"))
        return f"{self.entries.get('kind', 'model')}: {finds}; {finest} to {coarsest} m; {self.megabytes} MB"


def models(name: str | Path | None = None) -> list[ModelCard]:
    """Show the cards of the embedded models.

    Args:
        name: one of them, or the path of a model folder; all embedded ones by default.

    Raises:
        WeightsError: no such model, or it has no card.
    """
    folders = [nn.cards.model_folder(n) for n in ([name] if name else nn.cards.embedded())]
    return [
        ModelCard(
            folder.name, round((folder / "weights.safetensors").stat().st_size / 1e6, 1), nn.cards.read_card(folder)
        )
        for folder in folders
    ]

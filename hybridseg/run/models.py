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

    name: of its folder, or by which it is fetched.
    megabytes: of its weights; None: not known.
    entries: of card.yaml, as they stand there; of what is fetched when it is named: kind, licence, page.
    """

    name: str
    megabytes: float | None
    entries: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as for JSON."""
        entries = {key: value for key, value in self.entries.items() if key != "name"}
        return {"name": self.name, "megabytes": self.megabytes, **entries}

    def line(self) -> str:
        """Return a line for a list of models."""
        if "fetched" in self.entries:
            size = "" if self.megabytes is None else f"about {self.megabytes} MB; "
            return f"{self.entries['kind']}, fetched when named: {size}licence {self.entries['licence']}"
        finds = ", ".join(self.entries.get("classes", [])) or "outlines of whatever it is prompted for"
        finest, coarsest = self.entries.get("gsd_range_m", ("?", "?"))
        return f"{self.entries.get('kind', 'model')}: {finds}; {finest} to {coarsest} m; {self.megabytes} MB"


def models(name: str | Path | None = None) -> list[ModelCard]:
    """Show the cards of the models, and the licences of what is fetched.

    Args:
        name: one of them, or the path of a model folder; all by default. Nothing is fetched but the folder of
            hf:OWNER/NAME.

    Raises:
        WeightsError: no such model, or it has no card.
    """
    source = None if name is None else nn.cards.source_of(str(name))
    if source is not None and not str(name).startswith(nn.cards.HUB):
        return [_fetched(str(name), source)]
    folders = [nn.cards.model_folder(n) for n in ([name] if name else nn.cards.embedded())]
    cards = [
        ModelCard(
            folder.name, round((folder / "weights.safetensors").stat().st_size / 1e6, 1), nn.cards.read_card(folder)
        )
        for folder in folders
    ]
    return cards if name else cards + [_fetched(one.name, one) for one in nn.cards.SOURCES]


def _fetched(name: str, source: nn.cards.Source) -> ModelCard:
    told = {"kind": source.kind, "licence": source.licence, "page": source.page, "fetched": "when it is named"}
    return ModelCard(name, source.megabytes, told)

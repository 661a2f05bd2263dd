"""The verb `models`: what each embedded model is, was made of, scores, and is bad at."""

from __future__ import annotations

from typing import Any


def models(name: str | None = None) -> list[dict[str, Any]]:
    """The cards of the embedded models.

    Args:
        name: one of them, or the path of a model folder; all embedded ones by default.

    Raises:
        WeightsError: no such model, or it has no card.
    """
    # torch comes with it: not for `hybridseg --help`
    from hybridseg.nn.cards import embedded, model_folder, read_card

    folders = [model_folder(name)] if name else [model_folder(n) for n in embedded()]
    return [
        {
            "name": folder.name,
            "megabytes": round((folder / "weights.safetensors").stat().st_size / 1e6, 1),
            **{key: value for key, value in read_card(folder).items() if key != "name"},
        }
        for folder in folders
    ]


def one_line(card: dict[str, Any]) -> str:
    """What a person wants to see in a list."""
    finds = ", ".join(card.get("classes", [])) or "outlines of whatever it is shown"
    finest, coarsest = card.get("gsd_range_m", ("?", "?"))
    return f"{card.get('kind', 'model')}: {finds}; {finest} to {coarsest} m; {card['megabytes']} MB"

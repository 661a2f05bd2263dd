"""What labels call the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from hybridseg.errors import ThemeError
from hybridseg.evaluate.compare.layers import class_text

Classes = Mapping[str, str | None]
"""Class to its value in the column or raster; None: whatever the layer holds."""


def parse_classes(text: str | None, names: Sequence[str], column: str | None) -> dict[str, str | None]:
    """What the labels call each class of the themes.

    Args:
        text: `building=1,road=2`, or None: each by its own name, or the whole layer where there is but one class.
        names: classes of the themes, in order.
        column: column of the class, if any.

    Raises:
        ThemeError: a class is missing or given twice, two share a value, or nothing tells several apart.
    """
    if text is None:
        if len(names) > 1 and column is None:
            raise ThemeError(
                f"{len(names)} classes ({', '.join(names)}) need --column or --classes, e.g. {names[0]}=1,{names[1]}=2"
            )
        return {name: name if column else None for name in names}
    pairs = [
        (name.strip(), value.strip() or name.strip()) for name, _, value in (p.partition("=") for p in text.split(","))
    ]
    if sorted(name for name, _ in pairs) != sorted(names):
        called = ", ".join(name for name, _ in pairs)
        raise ThemeError(f"--classes names {called}; the themes' classes are {', '.join(names)}: give each once")
    if len({value for _, value in pairs}) < len(pairs):
        raise ThemeError(f"--classes {text} gives one value to two classes; give each class a value of its own")
    return {name: dict(pairs)[name] for name in names}


def as_typed(values: pd.Series) -> pd.Series:
    """Values of a column as one types them, 2.0 as 2; missing ones stay missing."""
    return values[values.notna()].map(class_text).reindex(values.index)

"""What of a review the queue walks: objects by class, verdict, origin, score, area and place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hybridseg.types import Extent


@dataclass(frozen=True)
class Filter:
    """Lets objects through that fit every field; an empty field lets all through.

    label: class.
    verdict: see `Verdict`.
    origin: as in the extraction, or `Hand`.
    score: least and most; objects without a score do not fit.
    area_m2: least and most.
    extent: left, bottom, right, top in the CRS, which the object's box meets.
    """

    label: str | None = None
    verdict: str | None = None
    origin: str | None = None
    score: tuple[float | None, float | None] = (None, None)
    area_m2: tuple[float | None, float | None] = (None, None)
    extent: Extent | None = None

    def condition(self, index: str, area: str) -> tuple[str, list[Any]]:
        """Return a condition of SQL and its values.

        Args:
            index: table of the spatial index.
            area: expression of an object's area in m2; costly, so it comes last.
        """
        parts: list[tuple[str, tuple[Any, ...]]] = []
        for column, value in (("class", self.label), ("verdict", self.verdict), ("origin", self.origin)):
            if value is not None:
                parts.append((f"{column} = ?", (value,)))
        if self.extent is not None:
            left, bottom, right, top = self.extent
            near = f"SELECT id FROM {index} WHERE maxx >= ? AND minx <= ? AND maxy >= ? AND miny <= ?"
            parts.append((f"fid IN ({near})", (left, right, bottom, top)))
        for column, (least, most) in (("score", self.score), (area, self.area_m2)):
            if least is not None:
                parts.append((f"{column} >= ?", (least,)))
            if most is not None:
                parts.append((f"{column} <= ?", (most,)))
        return " AND ".join(text for text, _ in parts) or "1", [value for _, given in parts for value in given]

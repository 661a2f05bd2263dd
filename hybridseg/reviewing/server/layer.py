"""What imagery says of the objects of a layer that came from elsewhere."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import numpy as np
import shapely
from fastapi import FastAPI, Path

from hybridseg.reviewing.desk import Desk


def add_layer(app: FastAPI, desk: Desk) -> None:
    """Add the routes of a layer from elsewhere.

    Args:
        app: of a review.
        desk: what it is about.
    """

    @app.get("/api/findings")
    def findings() -> dict[str, Any]:
        """How many objects imagery says are kept, moved, changed, removed, added or unknown, when the review began."""
        return {"counts": dict(Counter(one.said for one in desk.findings.values()))}

    @app.get("/api/findings/{key}")
    def finding(key: Annotated[int, Path(ge=1, le=2**53)]) -> dict[str, Any]:
        """What imagery says of an object, and places proposed for it; nothing of objects that came later."""
        found = desk.findings.get(key)
        if found is None:
            return {"said": None, "shift_m": None, "places": []}
        places = []
        if found.place is not None:
            places = [{"geometry": shapely.geometry.mapping(found.place), "origin": found.origin}]
            if found.said == "moved":
                own = desk.before[key].geometry
                way = np.subtract(found.place.centroid.coords[0], own.centroid.coords[0])
                moved = shapely.transform(own, lambda xy: xy + way)
                places.append({"geometry": shapely.geometry.mapping(moved), "origin": "given"})
        shift_m = None if found.place is None else round(found.shift_m, 2)
        return {"said": found.said, "shift_m": shift_m, "places": places}

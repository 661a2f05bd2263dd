"""The routes of the queue, of findings on a layer from elsewhere, of squares of ground, and of how far the work is."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
import shapely
from fastapi import FastAPI, Path, Query

from hybridseg.reviewing.desk import Desk
from hybridseg.reviewing.objects import PRESENT
from hybridseg.reviewing.order import AUDIT
from hybridseg.reviewing.server.messages import Square, Walk, feature


def add_queue(app: FastAPI, desk: Desk) -> None:
    """Add the routes of the queue.

    Args:
        app: of a review.
        desk: what it is about.
    """
    edits, audit = desk.edits, desk.audit

    @app.get("/api/queue")
    def queue(walk: Annotated[Walk, Query()]) -> dict[str, Any]:
        """Objects from a place in the queue on; with a filter, also how many it lets through, and how many are left."""
        only = walk.only
        found = desk.queue(walk.position, -1 if walk.back else 1, walk.count, walk.undecided and not walk.back, only)
        places = [{"position": place, "object": feature(one)} for place, one in found]
        told: dict[str, Any] = {"length": len(desk.line), "places": places}
        if only is not None:
            matching = desk.matching(only)
            told["matching"] = {"count": len(matching), "left": sum(matching.values())}
        return told

    @app.get("/api/square")
    def square() -> dict[str, Any]:
        """The square of ground to be looked over next for what the map lacks; null: there is none."""
        name = audit.next()
        if name is None:
            return {"square": None}
        outline = shapely.transform(shapely.box(*_sides(name)), _in_crs, interleaved=False)
        return {"square": name, "geometry": shapely.geometry.mapping(outline)}

    def _sides(name: str) -> tuple[int, int, int, int]:
        window = audit.window(name)
        return window.col, window.row, *window.stop

    def _in_crs(x: Any, y: Any) -> Any:
        return desk.scene.geobox.affine @ (x, y)

    @app.post("/api/square")
    def looked(done: Square) -> dict[str, Any]:
        """Write down that the square was looked over and what the map lacks in it is added; then as GET."""
        head = audit.look(done.square, desk.who).seq
        return {"head": head, **square()}

    @app.get("/api/progress")
    def progress() -> dict[str, Any]:
        """Objects by verdict, decisions a minute, and what the samples say of the map's precision and recall."""
        counts, sample = edits.counts(), audit.precision()
        told = {"each": AUDIT, **asdict(sample), "recall": asdict(audit.recall())}
        on_map = sum(counts.get(verdict, 0) for verdict in PRESENT)
        return {"counts": counts, "on_map": on_map, "a_minute": edits.a_minute(), "audit": told, "head": edits.head}


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

"""The routes of the models: what they see of the ground in view, and what they make of the decisions."""

from __future__ import annotations

from typing import Annotated, Any

import shapely
from fastapi import FastAPI, Query
from fastapi.responses import Response

from hybridseg.errors import ReviewError
from hybridseg.read.tiles import transformed
from hybridseg.reviewing.desk import Desk
from hybridseg.reviewing.seen import Seen
from hybridseg.reviewing.server.messages import Learn, View
from hybridseg.reviewing.teaching import Job

MOST_SHOWN = 1_000
"""Outlines of each kind that are shown of what would change; all are counted."""


def add_learning(app: FastAPI, desk: Desk) -> None:
    """Add the routes of improve and propose.

    Args:
        app: of a review.
        desk: what it is about.
    """
    teaching = desk.teaching

    @app.post("/api/improve")
    def begin(asked: Learn) -> dict[str, Any]:
        """Learn from the decisions, or look for what is missing, in the background; nothing changes on the map."""
        teaching.begin(asked.kind, asked.label)
        return _job(teaching.job)

    @app.get("/api/improve")
    def how_far() -> dict[str, Any]:
        """How far that is; when it is ready, what would be new, gone and changed."""
        return _job(teaching.job)

    @app.post("/api/improve/agree")
    def agree() -> dict[str, Any]:
        """Put what was found on the map, as one action; what was decided meanwhile stays as it is."""
        job = teaching.take()
        assert job.found is not None
        done = teaching.agree(job.found, desk.who, job.kind)
        return {"head": done.seq, "changed": len(done.changed), "queue": len(desk.line)}

    @app.post("/api/improve/forget")
    def forget() -> dict[str, Any]:
        """Drop what was found, or will be."""
        teaching.forget()
        return _job(None)


def _job(job: Job | None) -> dict[str, Any]:
    if job is None:
        return {"state": "none"}
    state = "failed" if job.error else "running" if job.found is None else "ready"
    told: dict[str, Any] = {"state": state, "kind": job.kind, "class": job.label}
    if job.found is None:
        return {**told, "sweep": job.steps.sweep, "done": job.steps.done, "total": job.steps.total, "error": job.error}
    parts = {"new": job.found.new, "gone": job.found.gone, "changed": job.found.changed}
    features = [_feature(what, one.geometry) for what, part in parts.items() for one in part[:MOST_SHOWN]]
    told |= {"kept": job.found.kept, "regrouped": sum(bool(one.parents) for one in job.found.new)}
    return {**told, **{what: len(part) for what, part in parts.items()}, "features": features}


def add_seen(app: FastAPI, desk: Desk) -> None:
    """Add the routes of heatmap, prompts and windows.

    Args:
        app: of a review.
        desk: what it is about.
    """

    @app.get("/api/seen")
    def seen(view: Annotated[View, Query()]) -> dict[str, Any]:
        """What is found in an extent: supports and points of prompts, windows; and the corners of its heatmap."""
        found = _of(view)
        corners = [
            found.grid.affine @ at
            for at in ((0, 0), (found.grid.width, 0), found.grid.shape.xy, (0, found.grid.height))
        ]
        return {"corners": corners, "type": "FeatureCollection", "features": [*_prompts(found), *_windows(found)]}

    @app.get("/api/heatmap", response_class=Response, responses={200: {"content": {"image/png": {}}}})
    def heatmap(view: Annotated[View, Query()]) -> Response:
        """The heatmap of an extent as a picture, to be laid on the corners that `/api/seen` gives."""
        return Response(_of(view).picture, media_type="image/png")

    def _of(view: View) -> Seen:
        left, bottom, right, top = desk.scene.geobox.boundingbox.bbox
        extent = max(view.left, left), max(view.bottom, bottom), min(view.right, right), min(view.top, top)
        if not (extent[0] < extent[2] and extent[1] < extent[3]):
            raise ReviewError("the extent lies beside the scene; give coordinates in the scene's CRS")
        return desk.sight.of(view.label, extent)

    def _windows(found: Seen) -> list[dict[str, Any]]:
        boxes = [shapely.box(window.col, window.row, *window.stop) for window in found.windows]
        return [_feature("window", transformed(box, desk.scene.geobox.affine)) for box in boxes]


def _prompts(found: Seen) -> list[dict[str, Any]]:
    rows = found.prompts.rows
    return [
        _feature(what, geometry)
        for what, column in (("support", "support"), ("on", "positive"), ("beside", "negative"))
        for geometry in rows[column]
        if geometry is not None and not geometry.is_empty
    ]


def _feature(what: str, geometry: shapely.Geometry) -> dict[str, Any]:
    return {"type": "Feature", "properties": {"what": what}, "geometry": shapely.geometry.mapping(geometry)}

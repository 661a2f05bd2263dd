"""The routes of what the models see of the ground in view."""

from __future__ import annotations

from typing import Annotated, Any

import shapely
from fastapi import FastAPI, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from hybridseg.errors import ReviewError
from hybridseg.read.tiles import transformed
from hybridseg.reviewing.desk import Desk
from hybridseg.reviewing.seen import Seen
from hybridseg.reviewing.server.messages import Label


class View(BaseModel):
    """A class, and an extent in the scene's CRS."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: Annotated[Label, Field(alias="class")]
    left: FiniteFloat
    bottom: FiniteFloat
    right: FiniteFloat
    top: FiniteFloat


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

"""The routes: small answers about one scene and its review. Each request stands alone and stays small."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

import numpy as np
import shapely
from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from hybridseg.errors import HybridsegError, ReviewError
from hybridseg.read.scene import Scene
from hybridseg.reviewing.desk import Desk
from hybridseg.reviewing.objects import Conflict, Done, Unknown
from hybridseg.reviewing.segment import Candidate, Clicks
from hybridseg.reviewing.server.messages import PROTOCOL, Act, Ask, Draft, Look, Refused, Step, ToShape, feature, placed
from hybridseg.reviewing.server.models import add_learning, add_seen
from hybridseg.reviewing.server.queue import add_layer, add_queue
from hybridseg.reviewing.tiles import OWN_ZOOM, TILE_PX
from hybridseg.run.provenance import installed_version
from hybridseg.write.formats import FORMATS
from hybridseg.write.style import colour

STATIC = FilePath(__file__).parent.parent / "static"
MOST_OBJECTS = 10_000
"""Objects given for one view; of more, the largest are."""
MOST_CHANGES = 1_000
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refused, "description": about}
    for status, about in (
        (400, "The body cannot be read."),
        (404, "There is no such object."),
        (409, "Somebody else was faster."),
        (422, "The request means nothing, or nothing can be done."),
    )
}

Number = Annotated[float, Query(allow_inf_nan=False)]


def make_app(desk: Desk, page: bool) -> FastAPI:
    """Return the application of a review.

    Args:
        desk: what it is about.
        page: whether the page is served, too.
    """
    app = FastAPI(
        title="hybridseg review", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json", responses=_REFUSALS
    )
    _say_errors(app)
    _scene_routes(app, desk)
    _click_routes(app, desk)
    _edit_routes(app, desk)
    add_queue(app, desk)
    add_learning(app, desk)
    add_layer(app, desk)
    add_seen(app, desk)
    if page:
        app.mount("/", StaticFiles(directory=STATIC, html=True))
    return app


def _say_errors(app: FastAPI) -> None:
    """Answer every error with one line, as `{"error": ...}`."""

    @app.exception_handler(HybridsegError)
    def refused(_: Request, error: HybridsegError) -> JSONResponse:
        status = 409 if isinstance(error, Conflict) else 404 if isinstance(error, Unknown) else 422
        return JSONResponse({"error": str(error)}, status)

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse({"error": f"{where[:80] or 'the request'}: {first['msg'][:200]}"}, 422)

    @app.exception_handler(HTTPException)
    def other(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code)

    @app.exception_handler(Exception)
    def fault(_: Request, error: Exception) -> JSONResponse:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return JSONResponse({"error": f"a fault of hybridseg itself: {what}"}, 500)


def _file(*types: str) -> dict[int | str, dict[str, Any]]:
    """What a route answers that gives no JSON."""
    return {200: {"content": {kind: {} for kind in types}}}


def _scene_routes(app: FastAPI, desk: Desk) -> None:
    scene, edits = desk.scene, desk.edits

    @app.get("/api/scene")
    def about() -> dict[str, Any]:
        """What is reviewed: scene, grid, classes, formats."""
        geobox = scene.geobox
        return {
            "protocol": PROTOCOL,
            "hybridseg": installed_version("hybridseg"),
            "name": FilePath(scene.name).name,
            "crs": scene.crs.to_epsg() or scene.crs.to_wkt(),
            "width": geobox.width,
            "height": geobox.height,
            "affine": list(geobox.affine)[:6],
            "metres_per_pixel": scene.gsd_m,
            "tiles": {"side_px": TILE_PX, "own_zoom": OWN_ZOOM},
            "origins": edits.origins(),
            "classes": [{"name": name, "colour": colour(name)} for name in desk.classes],
            "formats": sorted(FORMATS),
            "model": desk.segmenter.model.name,
            "who": desk.who,
            "file": edits.path.name,
            "queue": len(desk.line),
            "teachable": list(desk.teaching.labels),
            "seen": [theme.label for theme in desk.themes],
            "head": edits.head,
            "layer": bool(desk.findings),
        }

    @app.get("/api/tiles/{z}/{x}/{y}", response_class=Response, responses=_file("image/jpeg", "image/png"))
    def tile(
        z: Annotated[int, Path(ge=1, le=OWN_ZOOM)],
        x: Annotated[int, Path(ge=0, le=2**OWN_ZOOM)],
        y: Annotated[int, Path(ge=0, le=2**OWN_ZOOM)],
    ) -> Response:
        """A tile of the scene; its own pixels at zoom 18, the first of them in the middle of the world."""
        content, kind = desk.tiles(z, x, y)
        return Response(content, media_type=kind)

    @app.get("/api/objects", response_class=Response, responses=_file("application/geo+json"))
    def objects(
        left: Number, bottom: Number, right: Number, top: Number, tolerance: Annotated[float, Query(ge=0, le=1e6)] = 0.0
    ) -> Response:
        """Objects on the map whose boxes meet an extent; outlines may leave theirs by a tolerance (CRS units)."""
        head = edits.head
        found, count = edits.within((left, bottom, right, top), MOST_OBJECTS)
        shapes = np.array([one.geometry for one in found], dtype=object)
        if tolerance and len(shapes):
            shapes = shapely.simplify(shapes, tolerance)
        parts = [
            f'{{"type":"Feature","id":{one.key},"geometry":{geometry},"properties":'
            f"{json.dumps({'key': one.key, 'class': one.label, 'origin': one.origin, 'verdict': one.verdict})}}}"
            for one, geometry in zip(found, shapely.to_geojson(shapes).tolist() if len(shapes) else [], strict=True)
        ]
        more = f'"head":{head},"count":{count},"left_off":{count - len(found)}'
        body = f'{{"type":"FeatureCollection",{more},"features":[{",".join(parts)}]}}'
        return Response(body, media_type="application/geo+json")

    @app.get("/api/objects/{key}")
    def one(key: Annotated[int, Path(ge=1, le=2**53)]) -> dict[str, Any]:
        """An object, on the map or not, with all that is known of it."""
        return feature(edits.get([key])[0])

    @app.get("/api/objects/{key}/parents")
    def parents(key: Annotated[int, Path(ge=1, le=2**53)]) -> dict[str, Any]:
        """Objects that an object was made of; those that a proposed grouping would take the place of."""
        (one,) = edits.get([key])
        return {"objects": [feature(parent) for parent in edits.named(one.parents)]}


@dataclass(frozen=True)
class _Pixels:
    """From places in the scene's CRS to its pixels."""

    scene: Scene

    def place(self, x: float, y: float) -> tuple[float, float]:
        """A place, kept where numbers stay exact."""
        col, row = ~self.scene.geobox.affine @ (x, y)
        return min(max(col, -1e7), 1e8), min(max(row, -1e7), 1e8)

    def side(self, span: float) -> float:
        """A length."""
        a, b, _, d, e, _ = tuple(self.scene.geobox.affine)[:6]
        return float(min(span / abs(a * e - b * d) ** 0.5, 1e8))

    def clicks(self, ask: Ask) -> Clicks:
        """Clicks, refused where they name nothing."""
        if not ask.points and ask.box is None:
            raise ReviewError("there is no click; give a point or a box")
        if not any(point.on for point in ask.points) and ask.box is None and ask.object is None:
            raise ReviewError("clicks beside an object name none; give a point on it, or a box around it")
        box = None
        if ask.box is not None:
            corners = np.array([self.place(*ask.box[:2]), self.place(*ask.box[2:])])
            box = (*corners.min(0).tolist(), *corners.max(0).tolist())
        at = np.array([self.place(point.x, point.y) for point in ask.points], float).reshape(-1, 2)
        return Clicks(at, np.array([int(point.on) for point in ask.points], np.int32), box, self.side(ask.span))


def _click_routes(app: FastAPI, desk: Desk) -> None:
    scene, segmenter, pixels = desk.scene, desk.segmenter, _Pixels(desk.scene)
    bounds = tuple(scene.geobox.boundingbox.bbox)

    @app.post("/api/encode")
    def encode(look: Look) -> dict[str, Any]:
        """Encode a place ahead of the clicks on it; answers when that is done."""
        window = segmenter.window(*pixels.place(look.x, look.y), pixels.side(look.span))
        inside = window.clip(scene.window)
        if inside.width and inside.height:
            segmenter.ready(window)
        return {"ready": bool(inside.width and inside.height)}

    @app.post("/api/draft")
    def draft(click: Draft) -> dict[str, Any]:
        """The outline that the classifier's heatmap shows at a click, until the refiner answers; null: none."""
        found = desk.drafts.at(*pixels.place(click.x, click.y), click.label)
        return {"geometry": None if found is None else shapely.geometry.mapping(found)}

    @app.post("/api/segment")
    def segment(ask: Ask) -> dict[str, Any]:
        """Outlines that the clicks may mean, the likeliest first; none where nothing is found."""
        clicks = pixels.clicks(ask)
        outline = None
        if ask.object is not None:
            (corrected,) = desk.edits.get([ask.object])
            outline = segmenter.in_pixels(corrected.geometry)
        x0, y0, x1, y1 = clicks.bounds
        if x1 < 0 or y1 < 0 or x0 > scene.window.width or y0 > scene.window.height:
            return {"candidates": []}
        found = segmenter.segment(clicks, ask.previous, outline, ask.preview)
        return {"candidates": [_candidate(one) for one in found]}

    @app.post("/api/shape")
    def shape(asked: ToShape) -> dict[str, Any]:
        """An outline as the theme of its class shapes it: right angles, or no steps of pixels."""
        if asked.label not in desk.classes:
            raise ReviewError(f"there is no such class; choose one of {', '.join(desk.classes)}")
        outline = placed(asked.geometry, bounds)  # type: ignore[arg-type]
        if not outline.is_valid or not outline.area > 0:
            raise ReviewError("the outline crosses itself or covers no ground; draw it anew")
        return {"geometry": shapely.geometry.mapping(desk.shaped(outline, asked.label))}


def _edit_routes(app: FastAPI, desk: Desk) -> None:
    edits = desk.edits
    bounds = tuple(desk.scene.geobox.boundingbox.bbox)

    @app.post("/api/actions")
    def act(asked: Act) -> dict[str, Any]:
        """Do an action; it is on the disk when this answers. 409 where an object is not as the page showed it."""
        action = asked.to_action(desk.classes, bounds)  # type: ignore[arg-type]
        return _done(edits.act(action, asked.objects, desk.who))

    @app.post("/api/undo")
    def undo(step: Step) -> dict[str, Any]:
        """Take back the last action. 409 where the page does not know of it."""
        return _done(edits.undo(step.head, desk.who))

    @app.post("/api/redo")
    def redo(step: Step) -> dict[str, Any]:
        """Do again what was undone last. 409 where the page does not know the last action."""
        return _done(edits.redo(step.head, desk.who))

    @app.get("/api/changes")
    def changes(since: Annotated[int, Query(ge=0, le=2**53)]) -> dict[str, Any]:
        """Objects that actions after number `since` touched: what another tab did. `all`: too many, load anew."""
        head = edits.head
        found = edits.since(since, MOST_CHANGES + 1)
        many = len(found) > MOST_CHANGES
        return {"head": head, "all": many, "changed": [] if many else [feature(one) for one in found]}

    @app.get("/api/export", response_class=Response, responses=_file("application/octet-stream"))
    def export(
        format: Literal["gpkg", "parquet", "fgb", "geojson"] = "gpkg", decided: bool = False, difference: bool = False
    ) -> Response:
        """The map as it is now, or how it differs from the one that came, as a file, with verdict and lineage."""
        content = desk.exported(f".{format}", decided, difference)
        name = f"{edits.path.stem}.{format}".encode("ascii", "replace").decode().replace('"', "_").replace("?", "_")
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(content, media_type="application/octet-stream", headers=headers)


def _candidate(one: Candidate) -> dict[str, Any]:
    return {
        "geometry": shapely.geometry.mapping(one.outline),
        "token": one.token,
        "iou_pred": round(one.iou_pred, 3),
        "stability": round(one.stability, 3),
        "cut": one.cut,
    }


def _done(done: Done) -> dict[str, Any]:
    return {"head": done.seq, "changed": [feature(one) for one in done.changed], "removed": list(done.removed)}

"""What is asked and answered, as JSON. Places are in the scene's CRS, objects are named by key."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import shapely
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictBool

from hybridseg.errors import ReviewError
from hybridseg.reviewing.objects import OPEN, Action, Hand, Kind, Object, Verdict
from hybridseg.reviewing.records import Filter

PROTOCOL = 1
"""Raised when an answer changes its meaning or a field goes."""
MOST_CORNERS = 20_000
MOST_POINTS = 100

Key = Annotated[int, Field(ge=1, le=2**53)]
Version = Annotated[int, Field(ge=0, le=2**53)]
Number = Annotated[int, Field(ge=0, le=2**53, strict=True)]
Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]
"""Of a body: true is no number there. An address has texts alone."""
Label = Annotated[str, Field(min_length=1, max_length=100)]
Place = tuple[Finite, Finite]
Ring = Annotated[list[Place], Field(min_length=4, max_length=MOST_CORNERS)]
Rings = Annotated[list[Ring], Field(min_length=1, max_length=1000)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Polygon(_Message):
    """A GeoJSON polygon, in the scene's CRS."""

    type: Literal["Polygon"]
    coordinates: Rings


class MultiPolygon(_Message):
    """A GeoJSON multipolygon, in the scene's CRS."""

    type: Literal["MultiPolygon"]
    coordinates: Annotated[list[Rings], Field(min_length=1, max_length=1000)]


class Line(_Message):
    """A GeoJSON line, in the scene's CRS."""

    type: Literal["LineString"]
    coordinates: Annotated[list[Place], Field(min_length=2, max_length=1000)]


Geometry = Annotated[Polygon | MultiPolygon | Line, Field(discriminator="type")]
Outline = Annotated[Polygon | MultiPolygon, Field(discriminator="type")]


class Refused(_Message):
    """Why a request was refused, in one line."""

    error: str


class Look(_Message):
    """A place that will be clicked on. span: side of what is looked at, in CRS units."""

    x: Finite
    y: Finite
    span: Annotated[Finite, Field(gt=0)]


class Point(_Message):
    """A click. on: on the object (true) or beside it."""

    x: Finite
    y: Finite
    on: StrictBool = True


class Ask(_Message):
    """Clicks to be answered by outlines.

    points, box (left, bottom, right, top): at least one of them.
    span: as of `Look`.
    previous: token of the candidate that the clicks go on from.
    object: key of the object that they correct.
    preview: one candidate is enough.
    """

    points: Annotated[list[Point], Field(max_length=MOST_POINTS)] = []
    box: tuple[Finite, Finite, Finite, Finite] | None = None
    span: Annotated[Finite, Field(gt=0)]
    previous: Annotated[str, Field(max_length=40)] | None = None
    object: Number | None = None
    preview: StrictBool = False


class Draft(_Message):
    """A lone click to be answered from the heatmap."""

    x: Finite
    y: Finite
    label: Annotated[Label, Field(alias="class")]


class Square(_Message):
    """A square of ground that was looked over. square: its name."""

    square: Annotated[str, Field(max_length=40)]


class Walk(_Message):
    """Where to go on in the queue: undecided objects from a place on, or all; or, going back, all.

    class, verdict, origin, least_score, most_score, least_m2, most_m2: objects to which that does not apply are passed
        over.
    left, bottom, right, top: so are those whose boxes do not meet this extent, in the scene's CRS; all four or none.
    """

    position: Version = 0
    count: Annotated[int, Field(ge=1, le=50)] = 2
    back: bool = False
    undecided: bool = True
    label: Annotated[Label | None, Field(alias="class")] = None
    verdict: Verdict | None = None
    origin: Annotated[str | None, Field(max_length=40)] = None
    least_score: FiniteFloat | None = None
    most_score: FiniteFloat | None = None
    least_m2: FiniteFloat | None = None
    most_m2: FiniteFloat | None = None
    left: FiniteFloat | None = None
    bottom: FiniteFloat | None = None
    right: FiniteFloat | None = None
    top: FiniteFloat | None = None

    @property
    def only(self) -> Filter | None:
        """What is not passed over; None: nothing is.

        Raises:
            ReviewError: an extent of fewer than four sides.
        """
        sides = [self.left, self.bottom, self.right, self.top]
        given = [side for side in sides if side is not None]
        if len(given) not in (0, 4):
            raise ReviewError("a place needs left, bottom, right and top; give all four or none")
        extent = (given[0], given[1], given[2], given[3]) if given else None
        score, area = (self.least_score, self.most_score), (self.least_m2, self.most_m2)
        only = Filter(self.label, self.verdict, self.origin, score, area, extent)
        return None if only == Filter() else only


class View(_Message):
    """A class, and an extent in the scene's CRS."""

    label: Annotated[Label, Field(alias="class")]
    left: FiniteFloat
    bottom: FiniteFloat
    right: FiniteFloat
    top: FiniteFloat


class ToShape(_Message):
    """An outline to be shaped as the theme of its class says."""

    label: Annotated[Label, Field(alias="class")]
    geometry: Outline


class Act(_Message):
    """An action.

    objects: version of each object that it is about, as the page showed it, by key.
    class, geometry, origin: see `Action`.
    """

    kind: Kind
    objects: Annotated[dict[Key, Number], Field(max_length=50)] = {}
    label: Annotated[Label | None, Field(alias="class")] = None
    geometry: Geometry | None = None
    origin: Hand = "drawn"

    def to_action(self, classes: tuple[str, ...], bounds: tuple[float, float, float, float]) -> Action:
        """Return the action.

        Args:
            classes: those allowed.
            bounds: left, bottom, right, top of the scene.

        Raises:
            ReviewError: another class, or an outline beside the scene.
        """
        if self.label is not None and self.label not in classes:
            raise ReviewError(f"there is no such class; choose one of {', '.join(classes)}")
        return Action(
            self.kind, self.label, None if self.geometry is None else placed(self.geometry, bounds), self.origin
        )


class Learn(_Message):
    """What to do in the background. propose: look for what is missing; improve: learn from the decisions first."""

    kind: Literal["improve", "propose"] = "improve"
    label: Annotated[Label | None, Field(alias="class")] = None


class Step(_Message):
    """Undo or redo. head: number of the last action that the page knows of."""

    head: Number


def placed(geometry: Polygon | MultiPolygon | Line, bounds: tuple[float, float, float, float]) -> shapely.Geometry:
    """Return a geometry as a value, refused where it lies beside the scene or has too many corners.

    Raises:
        ReviewError: it does.
    """
    if isinstance(geometry, Line):
        found: shapely.Geometry = shapely.LineString(geometry.coordinates)
    elif isinstance(geometry, Polygon):
        found = _polygon(geometry.coordinates)
    else:
        found = shapely.MultiPolygon([_polygon(rings) for rings in geometry.coordinates])
    if shapely.get_num_coordinates(found) > MOST_CORNERS:
        raise ReviewError(f"the outline has more than {MOST_CORNERS:,} corners; draw it in pieces")
    x0, y0, x1, y1 = found.bounds
    left, bottom, right, top = bounds
    wide, high = right - left, top - bottom
    if x0 < left - wide or x1 > right + wide or y0 < bottom - high or y1 > top + high:
        raise ReviewError("the outline lies beside the scene; give coordinates in the scene's CRS")
    if x0 > right or x1 < left or y0 > top or y1 < bottom:
        raise ReviewError("the outline lies beside the scene; give coordinates in the scene's CRS")
    return found


def feature(one: Object) -> dict[str, Any]:
    """Return an object as a GeoJSON feature, in the scene's CRS."""
    figures = {
        name: None if np.isnan(value := getattr(one, name)) else round(value, 4)
        for name in ("score", "iou_pred", "stability", "agreement")
    }
    named = {"key": one.key, "id": one.id, "class": one.label, "origin": one.origin, "verdict": one.verdict}
    since = {"version": one.version, "who": one.who, "when": one.when, "parents": one.parents}
    return {
        "type": "Feature",
        "id": one.key,
        "properties": {**named, **figures, **since, "present": one.present, "open": one.verdict in OPEN},
        "geometry": shapely.geometry.mapping(one.geometry),
    }


def _polygon(rings: list[list[tuple[float, float]]]) -> shapely.Polygon:
    return shapely.Polygon(rings[0], rings[1:])

"""Buildings as outlines with few corners: right angles where the mask bears them out."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import geopandas as gpd
import numpy as np
import shapely
from pydantic import Field

from hybridseg.shape.candidates import candidates_of, choose_without_overlaps, where_alike
from hybridseg.shape.geometry import main_direction, modulo_right_angle, moved, repaired, shared_direction
from hybridseg.shape.neighbours import aligned, noded, parted
from hybridseg.shape.outlines import Points, describe, sampled
from hybridseg.shape.overlaps import set_apart
from hybridseg.shape.settings import ShapeStage
from hybridseg.shape.walls import Price, Walls

_STEP_PX = 0.75
"""Simplification of the middles: takes nearly all steps (half a pixel leaves three times the vertices)."""

_STEP_IOU = 0.8
"""Specks of a few pixels, of which the middles leave less than this, keep their steps."""

_DETAIL_PX = 2.0
"""Simplification of the outlines whose edges vote on the first guess of a building's direction."""

_SPACING_PX = 2.0
"""Distance between the points of an outline that walls are fitted to."""

_GAP_PX = 2.0
"""Tracing leaves gaps of one and two pixels between buildings that touch."""

_FLAT_M = 1e-6
"""A corner that is so far from the straight line between its neighbours is none."""

_CORNERS = 32
"""Of a circle."""

_AROUND = (np.arange(64) + 0.5) / 64
"""Where on an outline, as a share of its length, its distance from a circle is taken."""


class Buildings(ShapeStage):
    """Outlines with few corners in place of traced ones.

    Each building is described by straight walls at the least cost (see `outlines`): along and across its own direction,
    in other directions where that pays. Buildings that touch share a direction where that costs less than a wall, and
    the walls between them are one line with the same corners on both sides. A round outline becomes a circle.

    There are three candidates for each building, and the first that may be kept is chosen: walls; the traced outline
    without its pixel steps; the traced outline. Walls must cost less than one for each corner of the second would, and
    agree with the traced outline; none may newly overlap a neighbour. What two still share after that, the smaller one
    gives up.
    """

    kind: Literal["buildings"] = "buildings"
    wall_m3: float = Field(
        0.18,
        gt=0,
        description="price of a wall: one wall more must lower half the squared distance of the outline from its "
        "walls, integrated along the outline, by this",
    )
    wall_px3: float = Field(
        3.0,
        ge=0,
        description="the same in cubes of what the outline is exact to, where that is more: a source pixel, or the "
        "band between the refiner's masks at a lower and a higher threshold (by `stability`)",
    )
    free_walls: float = Field(2.0, ge=0, description="what a wall in a direction of its own costs more, in walls")
    bump_m: float = Field(0.8, gt=0, description="an outline so far from its wall counts half when the wall is placed")
    max_turn_deg: float = Field(125.0, ge=90, le=180, description="walls that turn more than this make no building")
    min_iou: float = Field(0.7, gt=0, le=1, description="least agreement of the walls with the traced outline")
    gap_m: float = Field(0.1, ge=0, description="buildings closer than this touch (or than 2 source pixels)")
    share_deg: float = Field(3.0, ge=0, le=45, description="those that touch may be turned by so much to be in line")
    max_overlap: float = Field(
        0.3, ge=0, le=1, description="new overlap allowed with a neighbour, as a share of the smaller of the two"
    )
    min_hole_m2: float = Field(4.0, ge=0, description="smaller holes are filled, in all candidates")
    circle_walls: float = Field(6.0, ge=0, description="price of a circle, in walls")

    @property
    def reach_m(self) -> float:
        """30 m: each building asks those that touch it only, but these ask theirs in turn.

        Cut in two, the Banepa scene and a rendered town changed no outline further than that from the cut (1,023 of
        1,023 alike to a micrometre), and between 10 and 30 m 2 of 168, with an IoU above 0.999.
        """
        return 30.0

    @property
    def block_m(self) -> float:
        """1 km: an object takes about 32 kB while it is shaped, and a square kilometre has 10,000 where it is full."""
        return 1000.0

    def shape(self, features: gpd.GeoDataFrame, gsd_m: float = 0.0, coarse_m: float = 0.0) -> gpd.GeoDataFrame:
        """Return the same rows, order, index and columns, with new geometries; see `ShapeStage.shape`."""
        doubt = 1 - features["stability"].fillna(1).to_numpy() if "stability" in features else np.zeros(len(features))

        def propose(ground: np.ndarray, _: object, rows: np.ndarray) -> tuple[np.ndarray, ...]:
            traced = _fill_holes(repaired(ground), self.min_hole_m2)
            middles = _middles(traced, gsd_m)
            light = where_alike(shapely.simplify(middles, _STEP_PX * gsd_m), traced, _STEP_IOU, otherwise=traced)
            band_m = doubt[rows] * shapely.area(traced) / np.maximum(shapely.length(traced), 1e-9)
            wall_m3 = np.maximum(self.wall_m3, self.wall_px3 * np.maximum(gsd_m, band_m) ** 3)
            walls = self._outlines(shapely.orient_polygons(middles), gsd_m, wall_m3)
            return noded(where_alike(walls, traced, self.min_iou, otherwise=light)), light, traced

        chosen = choose_without_overlaps(candidates_of(features, propose), self.max_overlap)
        return features.set_geometry(gpd.GeoSeries(repaired(set_apart(chosen)), features.index, features.crs))

    def _outlines(self, traced: np.ndarray, gsd_m: float, wall_m3: np.ndarray) -> np.ndarray:
        """Return outlines (n,) with straight walls, in line with those of buildings that touch; empty: there are none.

        Args:
            traced: outlines (n,) in metres, without the steps of their pixels.
            gsd_m: size of a source pixel (m).
            wall_m3: price of a wall of each (n,).
        """
        found = np.full(len(traced), shapely.Polygon(), dtype=object)
        single = (shapely.get_type_id(traced) == shapely.GeometryType.POLYGON) & (shapely.area(traced) > 0)
        rows = np.flatnonzero(single)
        if len(rows) == 0:
            return found
        outlines, gap_m = traced[rows], max(self.gap_m, _GAP_PX * gsd_m)
        price = Price(wall_m3[rows], self.free_walls, self.bump_m)
        points = sampled(outlines, _SPACING_PX * gsd_m)
        guess = main_direction(shapely.simplify(outlines, _DETAIL_PX * gsd_m))
        direction, stiffness = describe(points, guess, price).main_direction(len(rows))
        turn = modulo_right_angle(shared_direction(outlines, direction, stiffness, gap_m, self.share_deg) - direction)
        direction = np.where(stiffness * turn**2 / 2 < price.wall, direction + turn, direction)
        walls = self._described(points, direction, price)
        walls = parted(aligned(walls, gap_m, self.share_deg, price), len(rows), price)
        trace = shapely.get_num_coordinates(shapely.simplify(outlines, _STEP_PX * gsd_m))
        dear = walls.costs(price, len(rows)) > trace * price.wall
        circles = _circles(outlines, walls, price, self.circle_walls)
        straight = np.where(dear, shapely.Polygon(), shapely.simplify(walls.polygons(len(rows)), _FLAT_M))
        found[rows] = np.where(shapely.is_empty(circles), straight, circles)
        return found

    def _described(self, points: list[Points], direction: np.ndarray, price: Price) -> Walls:
        """Return the walls of outlines (n,); at right angles only where other walls turn too sharply or cross."""
        walls, n = describe(points, direction, price), len(direction)
        turn = np.zeros(n)
        np.maximum.at(turn, walls.polygon, walls.turns())
        odd = np.flatnonzero((turn > np.radians(self.max_turn_deg)) | ~shapely.is_valid(walls.polygons(n)))
        if len(odd) == 0:
            return walls
        return walls.replaced(describe(points, direction, replace(price, free=np.inf), only=odd))


def _circles(outlines: np.ndarray, walls: Walls, price: Price, circle_walls: float) -> np.ndarray:
    """Return circles (n,) of the outlines' areas where one costs less than the walls; empty elsewhere."""
    at = shapely.line_interpolate_point(shapely.get_exterior_ring(outlines)[:, None], _AROUND, normalized=True)
    radius = np.sqrt(shapely.area(outlines) / np.pi)
    centre = shapely.centroid(outlines)
    off = shapely.distance(at, centre[:, None]) - radius[:, None]
    cost = shapely.length(outlines) * (off**2).mean(axis=1) / 2 + circle_walls * price.wall
    cheaper = (cost < walls.costs(price, len(outlines))) & (shapely.get_num_interior_rings(outlines) == 0)
    # a polygon inside a circle is smaller than it: the radius that gives the outline's area
    inside = np.sqrt(2 * np.pi / (_CORNERS * np.sin(2 * np.pi / _CORNERS)))
    round_ = shapely.buffer(centre, radius * inside, quad_segs=_CORNERS // 4)
    return np.where(cheaper, round_, shapely.Polygon())


def _middles(polygons: np.ndarray, pixel_m: float) -> np.ndarray:
    """Return outlines through the middles of the pixels' edges along traced ones.

    They lie within 0.36 pixel of the outline, and on a slanting wall within half a pixel of the wall itself; simplified
    at `_STEP_PX` they have lost nearly all steps. On 1,466 OSM footprints of Banepa, rasterised at 0.3 m and traced,
    this takes 71 vertices to 11 and IoU from 0.956 to 0.964 (simplifying alone at half a pixel: 58 and 0.956).
    `_STEP_PX` was chosen on the same footprints, so take these as its fit, not as a test.
    """
    if pixel_m <= 0 or len(polygons) == 0:
        return polygons
    fine = shapely.segmentize(polygons, pixel_m)
    size = shapely.get_num_coordinates(shapely.get_rings(shapely.get_parts(fine)))
    end = np.cumsum(size)
    following = np.arange(1, size.sum() + 1)
    following[end - 1] = end - size + 1  # a ring's last vertex is its first
    middles = moved(fine, lambda z, _: (z + z[following]) / 2)
    return np.asarray(shapely.normalize(middles))  # a ring's first vertex is never simplified away: let it be a corner


def _fill_holes(polygons: np.ndarray, min_hole_m2: float) -> np.ndarray:
    """Return polygons without the holes smaller than `min_hole_m2`."""
    filled = polygons.copy()
    parts, row = shapely.get_parts(polygons, return_index=True)
    for part in np.flatnonzero(shapely.get_num_interior_rings(parts) > 0):
        holes = [hole for hole in parts[part].interiors if shapely.Polygon(hole).area >= min_hole_m2]
        parts[part] = shapely.Polygon(parts[part].exterior, holes)
        whole = parts[slice(*np.searchsorted(row, (row[part], row[part] + 1)))]
        filled[row[part]] = whole[0] if len(whole) == 1 else shapely.multipolygons(whole)
    return filled

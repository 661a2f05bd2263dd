"""Rectangles for solar arrays: those that stand near each other share one direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import geopandas as gpd
import numpy as np
import shapely
from pydantic import Field

from hybridseg.shape.candidates import candidates_of, choose_without_overlaps, where_alike
from hybridseg.shape.coverage import smooth_steps
from hybridseg.shape.geometry import as_complex, iou, repaired, shared_direction
from hybridseg.shape.settings import ShapeStage

_STEP_PX = 0.75
"""Simplification of what is no rectangle, see `smooth_steps`."""

_STEP_IOU = 0.8
"""Specks of a few pixels, of which smoothing leaves less than this, keep their steps."""


class Rows(ShapeStage):
    """Rectangles in place of traced outlines that nearly are some, in rows where they stand in rows.

    There are four candidates for each outline, and the first that may be kept is:

    1. the rectangle in the direction that it shares with its neighbours;
    2. the rectangle in its own direction;
    3. the traced outline without its pixel steps;
    4. the traced outline.

    A rectangle has the area, the centroid and the ratio of second moments of the traced outline, and is kept when its
    IoU with the outline is at least `min_iou`. None of 1 to 3 may newly overlap a neighbour.

    The direction is that of the largest rectangle near, as voted on by those near that one, by area. So all arrays on
    a roof agree to the last digit, and what lies further than twice `near_m` changes nothing. Arrays on the two sides
    of the border between two frames (`measure.by_metric_crs`) do not see each other.
    """

    kind: Literal["rows"] = "rows"
    min_iou: float = Field(0.85, gt=0, le=1, description="least agreement of a rectangle with the traced outline")
    near_m: float = Field(15.0, ge=0, description="arrays whose rectangles come closer than this share a direction")
    max_turn_deg: float = Field(15.0, ge=0, le=45, description="unless theirs differ by more, modulo 90 degrees")
    max_overlap: float = Field(
        0.01, ge=0, le=1, description="new overlap allowed with a neighbour, as a share of the smaller of the two"
    )

    @property
    def reach_m(self) -> float:
        """Twice `near_m`: the largest array near decides, and those near that one voted on its direction."""
        return 2 * self.near_m

    @property
    def block_m(self) -> float:
        """1 km, as of buildings."""
        return 1000.0

    def shape(self, features: gpd.GeoDataFrame, gsd_m: float = 0.0, coarse_m: float = 0.0) -> gpd.GeoDataFrame:
        """Return the same rows, order, index and columns, with new geometries; see `ShapeStage.shape`."""

        def propose(ground: np.ndarray, *_: object) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
            traced = repaired(ground)
            light = where_alike(smooth_steps(traced, gsd_m, _STEP_PX * gsd_m), traced, _STEP_IOU, otherwise=traced)
            alone, aligned = self._rectangles(traced)
            alone = where_alike(alone, traced, self.min_iou, otherwise=light)
            return where_alike(aligned, traced, self.min_iou, otherwise=alone), alone, light, traced

        chosen = choose_without_overlaps(candidates_of(features, propose), self.max_overlap)
        return features.set_geometry(gpd.GeoSeries(repaired(chosen), features.index, features.crs))

    def _rectangles(self, traced: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rectangles (n,) in their own and in shared directions for outlines in metres; empty: none fits."""
        alone, aligned = np.full((2, len(traced)), shapely.Polygon(), dtype=object)
        body = _Body.of(traced)
        proper = np.flatnonzero(body.area > 0)
        outlines, body = traced[proper], body[proper]
        choices = np.stack([_envelope_angle(outlines), np.angle(body.moment) / 2])
        fits = iou(np.stack([body.rectangle(angle) for angle in choices]), outlines)
        best = np.argmax(fits, axis=0)[None]
        angle, fit = (np.take_along_axis(values, best, axis=0)[0] for values in (choices, fits))
        alone[proper] = body.rectangle(angle)

        fitting = np.flatnonzero(fit >= self.min_iou)
        rows, body = proper[fitting], body[fitting]
        shared = shared_direction(alone[rows], angle[fitting], body.area, self.near_m, self.max_turn_deg)
        aligned[rows] = body.rectangle(shared)
        return alone, aligned


@dataclass(frozen=True)
class _Body:
    """Area and moments of outlines, (n,) each, with z = x + iy from the centroid."""

    area: np.ndarray
    """In m2."""
    centre: np.ndarray
    """Centroid, complex."""
    moment: np.ndarray
    """Integral of z**2 over the outline (m4), complex."""
    spread: np.ndarray
    """Integral of |z|**2 over the outline (m4)."""

    @classmethod
    def of(cls, outlines: np.ndarray) -> _Body:
        """Return them, exact, by Green's theorem over the edges."""
        n, centre = len(outlines), as_complex(shapely.centroid(outlines))
        parts, row = shapely.get_parts(shapely.orient_polygons(outlines), return_index=True)
        rings, part = shapely.get_rings(parts, return_index=True)
        ring = np.repeat(np.arange(len(rings)), shapely.get_num_coordinates(rings))
        edge = np.flatnonzero(ring[1:] == ring[:-1])
        of = row[part[ring[edge]]]
        z = as_complex(rings)
        a, b = z[edge] - centre[of], z[edge + 1] - centre[of]
        cross = (a.conj() * b).imag / 12
        square = cross * (a * a + a * b + b * b)
        spread = np.bincount(of, cross * (np.abs(a) ** 2 + (a.conj() * b).real + np.abs(b) ** 2), n)
        return cls(
            shapely.area(outlines),
            centre,
            np.bincount(of, square.real, n) + 1j * np.bincount(of, square.imag, n),
            spread,
        )

    def __getitem__(self, rows: np.ndarray) -> _Body:
        return _Body(self.area[rows], self.centre[rows], self.moment[rows], self.spread[rows])

    def rectangle(self, angle: np.ndarray) -> np.ndarray:
        """Return rectangles (n,) in a direction (n,), of the same area, centroid and ratio of second moments."""
        turn = np.exp(1j * angle)
        along = (self.moment / turn**2).real
        ratio = np.sqrt((self.spread + along) / (self.spread - along))
        long, wide = np.sqrt(self.area * ratio) / 2, np.sqrt(self.area / ratio) / 2
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        z = (corners[:, :1] * long + 1j * corners[:, 1:] * wide) * turn + self.centre
        return np.asarray(shapely.polygons(np.stack([z.real, z.imag], axis=-1).swapaxes(0, 1)))


def _envelope_angle(outlines: np.ndarray) -> np.ndarray:
    """Return the direction (n,) in radians of the smallest rectangle around each outline."""
    corners = as_complex(shapely.oriented_envelope(outlines)).reshape(-1, 5)
    return np.asarray(np.angle(corners[:, 1] - corners[:, 0]))

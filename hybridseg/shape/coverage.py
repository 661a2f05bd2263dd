"""Fields and water as a coverage: neighbours share their border exactly, and it is simplified once for both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import geopandas as gpd
import numpy as np
import shapely
from pydantic import Field
from pyproj import CRS
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hybridseg.shape.geometry import repaired
from hybridseg.shape.measure import area_m2, by_metric_crs, returned
from hybridseg.shape.refit import refitted
from hybridseg.shape.settings import ShapeStage, traced_m

_GAP_PX = 2.5
"""Tracing leaves gaps of one and two pixels between neighbours; what is wider was seen."""

_STEP_PX = 2.0
"""Square root of the area that a vertex must stand for, in pixels, when steps are taken out."""

_CORNER_PX = 1.5
"""A vertex between two edges longer than this is a corner, not a step."""

_SLIVER_PX = 4.0
"""Area in pixels below which an outline is a sliver."""

_SNAP_PX = 0.01
"""Vertices closer than this are one. Changing the CRS moves vertices off straight borders by far less."""

_MITRE = {"join_style": "mitre", "mitre_limit": 1.45}
"""Growing and shrinking with these keeps right angles as they are and closes sharper ones."""


class Coverage(ShapeStage):
    """Outlines traced from masks made into a valid coverage, each class by itself.

    1. Overlaps go to the smaller of the two, so what lies inside another (an island of another crop) is cut out of it.
    2. Slivers and small loose parts go.
    3. Borders lose their pixel steps and are simplified (Visvalingam and Whyatt 1993), shared ones once for both sides.
    4. Gaps narrower than `gap_m` between neighbours are closed along their middle, and holes as narrow as that are
       filled. Wider ones (a road between fields, a pond in one) stay.

    A row is dropped when less than `min_area_m2` of it is left; the others keep order, index and columns. The outcome
    for outlines that touch depends neither on their order nor on what lies elsewhere in the layer.
    """

    kind: Literal["coverage"] = "coverage"
    gap_m: float = Field(
        1.0, ge=0, description="neighbours closer than this share a border (or than 2.5 source pixels)"
    )
    simplify_m: float = Field(
        0.5, ge=0, description="square root of the area that a vertex must stand for (never less than 2 source pixels)"
    )
    min_area_m2: float = Field(0.0, ge=0, description="least area of a row (never less than 4 source pixels)")
    min_part: float = Field(
        0.1, ge=0, le=1, description="a loose part stays when it has this share of the area of the row's largest"
    )

    @property
    def reach_m(self) -> float:
        """`gap_m`, or 2.5 source pixels where that is more."""
        return self.gap_m

    def shape(self, features: gpd.GeoDataFrame, gsd_m: float = 0.0, coarse_m: float = 0.0) -> gpd.GeoDataFrame:
        """Return the rows that are left, with new geometries; see `ShapeStage.shape`.

        Those of one `class` (all, without such a column) make one coverage.
        """
        polygons = np.full(len(features), shapely.Polygon(), dtype=object)
        pixel_m = traced_m(features, gsd_m, coarse_m)
        classes = features["class"].to_numpy() if "class" in features else np.zeros(len(features))
        for rows in features.groupby(classes, dropna=False).indices.values():
            outlines = features.geometry.iloc[rows]
            for crs, members in _by_neighbourhood(outlines, 2 * max(self.gap_m, _GAP_PX * gsd_m)):
                cleaned = self._clean(outlines.iloc[members].to_crs(crs).to_numpy(), gsd_m, pixel_m[rows[members]])
                polygons[rows[members]] = repaired(returned(gpd.GeoSeries(cleaned, crs=crs), outlines).to_numpy())
        kept = np.flatnonzero(~shapely.is_empty(polygons))
        return features.iloc[kept].set_geometry(gpd.GeoSeries(polygons[kept], features.index[kept], features.crs))

    def _clean(self, traced: np.ndarray, gsd_m: float, pixel_m: np.ndarray) -> np.ndarray:
        """Return one coverage of polygons in metres, (n,); empty where nothing worth keeping is left."""
        gap_m, snap_m = max(self.gap_m, _GAP_PX * gsd_m), max(1e-3, _SNAP_PX * gsd_m)
        simplify_m, least_m2 = max(self.simplify_m, _STEP_PX * gsd_m), max(self.min_area_m2, _SLIVER_PX * gsd_m**2)
        sound = repaired(traced)
        order = np.lexsort((*shapely.bounds(sound).T, shapely.area(sound)))  # small ones first: they win
        worthy = _without_bits(_first_wins(sound[order], snap_m), self.min_part, least_m2)
        left = np.flatnonzero(~shapely.is_empty(worthy))
        own_m = pixel_m[order[left]]
        # A few coarse pixels have no form to simplify: all corners of one weigh the same, and chance would take one.
        few = shapely.area(worthy[left]) < _SLIVER_PX * own_m**2
        smooth = smooth_steps(worthy[left], own_m, np.maximum(simplify_m, own_m))
        joined = _close_gaps(_first_wins(np.where(few, worthy[left], smooth), snap_m), gap_m, snap_m)
        # Simplifying takes out the many vertices of closed gaps, and may open a few anew.
        closed = np.where(few, joined, _simplified(joined, simplify_m, joined))
        opened = np.flatnonzero(~shapely.is_empty(shapely.coverage_invalid_edges(closed, gap_m)))
        closed[opened] = _close_gaps(closed[opened], gap_m, snap_m)
        cleaned = np.full(len(traced), shapely.Polygon(), dtype=object)
        cleaned[order[left]] = _first_wins(_without_bits(closed, self.min_part, 0), snap_m, gap_m)
        return cleaned


def smooth_steps(coverage: np.ndarray, pixel_m: float | np.ndarray, simplify_m: float | np.ndarray) -> np.ndarray:
    """Return outlines traced along pixels without their steps; neighbours of one pixel size still share their border.

    Middles of edges replace the corners of steps, so a slanting border runs where it did before it was traced; what is
    left of the steps is simplified away. Corners between long edges and those where neighbours meet stay.

    Args:
        coverage: (n,) polygons in metres.
        pixel_m: size of the pixels (m), or that of each outline (n,); 0 when the outlines have no steps.
        simplify_m: square root of the area that a vertex must stand for (m), the same for outlines of one pixel size.
    """
    if isinstance(pixel_m, np.ndarray):
        smooth, simplify = coverage.copy(), np.broadcast_to(simplify_m, len(coverage))
        for size in np.unique(pixel_m):
            rows = np.flatnonzero(pixel_m == size)
            smooth[rows] = smooth_steps(coverage[rows], float(size), float(simplify[rows[0]]))
        return smooth
    full = np.flatnonzero(~shapely.is_empty(coverage))
    if len(full) == 0:
        return coverage
    cut, fine = _cut_corners(coverage[full], pixel_m) if pixel_m > 0 else (coverage[full],) * 2
    parts, row = shapely.get_parts(_simplified(cut, simplify_m, fine), return_index=True)
    return _collect(parts, full[row], len(coverage))


def _simplified(coverage: np.ndarray, simplify_m: float | np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return the coverage (n,) with few vertices, put where its borders deviate least from those of another one."""
    return refitted(shapely.coverage_simplify(coverage, simplify_m), like)


def _cut_corners(coverage: np.ndarray, pixel_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Return MultiPolygons (n,) in which the middles of its two edges replace each corner of a step, and with both.

    They are on the line where the steps are regular, and half a pixel from the outline at most. The middle of an edge
    is the same in the neighbour's outline.
    """
    parts, row = shapely.get_parts(coverage, return_index=True)
    kind, xy, (ring, *offsets) = shapely.to_ragged_array(shapely.multipolygons(parts, indices=row))
    z, first, last = xy[:, 0] + 1j * xy[:, 1], ring[:-1], ring[1:] - 1  # a ring's last vertex repeats its first
    at = np.delete(np.arange(len(z)), last)
    back = at - 1
    back[first - np.arange(len(first))] = last - 1
    here, before, after = z[at], z[back], z[at + 1]
    corner = np.minimum(np.abs(before - here), np.abs(after - here)) > _CORNER_PX * pixel_m
    stays = corner | _joints(here, after)
    middles = (before + here) / 2, (here + after) / 2

    def outlines(*vertices: np.ndarray) -> np.ndarray:
        """So many vertices in place of each, in order."""
        size = len(vertices) * (last - first)
        every, end = np.stack(vertices, axis=1).ravel(), np.cumsum(size)
        closed = np.insert(every, end, every[end - size])
        rings = np.concatenate([[0], np.cumsum(size + 1)])
        made = shapely.from_ragged_array(kind, np.stack([closed.real, closed.imag], axis=-1), (rings, *offsets))
        return np.asarray(shapely.remove_repeated_points(made))

    return outlines(*np.where(stays, here, middles)), outlines(middles[0], here, middles[1])


def _joints(here: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return which vertices `here` (n,), each followed by `after`, are ends of a border that two polygons share.

    Outlines that only touch at a corner, as pixels do, share no border there.
    """
    known, of = np.unique(here, return_inverse=True)
    to = np.searchsorted(known, after)
    edge, sides = np.unique(np.minimum(of, to) * len(known) + np.maximum(of, to), return_counts=True)
    ends = np.concatenate([edge // len(known), edge % len(known)])
    shared = np.bincount(ends, np.tile(sides > 1, 2), len(known)) > 0
    return np.asarray((shared & (np.bincount(ends, minlength=len(known)) > 2))[of])


def _close_gaps(coverage: np.ndarray, gap_m: float, snap_m: float) -> np.ndarray:
    """Return the coverage (n,) with gaps narrower than `gap_m` divided among those on both sides.

    Each pair of neighbours is closed as in morphology (grown, united, shrunk), so wide gaps and free sides stay. The
    first of the two gets what lies within a quarter of `gap_m` of it.
    """
    one, two = shapely.STRtree(coverage).query(coverage, predicate="dwithin", distance=gap_m)
    one, two = one[one < two], two[one < two]
    grown = shapely.buffer(coverage, gap_m / 2, **_MITRE)
    # Shrunk a little more than grown, or the difference would be full of slivers along the free sides.
    bridge = shapely.buffer(shapely.union(grown[one], grown[two]), -gap_m / 2 - snap_m, **_MITRE)
    strips, pair = shapely.get_parts(
        shapely.difference(shapely.difference(bridge, coverage[one]), coverage[two]), return_index=True
    )
    near = shapely.buffer(coverage, gap_m / 4, **_MITRE)[one[pair]]
    halves = np.concatenate([shapely.intersection(strips, near), shapely.difference(strips, near)])
    pieces, half = shapely.get_parts(halves, return_index=True)
    solid = shapely.area(pieces) > snap_m * shapely.length(pieces)
    row = np.concatenate([np.arange(len(coverage)), np.concatenate([one[pair], two[pair]])[half[solid]]])
    closed = _united(_first_wins(np.concatenate([coverage, pieces[solid]]), snap_m), row, len(coverage))
    return _first_wins(closed, snap_m, gap_m)  # holes left where three meet


def _first_wins(polygons: np.ndarray, snap_m: float, gap_m: float = 0.0) -> np.ndarray:
    """Return a coverage (n,): what several claim goes to the first of them, and holes narrower than `gap_m` go.

    Seldom GEOS fails to node the outlines; then a coarser snap helps.
    """
    for times in (1, 3):
        with contextlib.suppress(shapely.GEOSException):
            return _noded(polygons, times * snap_m, gap_m)
    return _noded(polygons, 10 * snap_m, gap_m)


def _noded(polygons: np.ndarray, snap_m: float, gap_m: float) -> np.ndarray:
    return np.asarray(
        shapely.coverage_clean(polygons, snapping_distance=snap_m, gap_width=gap_m, merge_strategy="min_index")
    )


def _united(faces: np.ndarray, row: np.ndarray, n: int) -> np.ndarray:
    """Return unions (n,) of the faces of a coverage that belong to each row."""
    order = np.argsort(row, kind="stable")
    united = np.full(n, shapely.Polygon(), dtype=object)
    for group in np.split(order, np.flatnonzero(np.diff(row[order])) + 1):
        united[row[group[:1]]] = shapely.coverage_union_all(faces[group]) if len(group) > 1 else faces[group]
    return united


def _without_bits(polygons: np.ndarray, min_part: float, least_m2: float) -> np.ndarray:
    """Return polygons without parts below a share of their row's largest; empty where less than `least_m2` is left."""
    parts, row = shapely.get_parts(polygons, return_index=True)
    area, largest = shapely.area(parts), np.zeros(len(polygons))
    np.maximum.at(largest, row, area)
    stays = (area > 0) & (area >= min_part * largest[row])
    stays &= np.bincount(row[stays], area[stays], len(polygons))[row] >= least_m2
    return _collect(parts[stays], row[stays], len(polygons))


def _collect(parts: np.ndarray, row: np.ndarray, n: int) -> np.ndarray:
    """Return (n,) the polygon of a row that has one, a MultiPolygon of several, empty of none. `row` is in order."""
    collected = np.full(n, shapely.Polygon(), dtype=object)
    number = np.bincount(row, minlength=n)
    single = number[row] == 1
    collected[row[single]] = parts[single]
    several = np.flatnonzero(number > 1)
    if len(several):
        collected[several] = shapely.multipolygons(parts[~single], indices=np.searchsorted(several, row[~single]))
    return collected


def _by_neighbourhood(outlines: gpd.GeoSeries, reach_m: float) -> Iterator[tuple[CRS, np.ndarray]]:
    """Yield metric CRS and row positions of outlines that may be neighbours: pairs as in `measure.by_metric_crs`.

    A border can be shared exactly in one plane only, so outlines whose boxes come within `reach_m` of each other are in
    the same; each chain of these has the CRS of its own place. Empty and missing outlines are in no pair.
    """
    array = outlines.to_numpy()
    rows = np.flatnonzero(~(shapely.is_empty(array) | shapely.is_missing(array)))
    boxes = shapely.envelope(array[rows])
    scale = shapely.area(boxes) / np.maximum(area_m2(gpd.GeoSeries(boxes, crs=outlines.crs)), 1e-9)
    margin = 2 * reach_m * np.sqrt(scale)  # twice, for a degree of longitude is shorter than one of latitude
    low, high = np.split(shapely.bounds(boxes), 2, axis=1)
    grown = shapely.box(*(low - margin[:, None]).T, *(high + margin[:, None]).T)
    one, two = shapely.STRtree(grown).query(grown)
    size, chain = connected_components(coo_array((np.ones(len(one)), (one, two)), shape=(len(rows), len(rows))))
    west_south, east_north = np.full((size, 2), np.inf), np.full((size, 2), -np.inf)
    np.minimum.at(west_south, chain, low)
    np.maximum.at(east_north, chain, high)
    for crs, chains in by_metric_crs(gpd.GeoSeries(shapely.points((west_south + east_north) / 2), crs=outlines.crs)):
        yield crs, rows[np.isin(chain, chains)]

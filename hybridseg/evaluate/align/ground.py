"""The ground that counts: where both sides are compared, and the pixels laid over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from hybridseg.errors import EvaluateError
from hybridseg.evaluate.align.layers import Features, Vectors, features, read_table
from hybridseg.evaluate.align.metric import LON_LAT, Bounds, degrees, metric_crs, title, to_crs
from hybridseg.evaluate.align.rasters import crs_of
from hybridseg.evaluate.measure.near import clipped

_MAX_PIXELS = 2e8
_PIXELS_A_SIDE = 20
_TOUCH = 1e-6  # px
_APART_DEG = 1e-4
_REACH_M = 1000.0
_EVERYWHERE = shapely.box(-1e8, -1e8, 1e8, 1e8)


@dataclass(frozen=True)
class Region:
    """Some ground: what messages call it, polygons (n,), and their CRS."""

    name: str
    polygons: np.ndarray
    crs: CRS

    def degrees(self) -> Bounds:
        """(west, south, east, north)."""
        return degrees(_bounds(*self.polygons), self.crs, self.name)

    def to(self, crs: CRS) -> BaseGeometry:
        """As one geometry in another CRS."""
        return shapely.union_all(to_crs(self.polygons, self.crs, crs, step=True))


@dataclass(frozen=True)
class Ground:
    """What counts, in the metric CRS: all of `area` (None: everywhere) but `ignore` (None: nothing is ignored)."""

    crs: CRS
    area: BaseGeometry | None = None
    ignore: BaseGeometry | None = None

    def shrunk(self, distance_m: float) -> BaseGeometry | None:
        """The ground at least `distance_m` away from where outlines are cut; None for everywhere."""
        area = None if self.area is None else shapely.buffer(self.area, -distance_m)
        if self.ignore is None:
            return area
        return shapely.difference(area or _EVERYWHERE, shapely.buffer(self.ignore, distance_m))

    def seen(self, geometries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What counts of each geometry.

        Returns:
            ((n,) its part in the area, (n,) its part that is not ignored either); parts may be empty.
        """
        inside = geometries if self.area is None else _of_like(clipped(geometries, self.area), geometries)
        return inside, inside if self.ignore is None else _of_like(_without(inside, self.ignore), geometries)


def region(source: Vectors, name: str) -> Region:
    """Polygons of a vector layer as a region.

    Raises:
        EvaluateError: it has none.
    """
    table, file, _ = read_table(source, name)
    name = name if file == name else f"{name} ({file})"
    found = features(table, name, "polygons")
    if found.crs is None or not len(found):
        raise EvaluateError(f"{name} is empty; give a layer with polygons, or leave it out")
    return Region(name, found.geometry, found.crs)


def footprint(grid: GeoBox, name: str) -> Region:
    """The extent of a raster as a region."""
    return Region(name, np.array([grid.extent.geom], dtype=object), crs_of(grid))


def extent(layer: Features) -> Region:
    """The bounding box of a layer that is not empty, as a region."""
    assert layer.crs is not None  # it has geometry
    return Region(layer.name, np.array([shapely.box(*shapely.total_bounds(layer.geometry))], dtype=object), layer.crs)


def check_overlap(one: Region, other: Region) -> None:
    """Refuse two extents that are apart, by more than some ten metres: two drawings of one street may be.

    Raises:
        EvaluateError: they are; the message names both.
    """
    a, b = one.degrees(), other.degrees()
    if max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3]) > _APART_DEG:
        spans = (f"{r.name} spans {_text(d)} (from {title(r.crs)})" for r, d in ((one, a), (other, b)))
        raise EvaluateError(f"{' and '.join(spans)}: they do not overlap; check both files and their CRS")


def choose_ground(ref: Features, areas: Sequence[Region], ignored: Sequence[Region]) -> tuple[Ground, str]:
    """Ground to compare on, and one line that says in which CRS.

    Args:
        ref: its extent, as far as it is in all areas, decides on the CRS.
        areas: only what is in all of them counts.
        ignored: what is in any of them does not.

    Raises:
        EvaluateError: the areas and the reference are apart.
    """
    whole = extent(ref)
    for given in areas:
        check_overlap(given, whole)
    corners = np.array([r.degrees() for r in (whole, *areas)])
    focus = shapely.box(*corners[:, :2].max(axis=0), *corners[:, 2:].min(axis=0)).exterior
    bounds = shapely.total_bounds(to_crs(np.array([focus]), LON_LAT, whole.crs, step=True))
    crs, note = metric_crs(tuple(bounds) if areas else tuple(shapely.total_bounds(whole.polygons)), whole.crs)
    parts = [given.to(crs) for given in areas]
    gaps = [gap.to(crs) for gap in ignored if len(gap.polygons)]
    area = shapely.intersection_all(parts) if parts else None
    return Ground(crs, area, shapely.union_all(gaps) if gaps else None), note


def frame(ground: Ground, pred: np.ndarray, ref: np.ndarray) -> Bounds:
    """The extent to lay pixels and blocks over: that of the area, else of all that is compared.

    Without an area it goes beyond the reference by no more than the reference's own extent (1 km at least), so that a
    stray object far away does not make the pixels coarse.
    """
    if ground.area is not None:
        return _bounds(ground.area)
    left, bottom, right, top = _bounds(*ref)
    reach = max(right - left, top - bottom, _REACH_M)
    everything = _bounds(*ref, *pred)
    low = np.maximum(everything[:2], [left - reach, bottom - reach])
    high = np.minimum(everything[2:], [right + reach, top + reach])
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def metric_grid(bounds: Bounds, crs: CRS, side_m: float) -> GeoBox:
    """Square pixels in the metric CRS over an extent, anchored at the CRS's origin.

    A pixel is a twentieth of `side_m`, the side of a typical object, or larger where there would be more than 2e8.
    """
    left, bottom, right, top = bounds
    pixel = max(side_m / _PIXELS_A_SIDE, math.sqrt((right - left) * (top - bottom) / _MAX_PIXELS))
    pixel = float(f"{pixel:.2g}")
    col, row = math.floor(left / pixel), math.floor(-top / pixel)
    shape = max(1, math.ceil(-bottom / pixel) - row), max(1, math.ceil(right / pixel) - col)
    return GeoBox(shape, Affine(pixel, 0, col * pixel, 0, -pixel, -row * pixel), crs)


def crop(grid: GeoBox, geometries: np.ndarray) -> GeoBox:
    """The part of a grid that holds some geometries (its CRS); one pixel at least."""
    points = shapely.get_coordinates(shapely.envelope(geometries))
    cols, rows = np.array(tuple(~grid.affine)[:6]).reshape(2, 3) @ np.column_stack([points, np.ones(len(points))]).T
    (top, bottom), (left, right) = (
        np.clip([np.floor(v.min() + _TOUCH), np.ceil(v.max() - _TOUCH)], 0, size).astype(int)
        for v, size in zip((rows, cols), grid.shape, strict=True)
    )
    top, left = min(top, grid.height - 1), min(left, grid.width - 1)
    return grid[top : max(bottom, top + 1), left : max(right, left + 1)]


def _without(geometries: np.ndarray, ignore: BaseGeometry) -> np.ndarray:
    """Geometries less the ignored ground."""
    parts = shapely.get_parts([ignore])
    geometry, part = shapely.STRtree(parts).query(geometries, predicate="intersects")
    rows, first = np.unique(geometry, return_index=True)
    result = geometries.copy()
    # Only the ignore regions at hand, as there may be thousands of them.
    local = [shapely.union_all(group) for group in np.split(parts[part], first[1:])] if len(rows) else []
    result[rows] = shapely.difference(geometries[rows], local)
    return result


def _of_like(cut: np.ndarray, geometries: np.ndarray) -> np.ndarray:
    """Cutting leaves points and lines where things touch; of polygons polygons are kept, of lines lines."""
    stray = shapely.get_type_id(cut) == shapely.GeometryType.GEOMETRYCOLLECTION
    dimension = shapely.get_dimensions(geometries)
    for row in np.flatnonzero(stray & ~shapely.is_empty(cut)):
        parts = shapely.get_parts([cut[row]])
        cut[row] = shapely.union_all(parts[shapely.get_dimensions(parts) == dimension[row]])
    lower = shapely.get_dimensions(cut) < dimension
    cut[lower] = shapely.Polygon()
    return cut


def _bounds(*geometries: BaseGeometry) -> Bounds:
    left, bottom, right, top = shapely.total_bounds(np.array(geometries, dtype=object))
    return float(left), float(bottom), float(right), float(top)


def _text(bounds: Bounds) -> str:
    west, south, east, north = bounds
    return f"longitude {west:.5f} to {east:.5f}, latitude {south:.5f} to {north:.5f}"

"""Metres on the ground, whatever the CRS of the source, and blocks of so many of them.

The local frame is a Lambert azimuthal equal-area projection whose centre is a whole degree of longitude and latitude.
Equal-area rather than UTM: areas are exact on the ellipsoid, there are no zone edges, and it holds at the poles and at
the antimeridian; within the cell of a whole degree lengths are true to 3e-5. Whole degrees, because a frame centred on
the data would turn with the extent asked for, and so would everything that is rounded in it.
"""

from __future__ import annotations

from collections.abc import Iterator

import geopandas as gpd
import numpy as np
import shapely
from pyproj import CRS

from hybridseg.errors import NoGeoreference

_LON_LAT = CRS.from_epsg(4326)
_AT_ONCE = 20_000
"""Geometries that are brought to another CRS at once."""


def local_metric_crs(bounds: tuple[float, float, float, float], crs: CRS | None) -> CRS:
    """Return the equal-area CRS in metres that fits an extent best.

    Args:
        bounds: (left, bottom, right, top) in `crs`.
        crs: CRS of `bounds`.

    Raises:
        NoGeoreference: `crs` is None.
    """
    left, bottom, right, top = bounds
    centre = gpd.GeoSeries(shapely.points([(left + right) / 2], [(bottom + top) / 2]), crs=crs)
    return _equal_area(*_cells(centre)[0])


def by_metric_crs(geometries: gpd.GeoSeries) -> Iterator[tuple[CRS, np.ndarray]]:
    """Yield each geometry's own metric CRS: pairs of (CRS, row positions (n,) int), every row in exactly one.

    The choice rests on the geometry's own centroid, so it does not change with what else is in the layer. Empty and
    missing geometries are in no pair.

    Raises:
        NoGeoreference: `geometries` has no CRS.
    """
    array = geometries.to_numpy()
    rows = np.flatnonzero(~(shapely.is_empty(array) | shapely.is_missing(array)))
    found = [_cells(gpd.GeoSeries(shapely.centroid(array[some]), crs=geometries.crs)) for some in _few(rows)]
    cells, member = np.unique(np.concatenate(found), axis=0, return_inverse=True)
    for number, cell in enumerate(cells):
        yield _equal_area(*cell), rows[member.ravel() == number]


def area_m2(geometries: gpd.GeoSeries) -> np.ndarray:
    """Return ground areas (n,) float64 in m2, on the WGS 84 ellipsoid, without holes; 0 for empty and missing ones.

    Raises:
        NoGeoreference: `geometries` has no CRS.
    """
    areas = np.zeros(len(geometries))
    for crs, rows in by_metric_crs(geometries):
        for some in _few(rows):
            areas[some] = shapely.area(geometries.iloc[some].to_crs(crs).to_numpy())
    return areas


def returned(shaped: gpd.GeoSeries, given: gpd.GeoSeries) -> gpd.GeoSeries:
    """Return geometries in the CRS of those that they were made of, on the same side of the antimeridian.

    PROJ gives longitudes from -180 to 180; a scene that lies across the antimeridian counts on beyond them.

    Args:
        shaped: geometries in any CRS.
        given: what they were made of.
    """
    back, crs = shaped.to_crs(given.crs), given.crs
    if not crs.is_geographic:
        return back
    left, _, right, _ = given.total_bounds

    def moved(places: np.ndarray) -> np.ndarray:
        return np.column_stack([same_turn(places[:, 0], (left + right) / 2, crs), places[:, 1]])

    return gpd.GeoSeries(shapely.transform(back.to_numpy(), moved), back.index, crs)


def same_turn(x: np.ndarray, middle: float, crs: CRS) -> np.ndarray:
    """Return coordinates with the full turns added that bring longitudes within half a turn of `middle`."""
    if not crs.is_geographic:
        return x
    turn = round(2 * np.pi / crs.axis_info[0].unit_conversion_factor, 6)  # mostly degrees, but there are maps in grads
    return np.asarray(x + turn * np.round((middle - x) / turn))


def _few(rows: np.ndarray) -> list[np.ndarray]:
    """Return rows in parts: their geometries in another CRS would take as much room again."""
    return np.array_split(rows, len(rows) // _AT_ONCE + 1)


def _cells(points: gpd.GeoSeries) -> np.ndarray:
    """Return nearest whole (lon, lat) of points, (n, 2) int."""
    if points.crs is None:
        raise NoGeoreference("the features have no CRS, so they cannot be measured in metres: set the CRS of the layer")
    lon_lat = shapely.get_coordinates(points.to_crs(_LON_LAT).to_numpy())
    if not np.isfinite(lon_lat).all():
        raise NoGeoreference(f"features lie where {points.crs.name} is not defined: set the true CRS of the layer")
    cells = np.rint(lon_lat).astype(int)
    cells[cells[:, 0] == -180, 0] = 180  # one meridian, one name
    return np.asarray(cells)


def _equal_area(lon: int, lat: int) -> CRS:
    return CRS.from_dict({"proj": "laea", "lon_0": int(lon), "lat_0": int(lat), "datum": "WGS84", "units": "m"})


def blocks_of(outlines: gpd.GeoSeries, side_m: float, around_m: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the row positions of each block (n,) and of all that must be known for it (m,), both ascending.

    A block is a square in the metric CRS of its place (see `measure`), so it does not move with the extent of the
    layer; an outline belongs to the block that the middle of its box lies in. Every row is in exactly one block; empty
    and missing outlines make one by themselves.

    Args:
        outlines: in any CRS.
        side_m: of the squares.
        around_m: outlines whose boxes come so near to those of a block are known for it, and perhaps some others.

    Raises:
        NoGeoreference: the outlines have no CRS.
    """
    array = outlines.to_numpy()
    bounds, tree = shapely.bounds(array), shapely.STRtree(array)
    middles = (bounds[:, :2] + bounds[:, 2:]) / 2
    for crs, rows in by_metric_crs(outlines):
        few = (gpd.GeoSeries(shapely.points(middles[some]), crs=outlines.crs).to_crs(crs) for some in _few(rows))
        squares = np.floor(np.concatenate([shapely.get_coordinates(some.to_numpy()) for some in few]) / side_m)
        block = np.unique(squares, axis=0, return_inverse=True)[1].ravel()
        order = np.argsort(block, kind="stable")
        cores = np.split(rows[order], np.flatnonzero(np.diff(block[order])) + 1)
        extents = np.array([[*bounds[core, :2].min(axis=0), *bounds[core, 2:].max(axis=0)] for core in cores])
        boxes = shapely.box(*extents.T)
        bent = shapely.segmentize(boxes, np.maximum(shapely.length(boxes) / 32, 1e-9))
        grown = shapely.buffer(gpd.GeoSeries(bent, crs=outlines.crs).to_crs(crs).to_numpy(), around_m)
        for core, ground in zip(cores, returned(gpd.GeoSeries(grown, crs=crs), outlines), strict=True):
            yield core, np.sort(tree.query(ground))
    if len(without := np.flatnonzero(shapely.is_empty(array) | shapely.is_missing(array))):
        yield without, without

"""Where two layers are compared: a CRS in true metres, whatever that of the files, and the area that counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import CRSError, ProjError
from shapely.errors import ShapelyError
from shapely.geometry.base import BaseGeometry

from hybridseg.errors import EvaluateError, NoGeoreference
from hybridseg.metrics.lines import clip
from hybridseg.types import Extent

LON_LAT = CRS.from_epsg(4326)

_WGS84 = Geod(ellps="WGS84")
_SCALE_ERROR = 1e-3
"""A CRS whose metre is off by less than this may be measured in; that of UTM is off by 0.0004 at its meridian."""
_STEP_M = 100.0
_DIRECTIONS = ((1, 0), (0, 1), (0.6, 0.8), (0.8, -0.6))
_PARTS_PER_SIDE = 64
_APART_DEG = 1e-4
_LEAST_REACH_M = 1000.0
_EVERYWHERE = shapely.box(-1e8, -1e8, 1e8, 1e8)


@dataclass(frozen=True)
class Region:
    """Polygons that limit a comparison.

    Attributes:
        name: what messages call it.
        polygons: (n,) shapely polygons.
        crs: their CRS.
    """

    name: str
    polygons: np.ndarray
    crs: CRS

    @classmethod
    def around(cls, geometries: np.ndarray, crs: CRS, name: str) -> Region:
        """Return the bounding box of geometries (n,), n > 0, as a region."""
        return cls(name, np.array([shapely.box(*shapely.total_bounds(geometries))], dtype=object), crs)

    @classmethod
    def of_grid(cls, grid: GeoBox, name: str) -> Region:
        """Return the extent of a raster as a region."""
        return cls(name, np.array([grid.extent.geom], dtype=object), crs_of(grid))

    @property
    def extent(self) -> Extent:
        """(left, bottom, right, top) in its CRS."""
        return _extent(self.polygons)

    @property
    def degrees(self) -> Extent:
        """(west, south, east, north)."""
        return degrees(self.extent, self.crs, self.name)

    def to(self, crs: CRS) -> BaseGeometry:
        """Return its union in another CRS.

        Raises:
            NoGeoreference: it lies outside of what its CRS can describe.
        """
        degrees(self.extent, self.crs, self.name)
        return shapely.union_all(to_crs(self.polygons, self.crs, crs, bend=True))


@dataclass(frozen=True)
class StudyArea:
    """The ground that counts: all of `area` but `ignore`.

    Attributes:
        crs: the metric CRS.
        area: only what lies in it counts; None: everything.
        ignore: what lies in it does not count; None: nothing is ignored.
    """

    crs: CRS
    area: BaseGeometry | None = None
    ignore: BaseGeometry | None = None

    def shrunk(self, distance_m: float) -> BaseGeometry | None:
        """Return the ground at least `distance_m` away from where outlines are cut; None for everywhere."""
        area = None if self.area is None else shapely.buffer(self.area, -distance_m)
        if self.ignore is None:
            return area
        return shapely.difference(area or _EVERYWHERE, shapely.buffer(self.ignore, distance_m))

    def cut(self, geometries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cut geometries (n,) at the borders of the area.

        Returns:
            (n,) the part of each in the area, and (n,) the part of each that is not ignored either; parts may be empty.
        """
        inside = geometries if self.area is None else _same_dimension(clip(geometries, self.area), geometries)
        if self.ignore is None:
            return inside, inside
        return inside, _same_dimension(_without(inside, self.ignore), geometries)


def choose_area(ref: Region, areas: Sequence[Region], ignored: Sequence[Region]) -> tuple[StudyArea, str]:
    """Return the area to compare on, and one line that says in which CRS.

    Args:
        ref: extent of the reference. The CRS is chosen for the part of it that lies in all areas.
        areas: only what lies in all of them counts.
        ignored: what lies in any of them does not count.

    Raises:
        EvaluateError: an area and the reference do not overlap.
        NoGeoreference: a region lies outside of what its CRS can describe.
    """
    for given in areas:
        check_overlap(given, ref)
    extent = ref.extent
    if areas:
        corners = np.array([r.degrees for r in (ref, *areas)])
        common = shapely.box(*corners[:, :2].max(axis=0), *corners[:, 2:].min(axis=0)).exterior
        extent = _extent(to_crs(np.array([common]), LON_LAT, ref.crs, bend=True))
    crs, note = metric_crs(extent, ref.crs)
    parts = [given.to(crs) for given in areas]
    gaps = [gap.to(crs) for gap in ignored if len(gap.polygons)]
    area = shapely.intersection_all(parts) if parts else None
    return StudyArea(crs, area, shapely.union_all(gaps) if gaps else None), note


def check_overlap(one: Region, other: Region) -> None:
    """Refuse regions that are more than some ten metres apart; two drawings of one street may be as far apart as that.

    Raises:
        EvaluateError: they do not overlap; the message names both.
    """
    a, b = one.degrees, other.degrees
    if max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3]) > _APART_DEG:
        spans = (f"{r.name} spans {_text(d)} (from {title(r.crs)})" for r, d in ((one, a), (other, b)))
        raise EvaluateError(f"{' and '.join(spans)}: they do not overlap; check both files and their CRS")


def frame(study: StudyArea, pred: np.ndarray, ref: np.ndarray) -> Extent:
    """Return the extent on which pixels and blocks are laid: that of the area, else of both sides.

    Without an area it exceeds the reference by at most the reference's own extent (at least 1 km), so that a stray
    object far away does not make the pixels coarse.

    Args:
        study: the area.
        pred: (n,) geometries of the prediction in its CRS.
        ref: (m,) geometries of the reference.
    """
    if study.area is not None:
        return _extent([study.area])
    left, bottom, right, top = _extent(ref)
    reach = max(right - left, top - bottom, _LEAST_REACH_M)
    everything = _extent([*ref, *pred])
    low = np.maximum(everything[:2], [left - reach, bottom - reach])
    high = np.minimum(everything[2:], [right + reach, top + reach])
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def metric_crs(extent: Extent, crs: CRS) -> tuple[CRS, str]:
    """Choose the CRS to measure in.

    The CRS of the data is kept where it is true to scale (UTM and national grids mostly are: nothing is moved). Else it
    is a Lambert azimuthal equal-area projection around the nearest whole degree: there areas are exact on the
    ellipsoid, and lengths true to 0.0004 within 3 degrees of its centre.

    Args:
        extent: of the reference, in `crs`.
        crs: CRS of the reference.

    Returns:
        the CRS, and one line that says which and why.

    Raises:
        NoGeoreference: the extent lies outside of what the CRS can describe.
    """
    crs = plane_crs(crs)
    west, south, east, north = degrees(extent, crs, "the reference")
    if _true_to_scale(crs, extent):
        return crs, f"{title(crs)}, the reference's own CRS, whose metres are true within 0.1 %"
    lon0, lat0 = round((west + east) / 2), round((south + north) / 2)
    local = CRS.from_dict({"proj": "laea", "lon_0": lon0, "lat_0": lat0, "datum": "WGS84", "units": "m"})
    why = f"as {title(crs)} is not in true metres here"
    return local, f"Lambert azimuthal equal-area around longitude {lon0}, latitude {lat0}, {why}"


def plane_crs(crs: CRS) -> CRS:
    """Return a CRS without its heights."""
    return CRS.from_user_input(crs.to_2d())


def crs_of(grid: GeoBox) -> CRS:
    """Return the CRS of a grid that has one."""
    assert grid.crs is not None
    return CRS.from_user_input(grid.crs.proj)


def to_crs(geometries: np.ndarray, source: CRS, target: CRS, bend: bool = False) -> np.ndarray:
    """Reproject geometries.

    Args:
        geometries: (n,) shapely geometries.
        source: their CRS.
        target: the CRS wanted.
        bend: add points to long sides first, because a straight side in one CRS is curved in another.
    """
    if bend and len(geometries):
        extent = shapely.total_bounds(geometries)
        longest = (extent[2:] - extent[:2]).max()
        geometries = shapely.segmentize(geometries, max(longest / _PARTS_PER_SIDE, 1e-9))
    return np.asarray(gpd.GeoSeries(geometries, crs=source).to_crs(target).to_numpy(), dtype=object)


def degrees(extent: Extent, crs: CRS, name: str) -> Extent:
    """Return an extent as (west, south, east, north) in degrees, WGS 84.

    Raises:
        NoGeoreference: it lies outside of what the CRS can describe; `name` is what the message calls it.
    """
    box = np.array([shapely.box(*extent).exterior], dtype=object)
    try:
        found = shapely.total_bounds(to_crs(box, plane_crs(crs), LON_LAT, bend=True))
    except (CRSError, ProjError, ShapelyError):  # GEOS refuses sides as long as 1e300
        found = np.array([np.nan])
    if not (np.isfinite(found).all() and np.abs(found[[1, 3]]).max() <= 90):
        text = ", ".join(f"{value:.10g}" for value in extent)
        raise NoGeoreference(f"{name} spans {text}, where {title(crs)} is not defined: set the true CRS of the layer")
    west, south, east, north = map(float, found)
    return west, south, east, north


def title(crs: CRS) -> str:
    """Return the code of a CRS, such as EPSG:32645, or its name where it has none."""
    authority = crs.to_authority()
    return ":".join(authority) if authority else str(crs.name)


def _true_to_scale(crs: CRS, extent: Extent) -> bool:
    """Whether lengths are true at nine points of an extent, in four directions.

    They are compared with geodesics, because PROJ's scale factors are those of a sphere for EPSG:3857: at the equator
    they say 1, while its metre is 0.67 % too long northwards.
    """
    if not crs.is_projected or any(axis.unit_conversion_factor != 1 for axis in crs.axis_info):
        return False
    places = np.meshgrid(np.linspace(extent[0], extent[2], 3), np.linspace(extent[1], extent[3], 3))
    x, y = (np.repeat(values.ravel(), len(_DIRECTIONS)) for values in places)
    dx, dy = np.tile(_DIRECTIONS, (9, 1)).T * _STEP_M / 2
    to_degrees = Transformer.from_crs(crs, LON_LAT, always_xy=True)
    ends = *to_degrees.transform(x - dx, y - dy), *to_degrees.transform(x + dx, y + dy)
    if not np.isfinite(ends).all():
        return False
    scale = _STEP_M / np.asarray(_WGS84.inv(*ends)[2])
    return bool(np.abs(scale - 1).max() < _SCALE_ERROR)


def _without(geometries: np.ndarray, ignore: BaseGeometry) -> np.ndarray:
    """Subtract ignored ground from geometries (n,)."""
    parts = shapely.get_parts([ignore])
    geometry, part = shapely.STRtree(parts).query(geometries, predicate="intersects")
    rows, first = np.unique(geometry, return_index=True)
    result = geometries.copy()
    # Only the parts at hand are subtracted from each, as there may be thousands of them.
    local = [shapely.union_all(group) for group in np.split(parts[part], first[1:])] if len(rows) else []
    result[rows] = shapely.difference(geometries[rows], local)
    return result


def _same_dimension(cut: np.ndarray, geometries: np.ndarray) -> np.ndarray:
    """Drop the points and lines that cutting leaves where things only touch: polygons stay polygons, lines lines."""
    mixed = shapely.get_type_id(cut) == shapely.GeometryType.GEOMETRYCOLLECTION
    dimension = shapely.get_dimensions(geometries)
    for row in np.flatnonzero(mixed & ~shapely.is_empty(cut)):
        parts = shapely.get_parts([cut[row]])
        cut[row] = shapely.union_all(parts[shapely.get_dimensions(parts) == dimension[row]])
    lower = shapely.get_dimensions(cut) < dimension
    cut[lower] = shapely.Polygon()
    return cut


def _extent(geometries: Sequence[BaseGeometry] | np.ndarray) -> Extent:
    left, bottom, right, top = shapely.total_bounds(np.asarray(geometries, dtype=object))
    return float(left), float(bottom), float(right), float(top)


def _text(extent: Extent) -> str:
    west, south, east, north = extent
    return f"longitude {west:.5f} to {east:.5f}, latitude {south:.5f} to {north:.5f}"

"""How many metres of ground a pixel or a CRS unit spans."""

from __future__ import annotations

import math

from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Proj, Transformer
from pyproj.exceptions import CRSError, ProjError

_CYLINDRICAL = (
    "Mercator", "Popular Visualisation Pseudo Mercator", "Equidistant Cylindrical", "Lambert Cylindrical Equal Area",
)  # fmt: skip
"""Projections whose scale changes with the latitude so much that their metre is none (PROJ's method names)."""


def horizontal(geobox: GeoBox) -> CRS:
    """The CRS of the map plane, without heights.

    Raises:
        ValueError: when it is neither geographic nor projected, or the geobox lies outside what it can describe.
    """
    if geobox.crs is None:
        raise ValueError("it has no CRS")
    crs: CRS = geobox.crs.proj
    if crs.is_compound:
        crs = crs.sub_crs_list[0]
    if not (crs.is_geographic or crs.is_projected):
        raise ValueError("its CRS is local and has no place on the ground")
    try:
        lon, lat = lonlat(geobox, crs, geobox.width / 2, geobox.height / 2)
    except (CRSError, ProjError) as error:
        raise ValueError("its CRS cannot be converted to longitude and latitude") from error
    if not (math.isfinite(lon) and abs(lat) <= 90):
        raise ValueError("its coordinates lie outside its CRS")
    return crs


def lonlat(geobox: GeoBox, crs: CRS, col: float, row: float) -> tuple[float, float]:
    """Longitude and latitude (degrees, the CRS's own datum) of a position in pixels, corners of pixels whole."""
    a, b, c, d, e, f = tuple(geobox.affine)[:6]
    geodetic = crs.geodetic_crs
    if geodetic is None:
        raise CRSError("no longitude and latitude beneath it")
    lon, lat = Transformer.from_crs(crs, geodetic, always_xy=True).transform(
        a * col + b * row + c, d * col + e * row + f
    )
    to_radians = geodetic.axis_info[0].unit_conversion_factor  # mostly degrees, but there are maps in grads
    return math.degrees(lon * to_radians), math.degrees(lat * to_radians)


def gsd_m(geobox: GeoBox) -> float:
    """Ground metres per pixel at the centre, measured along the ellipsoid: geometric mean over columns and rows."""
    crs = horizontal(geobox)
    col, row = geobox.width / 2, geobox.height / 2

    def along(dc: float, dr: float) -> float:
        start, end = (lonlat(geobox, crs, col + s * dc, row + s * dr) for s in (-0.5, 0.5))
        return float(_geod(crs).inv(*start, *end)[2])

    return math.sqrt(along(1, 0) * along(0, 1))


def metres_per_unit(geobox: GeoBox) -> tuple[float, float]:
    """Ground metres per CRS unit along the CRS's x and y.

    The latitude is that of the centre rounded to a whole degree. So a scene cut in half, or the next date of a series,
    gets the very same value, and with it the very same working grid (unless its centre falls into another degree); the
    price is a scale up to 1.5 % off at 60 degrees.
    Projections that keep their scale (UTM, national grids) count by their unit alone: a metre is 1, a foot 0.3048.
    """
    crs = horizontal(geobox)
    lon, lat = lonlat(geobox, crs, geobox.width / 2, geobox.height / 2)
    lat = max(-89.0, min(89.0, float(round(lat))))
    unit = crs.axis_info[0].unit_conversion_factor  # metres, or radians for a geographic CRS
    if crs.is_geographic:
        geod, phi = _geod(crs), math.radians(lat)
        normal = geod.a / math.sqrt(1 - geod.es * math.sin(phi) ** 2)  # radius of curvature in the prime vertical
        meridional = normal * (1 - geod.es) / (1 - geod.es * math.sin(phi) ** 2)
        return unit * normal * math.cos(phi), unit * meridional
    method = crs.coordinate_operation.method_name if crs.coordinate_operation else ""
    if method.startswith(_CYLINDRICAL):
        scale = Proj(crs).get_factors(lon, lat)
        return unit / scale.parallel_scale, unit / scale.meridional_scale
    return unit, unit


def _geod(crs: CRS) -> Geod:
    geod = crs.get_geod()
    if geod is None:
        raise ValueError("its CRS has no ellipsoid")
    return geod

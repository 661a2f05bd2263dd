"""Grids on the ground: how many metres a pixel or a CRS unit spans, and the working grid, anchored in the CRS."""

from __future__ import annotations

import math

from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Proj, Transformer
from pyproj.exceptions import CRSError, ProjError

from hybridseg.errors import EmptySource
from hybridseg.read.scene import Scene

_CYLINDRICAL = (
    "Mercator", "Popular Visualisation Pseudo Mercator", "Equidistant Cylindrical", "Lambert Cylindrical Equal Area",
)  # fmt: skip
"""Projections whose scale changes with the latitude so much that their metre is none (PROJ's method names)."""
_TOL = 1e-6
"""Share of a snap that a bound may reach beyond a line of the grid and still count as on it."""
_TURN = 0.5 + 1 / 77
"""Added before an origin in pixels is rounded down. Not 0.5: origins at half a pixel are common, and float noise would
round them differently for each crop. Any fraction that grids do not use will do."""


def horizontal(geobox: GeoBox) -> CRS:
    """Return the CRS of the map plane, without heights.

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
    if not (abs(lon) <= 720 and abs(lat) <= 90):  # some count on beyond 180 and 360
        raise ValueError("its coordinates lie outside its CRS")
    return crs


def check_scale(geobox: GeoBox) -> None:
    """Refuse a geobox whose pixels have no size on the ground.

    Raises:
        ValueError: as of `horizontal`, or its CRS has no scale there.
    """
    crs = horizontal(geobox)
    try:
        Transformer.from_crs(crs, 4326)
    except ProjError as error:
        raise ValueError("its CRS is not of the Earth, where areas and outlines are measured") from error
    try:
        scales = (gsd_m(geobox), *metres_per_unit(geobox))
    except (CRSError, ProjError, ArithmeticError) as error:  # the last of an ellipsoid of no sane size
        raise ValueError("its CRS has no scale that could be computed") from error
    if not all(math.isfinite(scale) and scale > 0 for scale in scales):
        raise ValueError("its pixels have no size on the ground")


def lonlat(geobox: GeoBox, crs: CRS, col: float, row: float) -> tuple[float, float]:
    """Return longitude and latitude (degrees, the CRS's own datum) of a position in pixels, corners of pixels whole."""
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
    """Return ground metres per pixel at the centre, along the ellipsoid: geometric mean of columns and rows."""
    crs = horizontal(geobox)
    col, row = geobox.width / 2, geobox.height / 2

    def along(dc: float, dr: float) -> float:
        start, end = (lonlat(geobox, crs, col + s * dc, row + s * dr) for s in (-0.5, 0.5))
        return float(_geod(crs).inv(*start, *end)[2])

    return math.sqrt(along(1, 0) * along(0, 1))


def metres_per_unit(geobox: GeoBox) -> tuple[float, float]:
    """Return ground metres per CRS unit along the CRS's x and y.

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


def pixel_anchor(geobox: GeoBox) -> tuple[int, int]:
    """Return (col0, row0): where a raster's first pixel lies on the lattice of its pixels anchored at the CRS origin.

    In whole pixels. Two cuts of one raster have anchors that differ by exactly the cut's offset, so they agree on the
    place of every pixel they share. Works for rotated and south-up rasters alike.
    """
    a, b, c, d, e, f = tuple(geobox.affine)[:6]
    det = a * e - b * d
    return math.floor((e * c - b * f) / det + _TURN), math.floor((a * f - d * c) / det + _TURN)


def work_grid(
    scene: Scene, gsd_m: float, snap_px: int, bounds: tuple[float, float, float, float] | None = None
) -> GeoBox:
    """Return the north-up grid to classify on: pixels of `gsd_m` on the ground that just cover the bounds.

    Origin and extent are multiples of `snap_px` pixels counted from the CRS origin, so any two extents of a scene, and
    any two scenes in one CRS at one (whole) latitude, give grids that share their pixels and their snap lines.

    Args:
        scene: gives CRS, scale and the default bounds.
        gsd_m: ground metres per pixel.
        snap_px: the network's stride.
        bounds: (left, bottom, right, top) in CRS units; default: the scene's own.

    Raises:
        EmptySource: when the bounds are empty or do not touch the scene.
    """
    whole = _bounds(scene.geobox)
    left, bottom, right, top = bounds if bounds is not None else whole
    if not (left < right and bottom < top):
        raise EmptySource(f"the extent {left}, {bottom}, {right}, {top} is empty; give left, bottom, right, top")
    if left >= whole[2] or right <= whole[0] or bottom >= whole[3] or top <= whole[1]:
        spans = ", ".join(f"{v:.10g}" for v in whole)
        raise EmptySource(
            f"the extent {left:.10g}, {bottom:.10g}, {right:.10g}, {top:.10g} does not touch {scene.name}, "
            f"which spans {spans} in {scene.crs}"
        )
    mx, my = scene.metres_per_unit
    px, py = gsd_m / mx, gsd_m / my  # CRS units per pixel
    col0, col1 = _snap(left / px, right / px, snap_px)
    row0, row1 = _snap(-top / py, -bottom / py, snap_px)
    return GeoBox((row1 - row0, col1 - col0), Affine(px, 0, col0 * px, 0, -py, -row0 * py), scene.crs)


def is_north_up(grid: GeoBox) -> bool:
    """Return whether rows of pixels run from west to east, the northernmost first."""
    affine = grid.affine
    return bool(affine.b == affine.d == 0 and affine.a > 0 > affine.e)


def own_pixels(geobox: GeoBox, bounds: tuple[float, float, float, float], name: str) -> GeoBox:
    """Return a north-up grid's own pixels that cover bounds (left, bottom, right, top), as far as it reaches.

    Raises:
        EmptySource: it lies beside them; `name` is what the message calls it.
    """
    (left, top), (right, bottom) = (~geobox.affine * corner for corner in ((bounds[0], bounds[3]), bounds[2:0:-1]))
    col0, row0 = max(0, math.floor(left + _TOL)), max(0, math.floor(top + _TOL))
    col1, row1 = min(geobox.width, math.ceil(right - _TOL)), min(geobox.height, math.ceil(bottom - _TOL))
    if col0 >= col1 or row0 >= row1:
        raise EmptySource(f"{name} lies beside the imagery that is asked for; give one of the same ground")
    return GeoBox((row1 - row0, col1 - col0), geobox.affine @ Affine.translation(col0, row0), geobox.crs)


def _snap(low: float, high: float, snap_px: int) -> tuple[int, int]:
    """The multiples of `snap_px` that just enclose low..high (px)."""
    first = math.floor(low / snap_px + _TOL)
    last = math.ceil(high / snap_px - _TOL)
    return first * snap_px, max(last, first + 1) * snap_px


def _bounds(geobox: GeoBox) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) around all four corners, whatever the rotation."""
    a, b, c, d, e, f = tuple(geobox.affine)[:6]
    corners = [(col, row) for col in (0, geobox.width) for row in (0, geobox.height)]
    xs = [a * col + b * row + c for col, row in corners]
    ys = [d * col + e * row + f for col, row in corners]
    return min(xs), min(ys), max(xs), max(ys)

"""The frame in which everything is measured: metres on the ground, whatever the CRS of the files."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import shapely
from pyproj import CRS, Proj, Transformer
from pyproj.exceptions import CRSError, ProjError

from hybridseg.errors import NoGeoreference

LON_LAT = CRS.from_epsg(4326)
_TRUE = 1e-3
"""A CRS whose metre is off by less than this may be measured in; that of UTM is off by 0.0004 at its meridian."""
_SIDE_PARTS = 64

Bounds = tuple[float, float, float, float]


def metric_crs(bounds: Bounds, crs: CRS) -> tuple[CRS, str]:
    """The CRS to measure in, and one line that says which and why.

    The CRS of the data itself where it is true to scale (UTM and national grids mostly are: nothing is moved), else a
    Lambert azimuthal equal-area projection around the nearest whole degree: there areas are exact on the ellipsoid,
    and lengths true to 0.0004 within 3 degrees of its centre.

    Args:
        bounds: (left, bottom, right, top) in `crs`.
        crs: CRS of the reference.

    Raises:
        NoGeoreference: the bounds do not lie where the CRS is defined.
    """
    crs = horizontal(crs)
    west, south, east, north = degrees(bounds, crs, "the reference")
    if _true_to_scale(crs, bounds):
        return crs, f"{title(crs)}, the reference's own CRS, true to scale within 0.1 %"
    lon0, lat0 = round((west + east) / 2), round((south + north) / 2)
    local = CRS.from_dict({"proj": "laea", "lon_0": lon0, "lat_0": lat0, "datum": "WGS84", "units": "m"})
    why = f"as {title(crs)} is not in true metres here"
    return local, f"Lambert azimuthal equal-area around longitude {lon0}, latitude {lat0}, {why}"


def horizontal(crs: CRS) -> CRS:
    """A CRS without its heights."""
    return CRS.from_user_input(crs.to_2d())


def to_crs(geometries: np.ndarray, source: CRS, target: CRS, step: bool = False) -> np.ndarray:
    """Geometries (n,) brought from one CRS to another.

    Args:
        geometries: (n,) shapely geometries.
        source: their CRS.
        target: the CRS wanted.
        step: put points on long sides first, as what is straight in one CRS is bent in the other (extents of rasters).
    """
    if step and len(geometries):
        extent = shapely.total_bounds(geometries)
        longest = (extent[2:] - extent[:2]).max()
        geometries = shapely.segmentize(geometries, max(longest / _SIDE_PARTS, 1e-9))
    return np.asarray(gpd.GeoSeries(geometries, crs=source).to_crs(target).to_numpy(), dtype=object)


def degrees(bounds: Bounds, crs: CRS, name: str) -> Bounds:
    """An extent as (west, south, east, north) in degrees, WGS 84.

    Raises:
        NoGeoreference: it lies where the CRS is not defined; `name` is what the message calls it.
    """
    box = np.array([shapely.box(*bounds).exterior], dtype=object)
    try:
        found = shapely.total_bounds(to_crs(box, horizontal(crs), LON_LAT, step=True))
    except (CRSError, ProjError):
        found = np.array([np.nan])
    if not (np.isfinite(found).all() and np.abs(found[[1, 3]]).max() <= 90):
        text = ", ".join(f"{value:.10g}" for value in bounds)
        raise NoGeoreference(f"{name} spans {text}, where {title(crs)} is not defined: set the true CRS of the layer")
    west, south, east, north = map(float, found)
    return west, south, east, north


def title(crs: CRS) -> str:
    """EPSG:32645 where it has a number, else its name."""
    authority = crs.to_authority()
    return ":".join(authority) if authority else str(crs.name)


def _true_to_scale(crs: CRS, bounds: Bounds) -> bool:
    if not crs.is_projected or any(axis.unit_conversion_factor != 1 for axis in crs.axis_info):
        return False
    assert crs.geodetic_crs is not None  # a projected CRS has one
    x, y = np.meshgrid(np.linspace(bounds[0], bounds[2], 3), np.linspace(bounds[1], bounds[3], 3))
    lon, lat = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True).transform(x, y)
    factors = Proj(crs).get_factors(lon, lat)
    scales = np.array([factors.meridional_scale, factors.parallel_scale])
    return bool(np.abs(scales - 1).max() < _TRUE)  # False for nan

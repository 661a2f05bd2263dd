"""Right angles for buildings, where the imagery agrees."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
from buildingregulariser import regularize_geodataframe

from hybridseg.shape.join import set_apart
from hybridseg.shape.measure import as_complex, by_metric_crs
from hybridseg.shape.valid import repaired
from hybridseg.shape.versions import settle, where_true

_STEP_PX = 0.75
"""Simplification of the middles: takes nearly all steps (half a pixel leaves three times the vertices)."""

_STEP_IOU = 0.8
"""Specks of a few pixels, of which the middles leave less than this, keep their steps."""

_UPRIGHT_DEG = 22.0
"""Direction each building is turned to before the library sees it. The library rounds directions to whole degrees and
its test for close parallel edges fails where an edge is exactly horizontal: 22 is whole, no multiple of 45 away from an
axis, and amid one of its 5-degree bins."""


@dataclass(frozen=True)
class RegulariseBuildings:
    """Outlines with right angles in place of traced ones, as long as they stay true to them.

    Each building is shaped by itself, in its own metric frame: no alignment with neighbours, so the outcome does not
    depend on the extent asked for. Three versions compete, and the first that may be kept is:

    1. regularised by `buildingregulariser`, when its IoU with the traced outline is at least `min_iou`;
    2. the traced outline without its pixel steps, see `_smooth_steps`, and without waves smaller than `waves_m`;
    3. the traced outline.

    None may grow into a neighbour (a row house into the next one): versions 1 and 2 are kept only where, whatever
    version each neighbour ends with, they share at most `max_overlap` more with it than the traced ones do. What they
    do share, the smaller of the two gives up.

    simplify_m: detail smaller than this is not a wall (never less than a source pixel).
    parallel_threshold_m: parallel walls closer than this become one.
    min_iou: least agreement of regularised with traced outline.
    waves_m: detail smaller than this comes from the refiner's coarser masks.
    max_overlap: new overlap allowed with a neighbour, as a share of the smaller of the two.
    min_hole_m2: smaller holes are filled, in all versions.
    allow_45: also snap to diagonals.
    circle_iou: an outline that agrees better than this with a circle becomes one (round huts, tanks); 1 for never.
    """

    simplify_m: float = 0.5
    parallel_threshold_m: float = 0.5
    min_iou: float = 0.95
    waves_m: float = 0.3
    max_overlap: float = 0.05
    min_hole_m2: float = 4.0
    allow_45: bool = True
    circle_iou: float = 0.95

    def __call__(self, features: gpd.GeoDataFrame, pixel_m: float = 0.0) -> gpd.GeoDataFrame:
        """The same rows, order, index and columns, with new geometries (`area_m2` is not computed anew).

        Args:
            features: buildings in any CRS.
            pixel_m: size of a source pixel on the ground (m), what the traced outlines are exact to.

        Raises:
            NoGeoreference: the features have no CRS.
        """
        versions = np.stack([features.geometry.to_numpy().copy()] * 3)
        for crs, rows in by_metric_crs(features.geometry):
            ground = features.geometry.iloc[rows].to_crs(crs).to_numpy()
            traced = _fill_holes(repaired(ground), self.min_hole_m2)
            smooth = shapely.simplify(_smooth_steps(traced, pixel_m), self.waves_m if pixel_m > 0 else 0)
            light = where_true(smooth, traced, _STEP_IOU, otherwise=traced)
            square = where_true(self._regularise(traced, pixel_m), traced, self.min_iou, otherwise=light)
            for version, shaped in zip(versions, (square, light, traced), strict=True):
                back = gpd.GeoSeries(shaped, crs=crs).to_crs(features.crs).to_numpy()
                # What was not changed keeps its coordinates to the last digit.
                version[rows] = np.where(shapely.equals_exact(shaped, ground), version[rows], back)
        outlines = repaired(set_apart(settle(versions, self.max_overlap)))
        return features.set_geometry(gpd.GeoSeries(outlines, features.index, features.crs))

    def _regularise(self, traced: np.ndarray, pixel_m: float) -> np.ndarray:
        """The library's proposal for each polygon in metres, (n,); empty where there is none."""
        proposals = np.full(len(traced), shapely.Polygon(), dtype=object)
        single = np.flatnonzero(shapely.get_type_id(traced) == shapely.GeometryType.POLYGON)
        if len(single) == 0:
            return proposals
        simplify_m = max(self.simplify_m, pixel_m)
        centre = as_complex(shapely.centroid(traced[single]))
        turn = np.exp(1j * (np.radians(_UPRIGHT_DEG) - _main_direction(shapely.simplify(traced[single], simplify_m))))
        upright = _map(traced[single], lambda z, of: (z - centre[of]) * turn[of])
        with warnings.catch_warnings():  # it warns of every polygon that it gives back unchanged
            warnings.simplefilter("ignore")
            shaped = regularize_geodataframe(
                gpd.GeoDataFrame({"row": np.arange(len(single))}, geometry=upright),
                parallel_threshold=self.parallel_threshold_m,
                simplify_tolerance=simplify_m,
                allow_45_degree=True,  # False is broken in 0.2.5: it turns every second wall by 90 degrees
                diagonal_threshold_reduction=15.0 if self.allow_45 else 45.0,
                allow_circles=self.circle_iou < 1,
                circle_threshold=self.circle_iou,
                num_cores=1,
            )
        # It drops rows that end up empty and repeats those that fall apart.
        shaped = shaped[~shaped["row"].duplicated(keep=False) & (shaped.geom_type == "Polygon") & shaped.is_valid]
        row = shaped["row"].to_numpy()
        proposals[single[row]] = _map(shaped.geometry.to_numpy(), lambda z, of: z / turn[row[of]] + centre[row[of]])
        return proposals


def _smooth_steps(polygons: np.ndarray, pixel_m: float) -> np.ndarray:
    """Traced outlines without the steps of their pixels.

    The middles of the pixels' edges lie within 0.36 pixel of the outline, and on a slanting wall within half a pixel of
    the wall itself; what is left of the steps there is simplified away. On 1,466 OSM footprints of Banepa, rasterised
    at 0.3 m and traced, this takes 71 vertices to 11 and IoU from 0.956 to 0.964 (simplifying alone at half a pixel: 58
    and 0.956). `_STEP_PX` was chosen on the same footprints, so take these as its fit, not as a test.
    """
    if pixel_m <= 0 or len(polygons) == 0:
        return polygons
    fine = shapely.segmentize(polygons, pixel_m)
    size = shapely.get_num_coordinates(shapely.get_rings(shapely.get_parts(fine)))
    end = np.cumsum(size)
    following = np.arange(1, size.sum() + 1)
    following[end - 1] = end - size + 1  # a ring's last vertex is its first
    middles = shapely.normalize(
        _map(fine, lambda z, _: (z + z[following]) / 2)
    )  # a ring's first vertex stays: a corner
    return np.asarray(shapely.simplify(middles, _STEP_PX * pixel_m))


def _fill_holes(polygons: np.ndarray, min_hole_m2: float) -> np.ndarray:
    """Without the holes smaller than `min_hole_m2`."""
    filled = polygons.copy()
    parts, row = shapely.get_parts(polygons, return_index=True)
    for part in np.flatnonzero(shapely.get_num_interior_rings(parts) > 0):
        holes = [hole for hole in parts[part].interiors if shapely.Polygon(hole).area >= min_hole_m2]
        parts[part] = shapely.Polygon(parts[part].exterior, holes)
        whole = parts[row == row[part]]
        filled[row[part]] = whole[0] if len(whole) == 1 else shapely.multipolygons(whole)
    return filled


def _main_direction(polygons: np.ndarray) -> np.ndarray:
    """Direction of the walls of each polygon, modulo 90 degrees, in radians (n,).

    The mean of the edges' directions, weighted by length: fourth powers, as numbers in the complex plane, make the four
    directions of a right-angled outline one.
    """
    rings, polygon = shapely.get_rings(polygons, return_index=True)
    ring = np.repeat(np.arange(len(rings)), shapely.get_num_coordinates(rings))
    within = ring[1:] == ring[:-1]
    step, of = np.diff(as_complex(rings))[within], polygon[ring[1:][within]]
    length = np.abs(step)
    vote = np.divide(step**4, length**3, out=np.zeros_like(step), where=length > 0)
    n = len(polygons)
    return np.asarray(np.arctan2(np.bincount(of, vote.imag, n), np.bincount(of, vote.real, n)) / 4)


def _map(geometries: np.ndarray, moved: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Geometries with all coordinates moved: `moved(z, of)` maps complex coordinates, `of` says whose they are."""
    of = np.repeat(np.arange(len(geometries)), shapely.get_num_coordinates(geometries))
    z = moved(as_complex(geometries), of)
    return np.asarray(shapely.set_coordinates(geometries.copy(), np.stack([z.real, z.imag], axis=-1)))

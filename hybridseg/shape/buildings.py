"""Right angles for buildings, where the imagery agrees."""

from __future__ import annotations

import warnings
from typing import Literal

import geopandas as gpd
import numpy as np
import shapely
from buildingregulariser import regularize_geodataframe
from pydantic import Field

from hybridseg.shape.candidates import candidates_of, choose_without_overlaps, where_alike
from hybridseg.shape.geometry import as_complex, moved, repaired
from hybridseg.shape.overlaps import set_apart
from hybridseg.shape.settings import ShapeStage

_STEP_PX = 0.75
"""Simplification of the middles: takes nearly all steps (half a pixel leaves three times the vertices)."""

_STEP_IOU = 0.8
"""Specks of a few pixels, of which the middles leave less than this, keep their steps."""

_UPRIGHT_DEG = 22.0
"""Direction each building is turned to before the library sees it. The library rounds directions to whole degrees and
its test for close parallel edges fails where an edge is exactly horizontal: 22 is whole, no multiple of 45 away from an
axis, and amid one of its 5-degree bins."""


class Buildings(ShapeStage):
    """Outlines with right angles in place of traced ones, as long as they agree with them.

    Each building is shaped by itself, in its own metric frame: no alignment with neighbours, so the outcome does not
    depend on the extent asked for. There are three candidates, and the first that may be kept is:

    1. regularised by `buildingregulariser`, when its IoU with the traced outline is at least `min_iou`;
    2. the traced outline without its pixel steps, see `_smooth_steps`, and without waves smaller than `waves_m`;
    3. the traced outline.

    None may grow into a neighbour (a row house into the next one): candidates 1 and 2 are kept only where, whatever
    candidate each neighbour ends with, they share at most `max_overlap` more with it than the traced ones do. What they
    do share, the smaller of the two gives up.
    """

    kind: Literal["buildings"] = "buildings"
    simplify_m: float = Field(0.5, ge=0, description="detail smaller than this is not a wall (or than a source pixel)")
    parallel_threshold_m: float = Field(0.5, ge=0, description="parallel walls closer than this become one")
    min_iou: float = Field(0.95, gt=0, le=1, description="least agreement of the regularised with the traced outline")
    waves_m: float = Field(0.3, ge=0, description="detail smaller than this comes from the refiner's coarser masks")
    max_overlap: float = Field(
        0.05, ge=0, le=1, description="new overlap allowed with a neighbour, as a share of the smaller of the two"
    )
    min_hole_m2: float = Field(4.0, ge=0, description="smaller holes are filled, in all candidates")
    allow_45: bool = Field(True, description="also snap to diagonals")
    circle_iou: float = Field(
        0.95, gt=0, le=1, description="outlines that agree better than this with a circle become one; 1: never"
    )

    @property
    def reach_m(self) -> float:
        """How far two regularised outlines may grow towards each other."""
        return 5.0

    def shape(self, features: gpd.GeoDataFrame, gsd_m: float = 0.0) -> gpd.GeoDataFrame:
        """Return the same rows, order, index and columns, with new geometries (`area_m2` is not computed anew).

        Args:
            features: buildings in any CRS.
            gsd_m: size of a source pixel on the ground (m), what the traced outlines are exact to.

        Raises:
            NoGeoreference: the features have no CRS.
        """

        def propose(ground: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            traced = _fill_holes(repaired(ground), self.min_hole_m2)
            smooth = shapely.simplify(_smooth_steps(traced, gsd_m), self.waves_m if gsd_m > 0 else 0)
            light = where_alike(smooth, traced, _STEP_IOU, otherwise=traced)
            return where_alike(self._regularise(traced, gsd_m), traced, self.min_iou, otherwise=light), light, traced

        chosen = choose_without_overlaps(candidates_of(features, propose), self.max_overlap)
        return features.set_geometry(gpd.GeoSeries(repaired(set_apart(chosen)), features.index, features.crs))

    def _regularise(self, traced: np.ndarray, gsd_m: float) -> np.ndarray:
        """Return the library's proposal for each polygon in metres, (n,); empty where there is none."""
        proposals = np.full(len(traced), shapely.Polygon(), dtype=object)
        single = np.flatnonzero(shapely.get_type_id(traced) == shapely.GeometryType.POLYGON)
        if len(single) == 0:
            return proposals
        simplify_m = max(self.simplify_m, gsd_m)
        centre = as_complex(shapely.centroid(traced[single]))
        turn = np.exp(1j * (np.radians(_UPRIGHT_DEG) - _main_direction(shapely.simplify(traced[single], simplify_m))))
        upright = moved(traced[single], lambda z, of: (z - centre[of]) * turn[of])
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
        proposals[single[row]] = moved(shaped.geometry.to_numpy(), lambda z, of: z / turn[row[of]] + centre[row[of]])
        return proposals


def _smooth_steps(polygons: np.ndarray, pixel_m: float) -> np.ndarray:
    """Return traced outlines without the steps of their pixels.

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
        moved(fine, lambda z, _: (z + z[following]) / 2)
    )  # a ring's first vertex stays: a corner
    return np.asarray(shapely.simplify(middles, _STEP_PX * pixel_m))


def _fill_holes(polygons: np.ndarray, min_hole_m2: float) -> np.ndarray:
    """Return polygons without the holes smaller than `min_hole_m2`."""
    filled = polygons.copy()
    parts, row = shapely.get_parts(polygons, return_index=True)
    for part in np.flatnonzero(shapely.get_num_interior_rings(parts) > 0):
        holes = [hole for hole in parts[part].interiors if shapely.Polygon(hole).area >= min_hole_m2]
        parts[part] = shapely.Polygon(parts[part].exterior, holes)
        whole = parts[row == row[part]]
        filled[row[part]] = whole[0] if len(whole) == 1 else shapely.multipolygons(whole)
    return filled


def _main_direction(polygons: np.ndarray) -> np.ndarray:
    """Return the direction of the walls of each polygon, modulo 90 degrees, in radians (n,).

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

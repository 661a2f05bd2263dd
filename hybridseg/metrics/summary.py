"""The few figures that a search or a table of many runs needs; `hybridseg.evaluation.evaluate` gives all of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import geopandas as gpd
import shapely
from pyproj import CRS

from hybridseg.metrics.boundary import BoundaryScore, boundary_f1
from hybridseg.metrics.objects import Match, common_and_union, match, share
from hybridseg.read.vectors import repair


@dataclass(frozen=True)
class Summary:
    """Pairs, outlines and areas of a map against the truth.

    `+` adds another scene before anything is divided, so that an object weighs the same in a small and in a large
    scene, and a scene with nothing on either side changes nothing.

    Attributes:
        objects: pairs at IoU 0.5.
        outlines: lengths of outline that agree.
        common_m2: area that both cover.
        union_m2: area that either covers.
    """

    objects: Match
    outlines: BoundaryScore
    common_m2: float
    union_m2: float

    def __add__(self, other: Summary) -> Summary:
        return Summary(
            self.objects + other.objects,
            self.outlines + other.outlines,
            self.common_m2 + other.common_m2,
            self.union_m2 + other.union_m2,
        )

    @property
    def area_iou(self) -> float:
        """Intersection over union of the area covered, objects disregarded; 1 where neither side has any."""
        return share(self.common_m2, self.union_m2, none_expected=True)

    def to_dict(self) -> dict[str, float]:
        """Return all figures by name.

        Returns:
            objects (true), found (predicted), f1, precision, recall, mean_iou (of pairs), area_iou, boundary_f1; shares
            are 1 where neither side has anything, and 0 where only one side has.
        """
        pairs = self.objects
        return {
            "objects": pairs.n_truth,
            "found": pairs.n_pred,
            "f1": pairs.f1,
            "precision": pairs.precision,
            "recall": pairs.recall,
            "mean_iou": pairs.mean_iou,
            "area_iou": self.area_iou,
            "boundary_f1": self.outlines.f1,
        }


def summarise(pred: gpd.GeoDataFrame, truth: gpd.GeoDataFrame, area: shapely.Geometry, tolerance_m: float) -> Summary:
    """Compare objects at IoU 0.5, area covered and outlines within an area, measured in its UTM zone.

    Args:
        pred: polygons, in the CRS of `truth`.
        truth: polygons.
        area: where every object of the truth is drawn, in the same CRS.
        tolerance_m: greatest distance at which outlines agree (m).
    """
    utm = _utm_zone(area.bounds, truth.crs)
    inside = gpd.GeoSeries([area], crs=truth.crs).to_crs(utm).iloc[0]
    found, real = (clip_polygons(layer, area).to_crs(utm).geometry for layer in (pred, truth))
    outlines = boundary_f1(found, real, tolerance_m, inside)
    return Summary(match(found, real), outlines, *common_and_union(found, real))


@lru_cache(maxsize=64)
def _utm_zone(bounds: tuple[float, float, float, float], crs: CRS) -> CRS:
    """The UTM zone of an extent, kept: a search measures one area hundreds of times, and PROJ takes 0.1 s to answer."""
    return gpd.GeoSeries([shapely.box(*bounds)], crs=crs).estimate_utm_crs()


def clip_polygons(layer: gpd.GeoDataFrame, area: shapely.Geometry) -> gpd.GeoDataFrame:
    """Return the polygons of a layer cut at the border of an area, a row for each part, index 0..n-1."""
    parts = layer.set_geometry(repair(layer.geometry.to_numpy())).clip(area).explode()
    return parts[parts.geom_type == "Polygon"].reset_index(drop=True)

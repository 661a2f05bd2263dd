"""The few figures that a search or a table of many runs needs; `evaluate.run` gives all of them, with intervals."""

from __future__ import annotations

import geopandas as gpd
import shapely

from hybridseg.evaluate.measure.boundary import boundary_f1
from hybridseg.evaluate.measure.objects import area_iou, match


def quick_scores(
    pred: gpd.GeoDataFrame, truth: gpd.GeoDataFrame, area: shapely.Geometry, tolerance_m: float
) -> dict[str, float]:
    """Objects at IoU 0.5, ground and boundaries, all within `area`.

    Args:
        pred: polygons.
        truth: polygons, in the CRS of `pred`.
        area: where the truth speaks, in the same CRS.
        tolerance_m: greatest distance at which boundaries agree.

    Returns:
        objects, found, f1, precision, recall, mean_iou (of matched), area_iou, boundary_f1; all shares are 1 where
        there is nothing on either side, and 0 where there is something on one side only.
    """
    metric = gpd.GeoSeries([area], crs=truth.crs).estimate_utm_crs()
    found, real = (within(layer, area).to_crs(metric).geometry for layer in (pred, truth))
    paired = match(found, real)
    ground = gpd.GeoSeries([area], crs=truth.crs).to_crs(metric).iloc[0]
    return {
        "objects": len(real),
        "found": len(found),
        "f1": paired.f1,
        "precision": paired.precision,
        "recall": paired.recall,
        "mean_iou": paired.mean_iou,
        "area_iou": area_iou(found, real),
        "boundary_f1": boundary_f1(found, real, tolerance_m, ground).f1,
    }


def within(layer: gpd.GeoDataFrame, area: shapely.Geometry) -> gpd.GeoDataFrame:
    """Polygons cut at an area's border; index 0..n-1."""
    layer = layer.set_geometry(layer.geometry.make_valid())
    return layer.clip(area).explode().query("geometry.geom_type == 'Polygon'").reset_index(drop=True)

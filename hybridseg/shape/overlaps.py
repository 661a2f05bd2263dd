"""Features of one class made into a layer without overlaps: one row an object, ground claimed once."""

from __future__ import annotations

from collections.abc import Iterator

import geopandas as gpd
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from hybridseg.shape.geometry import repaired

_SLIVER = 1e-7
"""Share of the smaller polygon below which a common area is rounding, not overlap."""

_GRID = 2.0**-46
"""Outlines are cut on a grid of this share of their coordinates: where corners of several coincide, GEOS's overlay in
floating point may fail."""
_DUPLICATE_IOU = 0.5
"""Two features with a greater intersection over union are one object."""
_DUPLICATE_SHARE = 0.8
"""So are two whose intersection is a greater share of the smaller one."""
_LEAST_LEFT = 0.25
"""A trimmed feature must keep this share of its area, or it goes too."""


def resolve_overlaps(features: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return features without duplicates and overlaps; neighbours that only touch stay as they are.

    The better feature (higher score, then lower id) always wins. First duplicates go, as in non-maximum suppression:
    a feature is dropped when a better one that stays covers the same object. Then, where two still overlap, the worse
    one gives up the common ground and keeps its largest piece.

    The outcome depends on neither row order nor index, and applying it twice changes nothing.

    Args:
        features: polygons of one class in any CRS (only shares of areas count), with columns `id` (unique), `score`.

    Returns:
        The remaining rows in order of `id`, index 0..n-1, all columns kept (`area_m2` is not computed anew).
    """
    ranked = features.sort_values(["score", "id"], ascending=[False, True], ignore_index=True)
    polygons = repaired(ranked.geometry.to_numpy())
    kept = shapely.area(polygons) > 0

    better, worse, common = _overlaps(polygons)
    kept = _suppress(polygons, kept, better, worse, common)
    both = kept[better] & kept[worse]
    for row, rivals in _rivals(better[both], worse[both]):  # best first: all rivals of a row are final at its turn
        left = _trim(polygons[row], polygons[rivals[kept[rivals]]])
        kept[row] = left.area >= _LEAST_LEFT * polygons[row].area
        polygons[row] = left

    ranked[ranked.geometry.name] = gpd.GeoSeries(polygons, crs=features.crs)
    return ranked[kept].sort_values("id", ignore_index=True)


def set_apart(polygons: np.ndarray) -> np.ndarray:
    """Return polygons (n,) without common ground: of two the smaller gives it up, and keeps its largest piece.

    Each looks at what its larger neighbours were given as, not at what those give up in turn: no chain of consequences
    across the map. One that would lose all stays as it is.
    """
    order = np.lexsort((*shapely.bounds(polygons).T, -shapely.area(polygons)))
    ranked = polygons[order]
    better, worse, _ = _overlaps(ranked)
    out = polygons.copy()
    for row, rivals in _rivals(better, worse):
        left = _trim(ranked[row], ranked[rivals])
        if left.area > 0:
            out[order[row]] = left
    return out


def union_pieces(features: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return regions from their pieces: rows of one `id` become one, its outline their union.

    `origin` is that of the greater part of the ground, `score` and the verdicts are means weighted by area. Rows in
    order of `id`; a region whose pieces fell apart is a MultiPolygon.
    """
    weighted = ("score", "iou_pred", "stability", "agreement")
    rows = []
    for identity, pieces in features.groupby("id", sort=True):
        areas = shapely.area(pieces.geometry.to_numpy())  # only shares count, so degrees will do
        row = {"id": identity, "class": pieces["class"].iloc[0]}
        row["origin"] = "refined" if areas[pieces["origin"] == "refined"].sum() >= areas.sum() / 2 else "coarse"
        for name in weighted:
            known = pieces[name].notna().to_numpy()
            row[name] = np.average(pieces[name][known], weights=areas[known]) if known.any() else np.nan
        rows.append(row | {"geometry": shapely.make_valid(shapely.union_all(pieces.geometry.to_numpy()))})
    columns = [name for name in features.columns if name != features.geometry.name]
    frame = gpd.GeoDataFrame(rows, columns=[*columns, "geometry"], geometry="geometry", crs=features.crs)
    return frame.astype({name: features[name].dtype for name in columns})


def _overlaps(polygons: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pairs of rows that share ground: (better, worse, common area), better < worse, by worse, then better."""
    first, second = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    first, second = first[second < first], second[second < first]
    common = shapely.area(shapely.intersection(polygons[first], polygons[second]))
    order = np.lexsort((second, first))
    order = order[common[order] > 0]
    return second[order], first[order], common[order]


def _rivals(better: np.ndarray, worse: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the rows that meet better ones, in order, with these; pairs as from `_overlaps`."""
    rows, starts, counts = np.unique(worse, return_index=True, return_counts=True)
    for row, start, count in zip(rows.tolist(), starts, counts, strict=True):
        yield row, better[start : start + count]


def _suppress(
    polygons: np.ndarray, kept: np.ndarray, better: np.ndarray, worse: np.ndarray, common: np.ndarray
) -> np.ndarray:
    """Return `kept` (n,) bool, less every row that is a duplicate of a better one that is kept."""
    area_better, area_worse = shapely.area(polygons[better]), shapely.area(polygons[worse])
    same = common > _DUPLICATE_IOU * (area_better + area_worse - common)
    same |= common > _DUPLICATE_SHARE * np.minimum(area_better, area_worse)
    kept = kept.copy()
    for winner, loser in zip(better[same], worse[same], strict=True):  # ordered by loser, so each winner is settled
        kept[loser] &= not kept[winner]
    return kept


def _trim(polygon: BaseGeometry, rivals: np.ndarray) -> BaseGeometry:
    """Return the largest piece of `polygon` that shares no ground with `rivals` (empty when nothing is left).

    A piece can be so much smaller than the whole that what was rounding before is an overlap now: hence the loop, which
    ends when nothing above rounding is shared with what really stays.
    """
    grid = _GRID * 2.0 ** np.frexp(np.abs(polygon.bounds).max())[1]  # a power of two: whole numbers stay
    for _ in range(len(rivals)):
        common = shapely.area(shapely.intersection(polygon, rivals))
        overlapping = common > _SLIVER * np.minimum(polygon.area, shapely.area(rivals))
        if not overlapping.any():
            break
        others = shapely.union_all(rivals[overlapping], grid_size=grid)
        pieces = shapely.get_parts(shapely.difference(polygon, others, grid_size=grid))
        pieces = pieces[shapely.get_dimensions(pieces) == 2]
        if len(pieces) == 0:
            return shapely.Polygon()
        polygon = pieces[np.argmax(shapely.area(pieces))]
    return polygon

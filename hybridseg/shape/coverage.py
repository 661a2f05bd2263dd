"""Fields and water as a coverage: neighbours share their border exactly, and simplify it together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
from pyproj import CRS
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hybridseg.shape.measure import area_m2, local_metric_crs

LONG = 1.5
_GAP_PX = 2.5
"""Gaps of one and two pixels between neighbours are what tracing leaves; a road is wider."""

_STEP_PX = 1.0
"""Square root of the least area that a vertex must stand for (`shapely.coverage_simplify`), in pixels."""

_SLIVER_PX = 4.0
"""Area in pixels below which an outline is a sliver."""

_SNAP_PX = 0.01
"""Vertices closer than this are one; what warping to metres moves is far less."""


@dataclass(frozen=True)
class CleanCoverage:
    """Outlines traced from masks made into a valid coverage, each class by itself.

    1. Overlaps go to the smaller of the two, so what lies inside another (an island of another crop) is cut out of it.
    2. Slivers and small loose parts go.
    3. Borders lose their pixel steps and are simplified, shared ones once for both sides.
    4. Gaps narrower than `gap_m` between neighbours are closed, and holes as narrow as that. Wider ones (a road, a pond
       in a field) stay, and so do notches of one outline.

    A row is dropped when less than `min_area_m2` of it is left; the others keep order, index and columns. The outcome
    of touching outlines depends neither on their order nor on what lies elsewhere in the layer.

    gap_m: neighbours closer than this share a border (never less than 2.5 source pixels).
    min_area_m2: least area of a row (never less than 4 source pixels).
    min_part: a part of a MultiPolygon stays when it has this share of the largest one's area.
    simplify_m: square root of the least area that a vertex must stand for (never less than a source pixel).
    """

    gap_m: float = 1.0
    min_area_m2: float = 0.0
    min_part: float = 0.1
    simplify_m: float = 0.5

    def __call__(self, features: gpd.GeoDataFrame, gsd_m: float = 0.0) -> gpd.GeoDataFrame:
        """The rows that are left, with new geometries (`area_m2` is not computed anew).

        Args:
            features: polygons in any CRS; those of one `class` (all, without such a column) make one coverage.
            gsd_m: size of a source pixel on the ground (m), what the traced outlines are exact to.

        Raises:
            NoGeoreference: the features have no CRS.
        """
        polygons = np.full(len(features), None, dtype=object)
        classes = np.asarray(features["class"]) if "class" in features else np.zeros(len(features))
        for rows in features.groupby(classes, dropna=False).indices.values():
            outlines = features.geometry.iloc[rows]
            for crs, members in _by_neighbourhood(outlines, 4 * max(self.gap_m, _GAP_PX * gsd_m)):
                cleaned = self._clean(outlines.iloc[members].to_crs(crs).to_numpy(), gsd_m)
                polygons[rows[members]] = gpd.GeoSeries(cleaned, crs=crs).to_crs(features.crs).to_numpy()
        kept = np.flatnonzero(~shapely.is_missing(polygons) & ~shapely.is_empty(polygons))
        return features.iloc[kept].set_geometry(gpd.GeoSeries(polygons[kept], features.index[kept], features.crs))

    def _clean(self, traced: np.ndarray, gsd_m: float) -> np.ndarray:
        """One coverage of polygons in metres, (n,); empty where nothing worth keeping is left."""
        snap_m = max(1e-3, _SNAP_PX * gsd_m)
        order = np.lexsort((*shapely.bounds(traced).T, shapely.area(traced)))
        invalid = ~shapely.is_valid(traced)
        polygons = traced[order]
        invalid = invalid[order]
        polygons[invalid] = shapely.make_valid(polygons[invalid], method="structure", keep_collapsed=False)
        least = max(self.min_area_m2, _SLIVER_PX * gsd_m**2)
        polygons = self._worthy(_first_takes_all(polygons, snap_m), least)
        kept = np.flatnonzero(~shapely.is_empty(polygons))
        smooth = smooth_steps(polygons[kept], gsd_m, max(self.simplify_m, _STEP_PX * gsd_m))
        closed = close_gaps(smooth, max(self.gap_m, _GAP_PX * gsd_m), snap_m)
        result = np.full(len(traced), shapely.Polygon(), dtype=object)
        result[order[kept]] = closed
        return result

    def _worthy(self, polygons: np.ndarray, least: float) -> np.ndarray:
        """Without parts that are small beside the largest of their row, and without rows smaller than `least`."""
        parts, row = shapely.get_parts(polygons, return_index=True)
        area = shapely.area(parts)
        largest = np.zeros(len(polygons))
        np.maximum.at(largest, row, area)
        stays = area >= np.maximum(self.min_part * largest[row], 0)
        total = np.bincount(row[stays], area[stays], len(polygons))
        stays &= total[row] >= least
        return _collect(parts[stays], row[stays], len(polygons))


def _collect(parts, row, n):
    """Polygon where a row has one part, MultiPolygon where several, empty where none."""
    out = np.full(n, shapely.Polygon(), dtype=object)
    count = np.bincount(row, minlength=n)
    single = count[row] == 1
    out[row[single]] = parts[single]
    many = np.flatnonzero(count > 1)
    if len(many):
        o = np.argsort(row[~single], kind="stable")
        out[many] = shapely.multipolygons(parts[~single][o], indices=np.repeat(np.arange(len(many)), count[many]))
    return out


def _first_takes_all(polygons, snap_m):
    """A coverage in which ground claimed by several goes to the first of them."""
    if len(polygons) == 0:
        return polygons
    return shapely.coverage_clean(polygons, snapping_distance=snap_m, merge_strategy="min_index")


def smooth_steps(coverage, pixel_m, simplify_m):
    if len(coverage) == 0:
        return coverage
    rounded = _cut_corners(coverage, pixel_m) if pixel_m > 0 else coverage
    return shapely.coverage_simplify(rounded, simplify_m)


def _cut_corners(coverage, pixel_m):
    multi = shapely.get_type_id(coverage) == shapely.GeometryType.MULTIPOLYGON
    kind, xy, offsets = shapely.to_ragged_array(coverage)
    rings = offsets[0]
    z = xy[:, 0] + 1j * xy[:, 1]
    closing = rings[1:] - 1
    here = np.delete(np.arange(len(z)), closing)
    ring = np.repeat(np.arange(len(rings) - 1), np.diff(rings) - 1)
    start = rings[:-1] - np.arange(len(rings) - 1)  # first vertex of each ring among `here`
    size = np.diff(rings) - 1
    v = z[here]
    k = np.arange(len(v))
    last = k == (start + size - 1)[ring]
    nxt = np.where(last, start[ring], k + 1)
    prv = np.empty_like(nxt)
    prv[nxt] = k
    long = np.abs(v[nxt] - v) > LONG * pixel_m
    node = _is_node(v, nxt) | (long & long[prv])
    before, after = _towards(v, v[prv], pixel_m), _towards(v, v[nxt], pixel_m)
    pairs = np.stack([np.where(node, v, before), np.where(node, v, after)], 1)
    keep = np.ones(pairs.shape, bool)
    keep[:, 1] = ~node
    # a middle reached from both ends counts once
    flat, keep, fring = pairs.ravel(), keep.ravel(), np.repeat(ring, 2)
    f, r = flat[keep], fring[keep]
    same = np.r_[False, (f[1:] == f[:-1]) & (r[1:] == r[:-1])]
    f, r = f[~same], r[~same]
    count = np.bincount(r, minlength=len(rings) - 1)
    end = np.cumsum(count)
    begin = end - count
    # the last point may equal the first (middle of the closing edge): it closes the ring then
    closed = f[end - 1] == f[begin]
    out = np.insert(f, end[~closed], f[begin[~closed]])
    new = np.r_[0, np.cumsum(count + ~closed)]
    xy = np.stack([out.real, out.imag], 1)
    return shapely.from_ragged_array(kind, xy, (new, *offsets[1:]))


def _towards(a, b, pixel_m):
    d = np.abs(b - a)
    short = d <= pixel_m * (1 + 1e-6)
    return np.where(short, (a + b) / 2, a + (b - a) * (pixel_m / 2 / np.where(short, 1, d)))


def _is_node(v, nxt):
    _, ids = np.unique(v, return_inverse=True)
    a, b = ids, ids[nxt]
    edges, sides = np.unique(np.minimum(a, b) * len(ids) + np.maximum(a, b), return_counts=True)
    ends = np.concatenate([edges // len(ids), edges % len(ids)])
    shared = np.bincount(ends, np.tile(sides > 1, 2), len(ids)) > 0
    return ((np.bincount(ends, minlength=len(ids)) > 2) & shared)[ids]


def _edges(polygons):
    """Edges of a coverage: (ends (m, 2) complex, id (m,), polygon (m,)); an edge of two polygons has one id."""
    rings, of = shapely.get_rings(polygons, return_index=True)
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    z = xy[:, 0] + 1j * xy[:, 1]
    _, ids = np.unique(z, return_inverse=True)
    k = ring[1:] == ring[:-1]
    a, b = ids[:-1][k], ids[1:][k]
    _, edge = np.unique(np.minimum(a, b) * len(ids) + np.maximum(a, b), return_inverse=True)
    return np.stack([z[:-1][k], z[1:][k]], 1), edge, of[ring[1:][k]]


def close_gaps(coverage, gap_m, snap_m):
    n = len(coverage)
    if n < 2 or gap_m <= 0:
        return coverage
    grown = shapely.buffer(coverage, gap_m / 2, join_style="mitre", mitre_limit=2.0)
    split = _first_takes_all(np.concatenate([coverage, grown]), snap_m)
    bands = _bands(split, gap_m)
    faces = _first_takes_all(np.concatenate([bands, split[:]]), snap_m)
    own, rings = faces[len(bands) : len(bands) + n], faces[len(bands) + n :]
    parts, row = shapely.get_parts(rings, return_index=True)
    keep = shapely.area(parts) > 0
    parts, row = parts[keep], row[keep]
    everything = np.concatenate([own, parts])
    ends, edge, of = _edges(everything)
    length = np.abs(ends[:, 1] - ends[:, 0])
    # pairs on both sides of an edge
    o = np.argsort(edge, kind="stable")
    pair = np.flatnonzero(edge[o][1:] == edge[o][:-1])
    p, q = of[o[pair]], of[o[pair + 1]]
    L = length[o[pair]]
    part, owner = np.concatenate([p, q]), np.concatenate([q, p])
    L = np.concatenate([L, L])
    m = part >= n
    part, owner, L = part[m] - n, owner[m], L[m]
    # border of each part with each own polygon
    isown = owner < n
    touched = coo_array((L[isown], (part[isown], owner[isown])), shape=(len(parts), n)).tocsr()
    touched.sum_duplicates()
    taker = np.asarray(touched.argmax(axis=1)).ravel()
    border = touched.max(axis=1).toarray().ravel()
    # of whom the ground on the other sides is: itself or a ring's owner
    whose = np.where(isown, owner, row[np.maximum(owner - n, 0)])
    foreign = np.bincount(part, (whose != taker[part]) * L, len(parts)) > 0
    perimeter = shapely.length(parts)
    enclosed = np.bincount(part, L, len(parts)) > perimeter * (1 - 1e-6)
    kept = (border > 0) & (foreign | enclosed)
    pieces = np.concatenate([own, parts[kept]])
    who = np.concatenate([np.arange(n), taker[kept]])
    o = np.argsort(who, kind="stable")
    groups = np.split(pieces[o], np.searchsorted(who[o], np.arange(1, n)))
    merged = np.array([g[0] if len(g) == 1 else shapely.coverage_union_all(g) for g in groups], dtype=object)
    # coverage unions dissolve edges of pieces; vertices on straight borders of neighbours may be lost
    return shapely.coverage_clean(merged, snapping_distance=snap_m)


def _bands(split, gap_m):
    ends, edge, of = _edges(split)
    once = np.bincount(edge)[edge] == 1
    lines = shapely.linestrings(np.stack([ends[once].real, ends[once].imag], -1))
    o = np.argsort(of[once], kind="stable")
    who, inv = np.unique(of[once][o], return_inverse=True)
    ml = shapely.line_merge(shapely.multilinestrings(lines[o], indices=inv))
    return shapely.buffer(ml, gap_m / 2, quad_segs=2)


def _by_neighbourhood(outlines: gpd.GeoSeries, reach_m: float) -> Iterator[tuple[CRS, np.ndarray]]:
    array = outlines.to_numpy()
    rows = np.flatnonzero(~(shapely.is_empty(array) | shapely.is_missing(array)))
    if len(rows) == 0:
        return
    bounds = shapely.bounds(array[rows])
    unit = np.sqrt(shapely.area(array[rows]).sum() / area_m2(outlines.iloc[rows]).sum())
    boxes = shapely.box(*(bounds + reach_m * unit * np.array([-1, -1, 1, 1])).T)
    one, two = shapely.STRtree(boxes).query(boxes)
    _, group = connected_components(coo_array((np.ones(len(one)), (one, two)), shape=(len(rows), len(rows))))
    frames = {}
    for g in range(group.max() + 1):
        m = group == g
        b = bounds[m]
        crs = local_metric_crs((*b[:, :2].min(0), *b[:, 2:].max(0)), outlines.crs)
        frames.setdefault(crs.to_wkt(), (crs, []))[1].append(rows[m])
    for crs, members in frames.values():
        yield crs, np.concatenate(members)

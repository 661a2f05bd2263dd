"""Regions of any size, as water and roads: connected extent, joined over blocks, divided into pieces to refine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from rasterio.features import rasterize, shapes
from scipy import ndimage as ndi
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from hybridseg.theme import RegionPolicy
from hybridseg.types import Window
from hybridseg.what.prompts import Lattice, as_prompts

GRID_PX = 96
"""Side of the grid on which points are spread over a piece."""
POSITIVES, NEGATIVES = 3, 2
PARTS = ("class", "score", "depth", "peak_x", "peak_y", "support")
"""Columns of what a block gives: parts of regions, cut at the block's border."""


@dataclass(frozen=True)
class FindRegions:
    """Parts of regions in each block's core, and prompts of the regions that the parts make together."""

    label: str
    policy: RegionPolicy
    lattice: Lattice

    @property
    def halo_px(self) -> int:
        """Heatmap pixels to read around a core, so that the blur is the same for every tiling."""
        return int(np.ceil(4 * self.policy.smooth_m / self.lattice.pixel_m))

    def __call__(self, extent: np.ndarray, interior: np.ndarray, block: Window, core: Window) -> gpd.GeoDataFrame:
        """Parts of regions in a core. extent, interior: (h, w) of `block`, which surrounds `core` (heatmap px)."""
        smooth = ndi.gaussian_filter(extent, self.policy.smooth_m / self.lattice.pixel_m)[core.slices(block)]
        # a last bit of the blur must not move a border
        inside = np.round(smooth * 255) >= self.policy.extent * 255
        labels, count = ndi.label(inside)
        affine = self.lattice.affine * Affine.translation(core.col, core.row)
        deep = interior[core.slices(block)]
        index = np.arange(1, count + 1)
        score = ndi.mean(extent[core.slices(block)], labels, index)
        peaks = ndi.maximum_position(deep, labels, index) if count else []
        records = []
        for geometry, value in shapes(labels.astype(np.int32), mask=inside, connectivity=4, transform=affine):
            row, col = peaks[int(value) - 1]
            x, y = affine * (col + 0.5, row + 0.5)
            support = shapely.geometry.shape(geometry)
            records.append((self.label, score[int(value) - 1], float(deep[row, col]), x, y, support))
        return gpd.GeoDataFrame(pd.DataFrame(records, columns=list(PARTS)), geometry="support", crs=self.lattice.crs)

    def join(self, parts: Sequence[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
        """Prompts: a row for each piece of each region; the pieces of a region share its id, class, score and peak."""
        found = [part for part in parts if len(part)]
        if not found:
            return as_prompts([], self.lattice.crs)
        joined = pd.concat(found, ignore_index=True)
        records = []
        for rows in _touching(joined["support"].to_numpy()):
            records += self._region(joined.iloc[rows])
        prompts = as_prompts(records, self.lattice.crs)
        order = np.lexsort((prompts.bounds["minx"], -prompts.bounds["maxy"], prompts["id"]))
        return prompts.iloc[order].reset_index(drop=True)

    def _region(self, parts: gpd.GeoDataFrame) -> list[tuple[object, ...]]:
        """Records of one region's pieces; none where it is too small or too faint."""
        areas = parts["support"].area.to_numpy()
        score = float(np.average(parts["score"], weights=areas))
        unit_m2 = self.lattice.pixel_m**2 / abs(self.lattice.affine.a * self.lattice.affine.e)
        if areas.sum() * unit_m2 < self.policy.min_area_m2 or score < self.policy.min_score:
            return []
        whole = _without_holes(shapely.union_all(parts["support"].to_numpy()), self.policy.min_hole_m2 / unit_m2)
        first = parts.sort_values(["depth", "peak_y", "peak_x"], ascending=[False, False, True]).iloc[0]
        place = f"{self.label}:{self.lattice.crs}:{first.peak_x:.6f}:{first.peak_y:.6f}"
        identity = f"{self.label}-{hashlib.sha256(place.encode()).hexdigest()[:12]}"
        return [
            (identity, self.label, score, first.peak_x, first.peak_y, *self._points(piece, whole), piece)
            for piece in self._divide(whole)
        ]

    def _divide(self, whole: shapely.Polygon) -> Iterator[shapely.Polygon]:
        """The region itself, or its parts in the cells of a lattice anchored in the CRS, which overlap a little."""
        affine, pixel_m = self.lattice.affine, self.lattice.pixel_m
        x0, y0, x1, y1 = whole.bounds
        width, height = (self.policy.piece_m / pixel_m * abs(scale) for scale in (affine.a, affine.e))
        if x1 - x0 <= width and y1 - y0 <= height:
            yield whole
            return
        dx, dy = (self.policy.overlap_m / pixel_m * abs(scale) / 2 for scale in (affine.a, affine.e))
        shapely.prepare(whole)
        for i in range(int(np.floor(x0 / width)), int(np.ceil(x1 / width))):
            for j in range(int(np.floor(y0 / height)), int(np.ceil(y1 / height))):
                cell = shapely.box(i * width - dx, j * height - dy, (i + 1) * width + dx, (j + 1) * height + dy)
                if whole.intersects(cell):
                    pieces = shapely.get_parts(shapely.intersection(whole, cell))
                    yield from pieces[shapely.area(pieces) > 0]

    def _points(self, piece: shapely.Polygon, whole: shapely.Polygon) -> tuple[shapely.MultiPoint, shapely.MultiPoint]:
        """Points spread over a piece's deep ground, and points just outside the region, near the piece."""
        pixel = abs(self.lattice.affine.a)
        reach = 4 * pixel
        x0, y0, x1, y1 = piece.bounds
        side = max(x1 - x0, y1 - y0) + 2 * reach
        to_world = Affine(side / GRID_PX, 0, x0 - reach, 0, -side / GRID_PX, y1 + reach)
        inside, anywhere = (
            rasterize([shape], (GRID_PX, GRID_PX), transform=to_world, dtype=np.uint8).astype(bool)
            for shape in (piece, whole)
        )
        cell = side / GRID_PX
        away = ndi.distance_transform_edt(~anywhere) * cell
        ring = (away >= 2 * pixel) & (away <= max(5 * pixel, 2.5 * cell))
        return (
            _spread(ndi.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1], POSITIVES, to_world),
            _spread(ring.astype(float), NEGATIVES, to_world),
        )


def _spread(weight: np.ndarray, count: int, to_world: Affine) -> shapely.MultiPoint:
    """Up to `count` places of high weight, each far from those before it."""
    chosen: list[tuple[float, float]] = []
    rows, cols = np.nonzero(weight >= max(0.4 * weight.max(), 1e-9))
    nearest = np.full(len(rows), 1e3)
    for _ in range(min(count, len(rows))):
        best = int(np.argmax(np.minimum(nearest, 0.3 * GRID_PX) * weight[rows, cols]))
        if nearest[best] < 0.1 * GRID_PX:
            break
        chosen.append(to_world * (cols[best] + 0.5, rows[best] + 0.5))
        nearest = np.minimum(nearest, np.hypot(rows - rows[best], cols - cols[best]))
    return shapely.MultiPoint(chosen)


def _touching(polygons: np.ndarray) -> list[np.ndarray]:
    """Rows of polygons that hang together along edges, group by group."""
    first, second = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    edge = shapely.length(shapely.intersection(polygons[first], polygons[second])) > 0
    linked = coo_matrix((edge[edge], (first[edge], second[edge])), shape=(len(polygons),) * 2)
    count, member = connected_components(linked, directed=False)
    order = np.argsort(member, kind="stable")
    return np.split(order, np.searchsorted(member[order], np.arange(1, count)))


def _without_holes(polygon: shapely.Polygon, smaller: float) -> shapely.Polygon:
    holes = [ring for ring in polygon.interiors if shapely.Polygon(ring).area >= smaller]
    return shapely.Polygon(polygon.exterior, holes)

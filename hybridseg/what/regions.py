"""Regions of any size, as water and roads: connected extent, joined over blocks, divided into pieces to refine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from pydantic import Field
from rasterio.features import rasterize, shapes
from scipy import ndimage as ndi
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from hybridseg.rowfile import PackedRows
from hybridseg.tables import Prompts
from hybridseg.what.lattice import Block, Lattice, ObjectSettings, deepest, multiples

GRID_PX = 96
"""Side of the grid on which points are spread over a piece."""
POSITIVES, NEGATIVES = 3, 2
PARTS = ("class", "score", "depth", "peak_x", "peak_y", "support")
"""Columns of the parts of regions in one block, cut at the block's border."""


class Regions(ObjectSettings):
    """Ground of any size and shape, as lakes or road networks: connected extent, refined piece by piece."""

    in_pieces = True
    counted = False

    kind: Literal["regions"] = "regions"
    extent: float = Field(0.5, gt=0, lt=1, description="a pixel is the class above this probability")
    smooth_m: float = Field(0.0, ge=0, description="standard deviation of the blur of extent before the threshold")
    min_area_m2: float = Field(100.0, ge=0)
    min_hole_m2: float = Field(0.0, ge=0, description="smaller holes are filled")
    min_score: float = Field(0.5, ge=0, le=1, description="least mean extent inside a region")
    piece_m: float = Field(200.0, gt=0, description="regions larger than this are refined in pieces of this size")
    overlap_m: float = Field(20.0, ge=0, description="what neighbouring pieces share")

    @property
    def reach_m(self) -> float:
        """One piece around the extent."""
        return self.piece_m

    def halo_px(self, lattice: Lattice) -> int:
        """So many that the blur is the same for every tiling."""
        return int(np.ceil(4 * self.smooth_m / lattice.pixel_m))

    def find(self, block: Block, lattice: Lattice, label: str) -> gpd.GeoDataFrame:
        """Return the parts of regions in a core, with the columns `PARTS`."""
        core = block.core.slices(block.window)
        smooth = ndi.gaussian_filter(block.extent, self.smooth_m / lattice.pixel_m)[core]
        # a last bit of the blur must not move a border
        inside = np.round(smooth * 255) >= self.extent * 255
        labels, count = ndi.label(inside)
        affine = lattice.affine * Affine.translation(block.core.col, block.core.row)
        deep = block.interior[core]
        index = np.arange(1, count + 1)
        score = ndi.mean(block.extent[core], labels, index)
        peaks = deepest(deep, labels).tolist()
        records = []
        for geometry, value in shapes(labels.astype(np.int32), mask=inside, connectivity=4, transform=affine):
            row, col = peaks[int(value) - 1]
            x, y = affine * (col + 0.5, row + 0.5)
            support = shapely.geometry.shape(geometry)
            records.append((label, score[int(value) - 1], float(deep[row, col]), x, y, support))
        return gpd.GeoDataFrame(pd.DataFrame(records, columns=list(PARTS)), geometry="support", crs=lattice.crs)

    def gather(self, parts: Sequence[PackedRows], lattice: Lattice, label: str) -> Prompts:
        """Return a prompt for each piece of each region; the pieces of a region share its id, class, score, peak."""
        filled = [part for part in parts if len(part)]
        if not filled:
            return Prompts.from_records([], lattice.crs)
        joined = PackedRows.chain(filled).read()
        records: list[tuple[object, ...]] = []
        for rows in _touching(joined["support"].to_numpy()):
            records += self._region(joined.iloc[rows], lattice, label)
        prompts = Prompts.from_records(records, lattice.crs)
        bounds = prompts.rows.bounds
        return prompts.take(np.lexsort((bounds["minx"], -bounds["maxy"], prompts.rows["id"])))

    def choices(self) -> Mapping[str, Sequence[float]]:
        """Thresholds, and multiples of the lengths and areas at hand."""
        return {
            "extent": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
            "min_score": (0.3, 0.5, 0.6, 0.7, 0.8),
            "smooth_m": multiples(self.smooth_m, (0.0, 0.5, 1.0, 2.0, 4.0)),
            "min_area_m2": multiples(self.min_area_m2, (0.5, 1.0, 3.0, 10.0)),
        }

    def _region(self, parts: gpd.GeoDataFrame, lattice: Lattice, label: str) -> list[tuple[object, ...]]:
        """Records of one region's pieces; none where it is too small or too faint."""
        areas = shapely.area(parts["support"].to_numpy())
        score = float(np.average(parts["score"], weights=areas))
        unit_m2 = lattice.pixel_m**2 / abs(lattice.affine.a * lattice.affine.e)
        if areas.sum() * unit_m2 < self.min_area_m2 or score < self.min_score:
            return []
        whole = _without_holes(shapely.union_all(parts["support"].to_numpy()), self.min_hole_m2 / unit_m2)
        first = parts.sort_values(["depth", "peak_y", "peak_x"], ascending=[False, False, True]).iloc[0]
        col, row = np.floor(lattice.to_px(np.array([[first.peak_x, first.peak_y]]))[0]).astype(int).tolist()
        identity = lattice.identity(label, col, row)
        return [
            (identity, label, score, first.peak_x, first.peak_y, *_points(piece, whole, lattice), piece)
            for piece in self._divide(whole, lattice)
        ]

    def _divide(self, whole: shapely.Polygon, lattice: Lattice) -> Iterator[shapely.Polygon]:
        """The region itself, or its parts in the cells of a lattice anchored in the CRS, which overlap a little."""
        affine, pixel_m = lattice.affine, lattice.pixel_m
        x0, y0, x1, y1 = whole.bounds
        width, height = (self.piece_m / pixel_m * abs(scale) for scale in (affine.a, affine.e))
        if x1 - x0 <= width and y1 - y0 <= height:
            yield whole
            return
        dx, dy = (self.overlap_m / pixel_m * abs(scale) / 2 for scale in (affine.a, affine.e))
        shapely.prepare(whole)
        for i in range(int(np.floor(x0 / width)), int(np.ceil(x1 / width))):
            for j in range(int(np.floor(y0 / height)), int(np.ceil(y1 / height))):
                cell = shapely.box(i * width - dx, j * height - dy, (i + 1) * width + dx, (j + 1) * height + dy)
                if whole.intersects(cell):
                    pieces = shapely.get_parts(shapely.intersection(whole, cell))
                    yield from pieces[shapely.area(pieces) > 0]


def _points(
    piece: shapely.Polygon, whole: shapely.Polygon, lattice: Lattice
) -> tuple[shapely.MultiPoint, shapely.MultiPoint]:
    """Points spread over a piece's deep ground, and points just outside the region, near the piece."""
    pixel = abs(lattice.affine.a)
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

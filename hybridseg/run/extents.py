"""Which ground and which objects a run must look at so that those it is asked for come out as without a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from hybridseg.cog import whole
from hybridseg.errors import EmptySource
from hybridseg.read.scene import Scene
from hybridseg.read.vectors import Vectors, read_layer
from hybridseg.tables import Prompts, within
from hybridseg.types import Extent, Window
from hybridseg.where.refine import Prompt

MOVED = 10_000
"""Prompts that are brought to pixels at once."""
RINGS = 2
"""Objects that touch those inside are refined too, and those that touch these: an outline gives way to its neighbours,
which give way to theirs."""


@dataclass(frozen=True)
class Area:
    """Polygons in the CRS of a scene. Objects that touch them are wanted, whole; regions are cut at their borders."""

    wkb: str
    """Hexadecimal: a value that keys can be made of."""

    @classmethod
    def read(cls, source: Vectors, scene: Scene) -> Area:
        """Read the polygons of a layer, in any CRS, as far as they lie on a scene.

        Raises:
            LayerError: it cannot be read, or holds other geometries.
            EmptySource: no polygon lies on the scene.
        """
        layer = read_layer(source, columns=[], crs=scene.crs.to_wkt(), polygons=True)
        footprint = shapely.box(*scene.geobox.boundingbox.bbox)
        ground = shapely.intersection(shapely.union_all(layer.rows.geometry.to_numpy()), footprint)
        if not ground.area:
            spans = ", ".join(f"{value:.10g}" for value in layer.rows.to_crs(scene.crs.to_wkt()).total_bounds)
            raise EmptySource(f"no polygon of {layer.name} lies on {scene.name}: they span {spans} in {scene.crs}")
        return cls(shapely.to_wkb(ground, hex=True))

    @cached_property
    def ground(self) -> shapely.Geometry:
        """The polygons, as one geometry."""
        ground = shapely.from_wkb(self.wkb)
        shapely.prepare(ground)
        return ground

    def near(self, windows: Sequence[Window], grid: GeoBox, by_m: float, scene: Scene) -> list[Window]:
        """Return the windows of a grid of the scene's CRS that come so close."""
        dx, dy = (by_m / scale for scale in scene.metres_per_unit)
        boxes = [grid[window.slices(whole(grid))].boundingbox.bbox for window in windows]
        close = [self.ground.intersects(shapely.box(x0 - dx, y0 - dy, x1 + dx, y1 + dy)) for x0, y0, x1, y1 in boxes]
        return [window for window, is_close in zip(windows, close, strict=True) if is_close]


def box_of(extent: Extent | Area) -> Extent:
    """Return left, bottom, right, top."""
    if not isinstance(extent, Area):
        return extent
    left, bottom, right, top = extent.ground.bounds
    return left, bottom, right, top


def ground_of(extent: Extent | Area | None) -> shapely.Geometry | None:
    """Return what regions are cut at; None: they are whole."""
    return None if extent is None else extent.ground if isinstance(extent, Area) else shapely.box(*extent)


def belonging(features: gpd.GeoDataFrame, rows: gpd.GeoDataFrame, extent: Extent | Area) -> gpd.GeoDataFrame:
    """Return the features that are wanted: those that touch an area, or those with their peak inside an extent.

    Args:
        features: with an id.
        rows: what they were made of, with id and peak.
        extent: in their CRS.
    """
    chosen = (
        features.intersects(extent.ground)
        if isinstance(extent, Area)
        else features["id"].isin(rows["id"][within(rows, extent)])
    )
    return features[chosen].reset_index(drop=True)


def grow(extent: Extent, by_m: float, scene: Scene) -> Extent:
    """Return the extent with so much around it, as far as the scene reaches."""
    dx, dy = (by_m / scale for scale in scene.metres_per_unit)
    left, bottom, right, top = scene.geobox.boundingbox.bbox
    grown = (extent[0] - dx, extent[1] - dy, extent[2] + dx, extent[3] + dy)
    return max(grown[0], left), max(grown[1], bottom), min(grown[2], right), min(grown[3], top)


def neighbourhood(prompts: Prompts, extent: Extent | Area, near_m: float, scene: Scene) -> np.ndarray:
    """Return (N,) bool: prompts inside an extent by their peak, and `RINGS` rings of neighbours around them.

    Of an area, those whose outline may come to touch it count as inside.

    Args:
        prompts: N of them, each with a support.
        extent: in the CRS.
        near_m: objects whose boxes come closer than this are neighbours.
        scene: gives the scale.
    """
    bounds = prompts.rows.bounds.to_numpy()
    dx, dy = (near_m / 2 / scale for scale in scene.metres_per_unit)
    boxes = shapely.box(bounds[:, 0] - dx, bounds[:, 1] - dy, bounds[:, 2] + dx, bounds[:, 3] + dy)
    wanted = extent.ground.intersects(boxes) if isinstance(extent, Area) else prompts.within(extent).to_numpy().copy()
    tree = shapely.STRtree(boxes)
    for _ in range(RINGS):
        wanted[tree.query(boxes[wanted], predicate="intersects")[1]] = True
    return wanted


def place_on(grid: GeoBox, other: GeoBox) -> Window:
    """Return the window of `grid` that another grid of the same pixels covers."""
    col, row = ~grid.affine @ (other.affine.c, other.affine.f)
    return Window(round(col), round(row), other.width, other.height)


def boxes_on(rows: gpd.GeoDataFrame, geobox: GeoBox, in_pieces: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes of prompts in the pixels of a grid, (N, 4), and which of them need a window, (N,) bool.

    Args:
        rows: of prompts.
        geobox: the grid, of their CRS.
        in_pieces: whether they are pieces of regions, of which those without a border need none.
    """
    boxes, wanted = np.zeros((len(rows), 4)), np.ones(len(rows), bool)
    for start in range(0, len(rows), MOVED):
        some = slice(start, start + MOVED)
        asked = to_pixels(rows.iloc[some], geobox)
        boxes[some] = [prompt.box for prompt in asked]
        wanted[some] = bordered(asked) if in_pieces else True
    return boxes, wanted


def to_pixels(rows: gpd.GeoDataFrame, geobox: GeoBox) -> list[Prompt]:
    """Return rows of prompts in the pixels of a grid of their CRS."""
    to_px: Affine = ~geobox.affine

    def move(xy: np.ndarray) -> np.ndarray:
        return np.column_stack(
            [to_px.a * xy[:, 0] + to_px.b * xy[:, 1] + to_px.c, to_px.d * xy[:, 0] + to_px.e * xy[:, 1] + to_px.f]
        )

    moved = (shapely.transform(rows[name].to_numpy(), move) for name in ("support", "positive", "negative"))
    return [
        Prompt(None if s is None or s.is_empty else s, shapely.get_coordinates(p), shapely.get_coordinates(n))
        for s, p, n in zip(*moved, strict=True)
    ]


def bordered(prompts: list[Prompt]) -> np.ndarray:
    """Return (N,) bool: which prompts have a border to refine; a piece of a region that fills its square has none."""
    supports = np.array([p.support for p in prompts])
    return np.asarray(shapely.area(supports) < (1 - 1e-6) * shapely.area(shapely.envelope(supports)))

"""Which ground and which objects a run must look at so that those it is asked for come out as without a limit."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from hybridseg.read.part import Area
from hybridseg.read.scene import Scene
from hybridseg.read.tiles import transformed
from hybridseg.tables import Prompts, within
from hybridseg.types import Extent, Window
from hybridseg.where.refine import Prompt

MOVED = 10_000
"""Prompts that are brought to pixels at once."""
RINGS = 2
"""Objects that touch those inside are refined too, and those that touch these: an outline gives way to its neighbours,
which give way to theirs."""


def ground_of(extent: Extent | Area) -> shapely.Geometry:
    """Return what regions are cut at."""
    return extent.ground if isinstance(extent, Area) else shapely.box(*extent)


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
    to_px = ~geobox.affine
    moved = (transformed(rows[name].to_numpy(), to_px) for name in ("support", "positive", "negative"))
    return [
        Prompt(None if s is None or s.is_empty else s, shapely.get_coordinates(p), shapely.get_coordinates(n))
        for s, p, n in zip(*moved, strict=True)
    ]


def bordered(prompts: list[Prompt]) -> np.ndarray:
    """Return (N,) bool: which prompts have a border to refine; a piece of a region that fills its square has none."""
    supports = np.array([p.support for p in prompts])
    return np.asarray(shapely.area(supports) < (1 - 1e-6) * shapely.area(shapely.envelope(supports)))

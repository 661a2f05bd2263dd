"""What a theme's settings choose: how its objects are found on the heatmap, labelled, and shaped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from hybridseg.read.ground import pixel_anchor
from hybridseg.read.raster import RasterScene
from hybridseg.shape.buildings import RegulariseBuildings
from hybridseg.shape.coverage import CleanCoverage
from hybridseg.shape.rows import AlignRows
from hybridseg.theme import GridPolicy, RegionPolicy, Theme
from hybridseg.types import Window
from hybridseg.what.grid import FindGrid, mean_inside
from hybridseg.what.prompts import FindInstances, Lattice
from hybridseg.what.regions import FindRegions
from hybridseg.where.refine import Refined
from hybridseg.write.raster import open_heatmap

Finder = FindInstances | FindRegions | FindGrid

SHAPES: dict[str, Callable[[gpd.GeoDataFrame, float], gpd.GeoDataFrame]] = {
    "buildings": RegulariseBuildings(),
    "rows": AlignRows(),
    "coverage": CleanCoverage(),
}
"""Theme's `shape` to the stage that does it; others stay as they were traced."""


def finder(theme: Theme, lattice: Lattice) -> Finder:
    """The stage that finds a theme's objects."""
    policy = theme.objects
    if isinstance(policy, RegionPolicy):
        return FindRegions(theme.label, policy, lattice)
    if isinstance(policy, GridPolicy):
        return FindGrid(theme.label, policy, lattice)
    return FindInstances(theme.label, policy, lattice, theme.prompts.negatives)


def lattice_of(grid: GeoBox, source: RasterScene) -> Lattice:
    """Where a heatmap's pixels lie."""
    mx, my = source.metres_per_unit
    pixel_m = float(np.sqrt(grid.affine.a * mx * -grid.affine.e * my))
    return Lattice(grid.affine, str(source.crs), pixel_anchor(grid), pixel_m)


def shaped(features: gpd.GeoDataFrame, how: str, gsd_m: float) -> gpd.GeoDataFrame:
    """Outlines as a theme's objects are shaped."""
    return SHAPES[how](features, gsd_m) if how in SHAPES and len(features) else features


def label_everything(
    theme: Theme, source: RasterScene, heatmap_path: Path, prompts: gpd.GeoDataFrame, outcome: list[Refined | None]
) -> tuple[gpd.GeoDataFrame, list[Refined | None]]:
    """Everything mode: the masks that the heatmap says are the class, with their prompts; others' are left alone."""
    policy = theme.objects
    if not isinstance(policy, GridPolicy):
        return prompts, outcome
    heatmap = open_heatmap(heatmap_path)
    lattice = lattice_of(heatmap.geobox, source)
    scores = np.zeros(len(prompts))
    for row, result in enumerate(outcome):
        if result is not None and result.outline is not None:
            window = _around(result.outline, lattice)
            (extent,), _ = heatmap.read(window, (f"{theme.label}:extent",))
            scores[row] = mean_inside(result.outline, extent, window, lattice)
    kept = np.flatnonzero(scores >= policy.extent)
    return prompts.iloc[kept].assign(score=scores[kept]).reset_index(drop=True), [outcome[row] for row in kept]


def _around(outline: shapely.Polygon, lattice: Lattice) -> Window:
    """Heatmap pixels that an outline in the CRS touches."""
    x0, y0, x1, y1 = outline.bounds
    (c0, r0), (c1, r1) = ~lattice.affine * (x0, y1), ~lattice.affine * (x1, y0)
    col, row = int(np.floor(c0)), int(np.floor(r0))
    return Window(col, row, int(np.ceil(c1)) - col, int(np.ceil(r1)) - row)

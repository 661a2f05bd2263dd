"""Which ground a run must look at, on which grid, so that the objects asked for come out as without a limit."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from odc.geo.geobox import GeoBox

from hybridseg.errors import ThemeError, TooCoarse
from hybridseg.read.given import GivenHeatmap
from hybridseg.read.ground import is_north_up, own_pixels, work_grid
from hybridseg.read.part import Area, box_of
from hybridseg.read.scene import Scene
from hybridseg.read.tiles import transformed
from hybridseg.tables import Prompts, within
from hybridseg.theme import Theme
from hybridseg.types import Extent, NetworkSpec, Window
from hybridseg.where.refine import Prompt

SHAPES = ("support", "positive", "negative")
"""Geometries of a prompt."""
SAME_GSD = 1.01
"""A grid whose pixels are at most so many times as large as the scene's is as fine as the scene."""
RINGS = 2
"""Objects that touch those inside are refined too, and those that touch these: an outline gives way to its neighbours,
which give way to theirs."""


def ground_of(extent: Extent | Area) -> shapely.Geometry:
    """Return what regions are cut at."""
    return extent.ground if isinstance(extent, Area) else shapely.box(*extent)


def belonging(features: gpd.GeoDataFrame, rows: pd.DataFrame, extent: Extent | Area) -> gpd.GeoDataFrame:
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


def boxes_on(prompts: Prompts, geobox: GeoBox, in_pieces: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes of prompts in the pixels of a grid, (N, 4), and which of them need a window, (N,) bool.

    Args:
        prompts: N of them.
        geobox: the grid, of their CRS.
        in_pieces: whether they are pieces of regions, of which those without a border need none.
    """
    boxes, wanted = [], []
    for rows in prompts.batches(SHAPES):
        asked = to_pixels(rows, geobox)
        boxes.append(np.array([prompt.box for prompt in asked]).reshape(-1, 4))
        wanted.append(bordered(asked) if in_pieces else np.ones(len(asked), bool))
    return np.concatenate(boxes), np.concatenate(wanted)


def to_pixels(rows: pd.DataFrame, geobox: GeoBox) -> list[Prompt]:
    """Return rows of prompts in the pixels of a grid of their CRS."""
    to_px = ~geobox.affine
    moved = (transformed(rows[name].to_numpy(), to_px) for name in SHAPES)
    return [
        Prompt(None if s is None or s.is_empty else s, shapely.get_coordinates(p), shapely.get_coordinates(n))
        for s, p, n in zip(*moved, strict=True)
    ]


def bordered(prompts: list[Prompt]) -> np.ndarray:
    """Return (N,) bool: which prompts have a border to refine; a piece of a region that fills its square has none."""
    supports = np.array([p.support for p in prompts])
    return np.asarray(shapely.area(supports) < (1 - 1e-6) * shapely.area(shapely.envelope(supports)))


def check_fits(scene: Scene, theme: Theme, spec: NetworkSpec) -> None:
    """Check that a classifier knows a theme's class, and that a scene is fine enough for both.

    Raises:
        ThemeError: the class is unknown to the classifier.
        TooCoarse: the scene's pixels are too large.
    """
    if theme.label not in spec.classes:
        known = f"its classifier {theme.classifier} knows {', '.join(spec.classes)}"
        advice = "give one of these as the theme's `label:`, or another classifier"
        raise ThemeError(f"theme {theme.name} looks for {theme.label}, but {known}; {advice}")
    coarsest_m = spec.coarsest_gsd_m if spec.gsd_m is None else theme.max_gsd_m or spec.coarsest_gsd_m
    # a tenth to spare: 0.6 m imagery in a projected CRS may measure 0.62 m on the ground
    if scene.gsd_m > 1.1 * coarsest_m:
        pixels = f"{scene.name} has {scene.gsd_m:.2g} m pixels"
        advice = "use finer imagery or a theme whose model was trained on yours"
        raise TooCoarse(f"{pixels}; theme {theme.name} needs {coarsest_m:g} m or finer: {advice}")


def working_grid(
    scene: Scene, theme: Theme, network: Any, snap_px: int, extent: Extent | Area | None, around_m: float
) -> tuple[GeoBox, Window]:
    """Return the grid to classify on, and where the whole scene lies on it.

    Args:
        scene: what is classified.
        theme: says the size of pixels.
        network: classifies.
        snap_px: multiples of so many pixels from the CRS's origin are corners of the grid.
        extent: the part that is asked for; None: all of it.
        around_m: ground around the part that must be known, too.

    Raises:
        EmptySource: the extent does not touch the scene.
    """
    gsd_m = theme.gsd_m(scene.gsd_m, network.spec.gsd_m)
    # what looks at pixels one by one needs no grid of its own: another that is as fine would only mix neighbours
    own = network.spec.gsd_m is None and is_north_up(scene.geobox) and gsd_m <= SAME_GSD * scene.gsd_m

    def over(bounds: Extent | None) -> GeoBox:
        if isinstance(network, GivenHeatmap):
            return network.grid_over(bounds or scene.geobox.boundingbox.bbox)
        if own:
            return scene.geobox if bounds is None else own_pixels(scene.geobox, bounds, scene.name)
        return work_grid(scene, gsd_m, snap_px, bounds)

    whole = over(None)
    if extent is None:
        return whole, Window(0, 0, whole.width, whole.height)
    work_grid(scene, gsd_m, snap_px, box_of(extent))  # refuses an extent beside the scene, before it is grown
    grid = over(grow(box_of(extent), around_m, scene))
    return grid, place_on(grid, whole)

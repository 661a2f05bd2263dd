"""The grid that a scene is classified on, and whether scene, theme and classifier go together at all."""

from __future__ import annotations

from typing import Any

from odc.geo.geobox import GeoBox

from hybridseg.errors import ThemeError, TooCoarse
from hybridseg.read.ground import work_grid
from hybridseg.read.part import Area, box_of
from hybridseg.read.scene import Scene
from hybridseg.run.extents import grow, place_on
from hybridseg.theme import Theme
from hybridseg.types import Extent, NetworkSpec, Window
from hybridseg.what.given import GivenHeatmap


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

    def over(bounds: Extent | None) -> GeoBox:
        if isinstance(network, GivenHeatmap):
            return network.grid_over(bounds or scene.geobox.boundingbox.bbox)
        return work_grid(scene, gsd_m, snap_px, bounds)

    whole = over(None)
    if extent is None:
        return whole, Window(0, 0, whole.width, whole.height)
    work_grid(scene, gsd_m, snap_px, box_of(extent))  # refuses an extent beside the scene, before it is grown
    grid = over(grow(box_of(extent), around_m, scene))
    return grid, place_on(grid, whole)

"""The part of the imagery that a user asks for: which scene, which of its ground, in pixels of which size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import shapely
from odc.geo.geobox import GeoBox

from hybridseg.cog import whole
from hybridseg.errors import EmptySource, HybridsegError, SourceError
from hybridseg.read import ground
from hybridseg.read.bands import Bands
from hybridseg.read.opening import Openable, SceneOnGrid, files_of, open_scene
from hybridseg.read.raster import open_raster, reading
from hybridseg.read.scene import Scene
from hybridseg.read.stored import NoData
from hybridseg.read.vectors import Vectors, read_layer
from hybridseg.types import COARSEST_M, FINEST_M, Extent, Window

AROUND_M = 5000.0
"""Ground around the bounds of `at_gsd`."""
FINER = 10
"""How many times finer than its own pixels a scene may be seen: more shows nothing, and costs its square in work."""
MOST_PX = 1e14
"""Pixels of a scene that is looked at as a whole: 1000 km by 1000 km at 0.1 m."""


@dataclass(frozen=True)
class ScenePart:
    """A scene and the ground of it that is asked for. Made by `open_part`.

    scene: the imagery, in pixels of the size asked for.
    ground: an extent (left, bottom, right, top in its CRS) or an area; None: all of it.
    files: what was read: paths, or open datasets.
    copyright: what the raster says of its owner; None where it says nothing.
    """

    scene: Scene
    ground: Extent | Area | None
    files: tuple[Any, ...]
    copyright: str | None


def open_part(
    source: Openable,
    bands: Bands = None,
    crs: str | None = None,
    nodata: NoData = None,
    extent: Extent | None = None,
    aoi: Vectors | None = None,
    gsd_m: float | None = None,
) -> ScenePart:
    """Open imagery and the part of it that is asked for.

    Args:
        source: as `open_scene` takes it.
        bands: as `open_scene` takes them.
        crs: of a scene that states none.
        nodata: as `open_scene` takes it.
        extent: left, bottom, right, top in the scene's CRS.
        aoi: polygons instead of an extent.
        gsd_m: metres a pixel in which to see it; default: its own.

    Raises:
        HybridsegError: imagery or polygons cannot be opened or do not meet, or there is more than anyone can mean.
    """
    scene = open_scene(source, bands, crs, nodata=nodata)
    asked: Extent | Area | None = extent if aoi is None else Area.read(aoi, scene)
    if gsd_m is not None:
        check_gsd("--gsd", gsd_m, scene)
        scene = at_gsd(scene, gsd_m, None if asked is None else box_of(asked))
    _check_size(scene, asked)
    files = files_of(source)
    return ScenePart(scene, asked, tuple(files), copyright_of(files))


def check_gsd(flag: str, gsd_m: float, scene: Scene) -> None:
    """Refuse to see a scene in pixels that nobody can mean.

    Args:
        flag: what asked for it.
        gsd_m: ground metres a pixel.
        scene: in its own pixels.

    Raises:
        HybridsegError: they are far finer than its own, or no size at all.
    """
    finest = max(FINEST_M, scene.gsd_m / FINER)
    if not 0.995 * finest <= gsd_m <= COARSEST_M:  # the message rounds
        raise HybridsegError(
            f"{flag} is {gsd_m:g}, but {scene.name} has pixels of {scene.gsd_m:.3g} m; give {finest:.3g} to "
            f"{COARSEST_M:g} metres a pixel"
        )


def _check_size(scene: Scene, asked: object) -> None:
    """Refuse a scene that nobody can mean to look at as a whole, such as the world at a tenth of a metre."""
    pixels = scene.geobox.width * scene.geobox.height
    if asked is None and pixels > MOST_PX:
        raise HybridsegError(
            f"{scene.name} has {pixels:.2g} pixels; give --extent or --aoi, and --gsd for a map service"
        )


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


def at_gsd(scene: Scene, gsd_m: float, bounds: Extent | None = None) -> SceneOnGrid:
    """Return a scene seen in pixels of a size on the ground, around bounds: a web map service has pixels of any size.

    Args:
        scene: the imagery.
        gsd_m: ground metres a pixel, at the latitude (rounded to a degree) of the middle.
        bounds: left, bottom, right, top in the scene's CRS; default: all of it. Ground `AROUND_M` about them is in the
            grid, too, so that objects at their border are seen whole.

    Raises:
        EmptySource: the bounds do not touch the scene.
    """
    grid, box = scene.geobox, scene.geobox.boundingbox
    if bounds is not None:
        place = GeoBox.from_bbox(bounds, grid.crs, shape=(1, 1), tight=True)
        dx, dy = (AROUND_M / unit for unit in ground.metres_per_unit(place))
        left, bottom, right, top = bounds[0] - dx, bounds[1] - dy, bounds[2] + dx, bounds[3] + dy
        near = (max(left, box.left), max(bottom, box.bottom), min(right, box.right), min(top, box.top))
        if near[0] < near[2] and near[1] < near[3]:  # else `work_grid` says what is wrong
            grid = GeoBox.from_bbox(near, grid.crs, shape=(1, 1), tight=True)
        else:
            ground.work_grid(scene, gsd_m, 1, bounds)
    return SceneOnGrid(scene, ground.work_grid(SceneOnGrid(scene, grid, local=True), gsd_m, 1), local=True)


def copyright_of(files: Sequence[Any]) -> str | None:
    """Return the copyright tag (TIFFTAG_COPYRIGHT) of the first raster of a source; None where there is none.

    Args:
        files: as `files_of` gives them; a folder or pattern among them is passed over.
    """
    return tags_of(files).get("TIFFTAG_COPYRIGHT")


def tags_of(files: Sequence[Any]) -> dict[str, str]:
    """Return the tags of the first raster of a source, GDAL's domain IMAGERY among them; none where none opens.

    Args:
        files: as `files_of` gives them; a folder or pattern among them is passed over.
    """
    for path in (str(file) for file in files if isinstance(file, str | Path)):
        try:
            with open_raster(path) as dataset, reading(path):
                return {**dataset.tags(ns="IMAGERY"), **dataset.tags()}
        except SourceError:
            continue
    return {}

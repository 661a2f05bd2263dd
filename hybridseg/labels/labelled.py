"""Labelled scenes: a scene, its objects, and the area in which every object is drawn."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from rasterio.features import shapes

from hybridseg.errors import LayerError, ThemeError
from hybridseg.labels.codes import Classes, is_raster, read_codes
from hybridseg.labels.images import LabelledImage
from hybridseg.labels.layers import LabelsWarning, burn, read_area, read_polygons
from hybridseg.read.ground import work_grid
from hybridseg.read.scene import Scene
from hybridseg.types import Extent

MAX_BYTES = 3 * 2**27
"""Largest image of a scene that is learnt from, which is held in memory whole."""
SURROUNDINGS_M = 50.0
"""Ground kept around labels and the complete area, so that objects at its border have surroundings."""


@dataclass(frozen=True)
class Labelled:
    """A scene with its labels."""

    scene: Scene
    truth: gpd.GeoDataFrame
    """Polygons, in the scene's CRS; with a column `class` where there are several."""
    area: shapely.Geometry
    """Where `truth` is complete, in the scene's CRS; ground outside is unknown where it is not labelled."""
    extent: Extent | None = None
    """Part of the scene to look at, in its CRS; None: all of it."""
    name: str = "labels"
    """What messages and cards call the labels."""

    def of_class(self, name: str) -> Labelled:
        """Return the same scene with the objects of one class, without the column `class`."""
        chosen = self.truth[self.truth["class"] == name]
        return replace(self, truth=chosen[[chosen.geometry.name]].reset_index(drop=True))

    def within(self, area: shapely.Geometry) -> Labelled:
        """Return the part of the scene that lies in an area, with its extent; objects stay whole."""
        inside = shapely.intersection(self.area, area)
        return replace(self, area=inside, extent=None if inside.is_empty else _bounds(inside, self.scene, 0.0))

    @property
    def objects(self) -> int:
        """Number of objects that touch the area."""
        return int(self.truth.intersects(self.area).sum())


@dataclass(frozen=True)
class LabelledGrid:
    """A labelled scene on its working grid, ready to learn from."""

    labelled: Labelled
    view: Scene
    """The scene as the classifier's backbone is shown it: 8-bit RGB, or bands as stored."""
    grid: GeoBox
    image: LabelledImage
    """The pixels of `view` and the labels, on `grid`."""


def read_labelled(
    scene: Scene,
    labels: str | Path,
    classes: Classes,
    *,
    column: str | None = None,
    width: str | None = None,
    complete_within: str | Path | None = None,
    gsd_m: float | None = None,
    snap_px: int = 1,
) -> Labelled:
    """Read the labels of a scene.

    Args:
        scene: what they were drawn on.
        labels: layer of polygons or lines, or a raster of class codes, whose nodata is unknown ground.
        classes: see `parse_classes`.
        column: column of the class.
        width: of lines, in metres, or the name of the column that holds it.
        complete_within: layer of polygons inside which every object is drawn; default: the whole scene.
        gsd_m: ground sampling distance of the grid that a raster of codes is read on; default: the scene's own pixels.
        snap_px: origin and size of that grid are multiples of this.

    Raises:
        LayerError: the labels cannot be read, lack the column, lie beside the scene or the complete area.
        ThemeError: `classes`, `column` or `width` does not fit the labels.
    """
    area = shapely.box(*scene.geobox.boundingbox.bbox)
    if complete_within is not None:
        area = shapely.intersection(area, read_area(complete_within, scene))
    if is_raster(labels):
        bounds = None if complete_within is None else _bounds(area, scene, SURROUNDINGS_M)
        grid = scene.geobox if gsd_m is None else work_grid(scene, gsd_m, snap_px, bounds)
        _check_size(scene, grid, 1)
        truth, known = read_codes(labels, grid, classes)
        area = area if known.all() else shapely.intersection(area, _outline(known, grid))
    else:
        truth = read_polygons(labels, scene, classes, column, width)
    if area.is_empty:
        raise LayerError(
            f"nothing of {complete_within or labels} lies on {scene.name}; give the ground within which every object "
            "is drawn"
        )
    return Labelled(scene, truth, area, name=Path(labels).stem)


def on_grid(
    labelled: Labelled, classes: Iterable[str], gsd_m: float, snap_px: int, view: Scene | None = None
) -> LabelledGrid:
    """Put a labelled scene on its working grid: the whole scene, or the complete area and all labels.

    Args:
        labelled: scene and labels.
        classes: each gets a layer of ids.
        gsd_m: ground metres a pixel of the grid.
        snap_px: the grid's origin and size are multiples of this.
        view: the scene as the backbone is shown it; default: as it is.

    Raises:
        LayerError: no label covers a pixel.
        ThemeError: the scene does not fit in memory.
    """
    scene, view = labelled.scene, view or labelled.scene
    whole = labelled.area.covers(shapely.box(*scene.geobox.boundingbox.bbox))
    everything = shapely.union_all([labelled.area, shapely.box(*labelled.truth.total_bounds)])
    grid = work_grid(scene, gsd_m, snap_px, None if whole else _bounds(everything, scene, SURROUNDINGS_M))
    _check_size(scene, grid, 3 if view is scene else 4 * len(view.bands))
    truth = labelled.truth
    objects = {name: burn(truth[truth["class"] == name].geometry, grid) for name in classes}
    chip = view.read_grid(grid)
    covered = np.any([layer > 0 for layer in objects.values()], axis=0)
    if not (covered & chip.valid).any():
        raise LayerError(
            f"no label covers the centre of a valid pixel of {scene.name} at {gsd_m:g} m; give labels of ground that "
            "the scene shows, or a finer --gsd"
        )
    complete = burn(gpd.GeoSeries([labelled.area]), grid) > 0
    _warn_unseen(labelled, objects, gsd_m)
    image = LabelledImage(
        image=np.ascontiguousarray(chip.pixels.transpose(1, 2, 0)),
        objects=objects,
        valid=chip.valid & (complete | covered),
        gsd_m=gsd_m,
        dataset=labelled.name,
        name=Path(scene.name).stem,
    )
    return LabelledGrid(labelled, view, grid, image)


def _warn_unseen(labelled: Labelled, objects: dict[str, np.ndarray], gsd_m: float) -> None:
    """Warn of polygons that cover no pixel of their own."""
    drawn = sum(int((labelled.truth["class"] == name).sum()) for name in objects)
    unseen = drawn - sum(len(np.unique(layer[layer > 0])) for layer in objects.values())
    if unseen:
        what = f"{unseen} of {drawn} polygons cover no pixel of their own at {gsd_m:g} m, not learnt"
        warnings.warn(f"{labelled.name}: {what}", LabelsWarning, stacklevel=3)


def _check_size(scene: Scene, grid: GeoBox, bytes_px: int) -> None:
    if grid.width * grid.height * bytes_px > MAX_BYTES:
        raise ThemeError(
            f"{scene.name} is {grid.width} x {grid.height} px on its working grid, more than fits in memory; label a "
            "part of it and give that with --complete-within, or cut the scene"
        )


def _outline(mask: np.ndarray, grid: GeoBox) -> shapely.Geometry:
    traced = shapes(mask.astype(np.uint8), mask=mask, transform=grid.affine)
    return shapely.union_all([shapely.geometry.shape(geometry) for geometry, _ in traced])


def _bounds(area: shapely.Geometry, scene: Scene, margin_m: float) -> Extent:
    """Return the bounds of an area with a margin, inside the scene."""
    dx, dy = (margin_m / scale for scale in scene.metres_per_unit)
    x0, y0, x1, y1 = shapely.bounds(area).tolist()
    left, bottom, right, top = scene.geobox.boundingbox.bbox
    return max(x0 - dx, left), max(y0 - dy, bottom), min(x1 + dx, right), min(y1 + dy, top)

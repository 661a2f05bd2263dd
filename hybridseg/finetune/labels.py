"""Scenes and their labels (polygons, lines with a width, class rasters) on the working grid, ready to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from rasterio.features import shapes

from hybridseg.errors import ThemeError
from hybridseg.finetune.classes import Classes
from hybridseg.finetune.codes import RASTERS, read_codes
from hybridseg.finetune.layers import burn, read_area, read_drawn, tell
from hybridseg.read.ground import work_grid
from hybridseg.read.raster import RasterScene
from hybridseg.train.scenes import Scene

MOST_BYTES = 3 * 2**27
"""A scene is held in memory while it is learnt from."""
AROUND_M = 50.0
"""Ground kept around labels and the area where they are complete, so that objects at its border have surroundings."""


@dataclass(frozen=True)
class Ground:
    """A labelled scene on its working grid.

    scene: what training learns from; source: its raster; seen: the same as the backbone sees it; grid: the pixels of
    `scene`.
    truth: polygons with `class`, in the source's CRS; known: where every object is drawn, in the same CRS.
    """

    scene: Scene
    source: RasterScene
    seen: RasterScene
    grid: GeoBox
    truth: gpd.GeoDataFrame
    known: shapely.Geometry


def read_ground(
    source: RasterScene,
    labels: str,
    classes: Classes,
    gsd_m: float,
    snap_px: int,
    *,
    column: str | None = None,
    width: str | None = None,
    complete_within: str | None = None,
    seen: RasterScene | None = None,
) -> Ground:
    """A scene with its labels.

    Args:
        source: raster.
        labels: layer of polygons or lines, or a raster of class codes (its nodata is unknown ground).
        classes: see `parse_classes`.
        gsd_m: of the working grid.
        snap_px: of the backbone.
        column: of the class.
        width: of lines, in metres, or the name of the column that holds it.
        complete_within: polygon layer; outside it, ground that is not labelled is unknown. None: the whole scene.
        seen: the source as the backbone sees it; default: in 8-bit RGB.

    Raises:
        ThemeError: the labels cannot be read, lack the column, lie beside the scene; the scene is too large.
    """
    area = None if complete_within is None else read_area(complete_within, source)
    raster = labels.lower().endswith(RASTERS)
    drawn = None if raster else read_drawn(labels, source, classes, column, width)
    bounds = None
    if area is not None:
        around = [area] if drawn is None else [area, shapely.box(*drawn.total_bounds)]
        bounds = _bounds(shapely.union_all(around), source)
    grid = work_grid(source, gsd_m, snap_px, bounds)
    seen = seen or source
    if grid.width * grid.height * (3 if seen.stretch else 4 * len(seen.bands)) > MOST_BYTES:
        raise ThemeError(
            f"{source.path} is {grid.width} x {grid.height} px at {gsd_m:g} m, more than fits in memory; label a part "
            "of it and give that with --complete-within, or cut the scene"
        )
    said = np.ones(grid.shape, bool)
    if drawn is None:
        drawn, said = read_codes(labels, source, grid, classes)
    objects = {name: burn(drawn[drawn["class"] == name].geometry, grid) for name in classes}
    chip = seen.read_grid(grid)
    labelled = np.any([layer > 0 for layer in objects.values()], axis=0)
    known = shapely.box(*source.geobox.boundingbox.bbox) if area is None else area
    if not said.all():
        spoken = shapes(said.astype(np.uint8), mask=said, transform=grid.affine)
        known = shapely.intersection(known, shapely.union_all([shapely.geometry.shape(g) for g, _ in spoken]))
    complete = said if area is None else said & (burn(gpd.GeoSeries([area]), grid) > 0)
    valid = chip.valid & (complete | labelled)
    if not (labelled & chip.valid).any():
        raise ThemeError(
            f"no label of {labels} covers the centre of a valid pixel of {source.path} at {gsd_m:g} m; give labels of "
            "ground that the scene shows, or a finer --gsd-m"
        )
    seen_ids = [np.isin(np.arange((drawn["class"] == n).sum()) + 1, layer) for n, layer in objects.items()]
    tell(labels, ~np.concatenate(seen_ids), f"cover no pixel of their own at {gsd_m:g} m, not learnt", "polygons")
    image = np.ascontiguousarray(chip.pixels.transpose(1, 2, 0))
    scene = Scene(image, objects, valid, gsd_m, Path(labels).stem, Path(source.path).stem)
    return Ground(scene, source, seen, grid, drawn, known)


def _bounds(area: shapely.Geometry, source: RasterScene) -> tuple[float, float, float, float]:
    """Bounds with a little around them, inside the source."""
    dx, dy = (AROUND_M / scale for scale in source.metres_per_unit)
    x0, y0, x1, y1 = shapely.bounds(area).tolist()
    left, bottom, right, top = source.geobox.boundingbox.bbox
    return max(x0 - dx, left), max(y0 - dy, bottom), min(x1 + dx, right), min(y1 + dy, top)

"""Scenes of bright and faint blocks, where the best settings depend on whether the faint ones are objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from hybridseg.labels.labelled import Labelled
from hybridseg.read.opening import open_scene
from tests.rasters import make

BRIGHT, FAINT, GROUND = 220, 140, 40
SIDE_PX, STEP_PX = 20, 40
GSD_M = 0.3


def place(folder: Path, rows: Sequence[str]) -> Labelled:
    """A labelled scene of cells, a letter each: `b` a bright object, `f` a faint object, `x` faint and no object."""
    folder.mkdir(parents=True, exist_ok=True)
    image = np.full((3, STEP_PX * len(rows), STEP_PX * len(rows[0])), GROUND, np.uint8)
    drawn = []
    for number, row in enumerate(rows):
        for column, kind in enumerate(row):
            top, left = STEP_PX * number + 10, STEP_PX * column + 10
            if kind in "bfx":
                image[:, top : top + SIDE_PX, left : left + SIDE_PX] = BRIGHT if kind == "b" else FAINT
            if kind in "bf":
                drawn.append((left, top))
    scene = open_scene(make("utm", folder, image, GSD_M))
    corners = [scene.geobox.affine * (x, y + SIDE_PX) for x, y in drawn]
    length = SIDE_PX * GSD_M
    truth = gpd.GeoDataFrame(geometry=[shapely.box(x, y, x + length, y + length) for x, y in corners], crs=scene.crs)
    return Labelled(scene, truth.assign(**{"class": "building"}), shapely.box(*scene.geobox.boundingbox.bbox))

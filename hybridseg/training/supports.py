"""Coarse supports for a refiner's training, as extraction would find them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from hybridseg.errors import ThemeError
from hybridseg.labels.images import LabelledImage
from hybridseg.labels.layers import burn
from hybridseg.read.opening import open_scene
from hybridseg.run.survey import Survey
from hybridseg.theme import load_theme
from hybridseg.training.recipe import DataSet
from hybridseg.types import Window
from hybridseg.what.classify import crop

_CRS = "EPSG:32631"
"""Images for training have no place: they are put at the origin of a CRS in metres, where every working grid begins."""


def find_supports(image: LabelledImage, chosen: DataSet, made: Mapping[str, Path]) -> np.ndarray | None:
    """Return (h, w) int32 supports on the grid of a classifier's heatmap; None where the entry names no classifier.

    The entry's `supports` is a classifier that was not trained on the image: a stage, or a model's name or folder.

    Args:
        image: whose objects are looked for.
        chosen: its entry in the recipe.
        made: folders of the models of stages, by name.

    Raises:
        ThemeError: the classifier does not know the class of the entry's theme.
    """
    if chosen.supports is None or not fnmatch(image.name, chosen.supports_on):
        return None
    theme = load_theme(chosen.supports_theme)
    theme = theme.model_copy(update={"classifier": str(made.get(chosen.supports, chosen.supports))})
    height, width = image.image.shape[:2]
    place = GeoBox((height, width), Affine(image.gsd_m, 0, 0, 0, -image.gsd_m, 0), _CRS)
    try:
        survey = Survey.open(open_scene(image.image.transpose(2, 0, 1), geobox=place), theme, "none")
    except ThemeError as error:
        raise ThemeError(f"supports of {image.dataset}: {error}; or give another supports_theme") from error
    grid, found = survey.heatmap().geobox, survey.prompts().rows
    across, down = (math.ceil(length * image.gsd_m / grid.affine.a) for length in (width, height))
    # those of one id are pieces of one region
    return burn(found[["id", "support"]].dissolve("id").geometry, crop(grid, Window(0, 0, across, down)))

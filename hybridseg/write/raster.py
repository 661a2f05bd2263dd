"""Features to a raster of classes: a Cloud Optimized GeoTIFF on the scene's own grid, made block by block."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from hybridseg.cog import SUFFIXES, wkt, write_values
from hybridseg.errors import OutputError
from hybridseg.files import check_output
from hybridseg.heatmap import Heatmap
from hybridseg.types import METADATA_KEY
from hybridseg.write.lineage import abstract, attributions, qgis_metadata, title
from hybridseg.write.result import for_qgis
from hybridseg.write.style import color_table, raster_qml

NONE = 0
"""Value of a class raster where there is no class; class k of the list has value k + 1."""

_MAX_CLASSES = 255


def write_classes(
    features: gpd.GeoDataFrame,
    path: Path | str,
    geobox: GeoBox,
    classes: Sequence[str],
    provenance: Mapping[str, Any],
) -> Path:
    """Write the features as a map of classes on `geobox` (the source's grid): uint8 with palette and class names.

    A pixel belongs to the outlines over its centre; where there are several, to the one of highest score.

    Raises:
        OutputError: the file cannot be written there, or there are more classes than a byte can tell apart.
    """
    path = check_output(path, SUFFIXES)
    if len(classes) > _MAX_CLASSES:
        raise OutputError(f"{path} cannot hold {len(classes)} classes: {_MAX_CLASSES} at most, write vectors instead")
    values = {name: value for value, name in enumerate(classes, start=NONE + 1)}
    if unknown := set(features["class"]) - set(values):
        raise ValueError(f"features have classes {sorted(unknown)} that are not in {list(classes)}")
    # Later ones are burnt over earlier ones; the id settles ties, so that the order of rows does not matter.
    features = features.sort_values(["score", "id"], na_position="first").to_crs(str(geobox.crs))
    burnt = features["class"].map(values).to_numpy()
    heading = title(provenance, classes, "class raster")
    tags = {
        METADATA_KEY: json.dumps(provenance),
        "TIFFTAG_DOCUMENTNAME": heading,
        "TIFFTAG_IMAGEDESCRIPTION": abstract(provenance),
        "TIFFTAG_COPYRIGHT": "\n".join(attributions(provenance)),
    }
    told = {name: text for name, text in tags.items() if text}
    colours = color_table(classes)
    with for_qgis(path, qgis_metadata(provenance, heading, features.crs.to_wkt()), raster_qml(classes)):
        write_values(path, geobox, partial(_burn, features, burnt), classes, colours, told)
    return path


def write_heatmap(heatmap: Heatmap, path: Path) -> None:
    """Copy a heatmap to where people look at it, with what QGIS shows of where it comes from.

    Raises:
        OutputError: it cannot be written there.
    """
    with rasterio.open(heatmap.path) as source:
        provenance = json.loads(source.tags().get(METADATA_KEY, "{}"))
    heading = title(provenance, heatmap.classes, "probability, 0 to 1, by the bands' scale")
    with for_qgis(path, qgis_metadata(provenance, heading, wkt(heatmap.geobox))):
        heatmap.write(path)


def _burn(features: gpd.GeoDataFrame, burnt: np.ndarray, block: GeoBox) -> np.ndarray:
    """The block's pixels: the values `burnt` under the features' outlines, the last on top."""
    near = np.sort(features.sindex.query(block.extent.geom, predicate="intersects"))
    if not len(near):
        return np.full(block.shape, NONE, np.uint8)
    shapes = zip(features.geometry.to_numpy()[near], burnt[near], strict=True)
    return rasterize(shapes, block.shape, fill=NONE, transform=block.affine, dtype="uint8")

"""Features to a raster of classes: a Cloud Optimized GeoTIFF on the scene's own grid, made block by block."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import geopandas as gpd
import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from hybridseg.cog import ERRORS, SUFFIXES, blocks, copy_to_cog, create_tiled, read_through, to_rasterio, whole, wkt
from hybridseg.errors import OutputError
from hybridseg.files import check_output, replacing, scratch
from hybridseg.write.companions import QMD, companion
from hybridseg.write.lineage import KEY, abstract, attributions, qgis_metadata, title
from hybridseg.write.style import color_table

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

    A pixel belongs to the outlines over its centre; where there are several, to the one of highest score. Names of the
    classes go into `<path>.aux.xml`, the only place GDAL has for them, and into the band's tags.

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
    features = features.sort_values(["score", "id"], na_position="first").to_crs(wkt(geobox))
    burnt = features["class"].map(values).to_numpy()
    written = 0

    def verify(beside: Path) -> None:
        read_through(beside)
        with rasterio.open(beside) as made:
            if written != _checksum(made.read(1, window=to_rasterio(window)) for window in blocks(geobox)):
                raise ValueError("pixels are lost")

    with (
        replacing(companion(path, QMD)) as qmd,
        replacing(path, verify, ERRORS) as beside,
        scratch(path) as tiled,
        rasterio.Env(),
    ):
        with create_tiled(tiled, geobox, count=1, nodata=NONE) as target:
            target.write_colormap(1, color_table(classes))
            target.update_tags(**{KEY: json.dumps(provenance)}, **_readable(provenance, classes))
            target.update_tags(1, **{f"class_{value}": name for name, value in values.items()})
            for window in blocks(geobox):
                pixels = _burn(features, burnt, geobox[window.slices(whole(geobox))])
                written = _checksum([pixels], written)
                if pixels.any():
                    target.write(pixels, 1, window=to_rasterio(window))
        copy_to_cog(tiled, beside, overview_resampling="mode")
        beside.with_name(f"{beside.name}.aux.xml").write_text(_category_names(classes), encoding="utf-8")
        metadata = qgis_metadata(provenance, title(provenance, classes, "class raster"), wkt(geobox))
        qmd.write_text(metadata, encoding="utf-8")
    return path


def read_provenance(path: Path | str) -> dict[str, Any] | None:
    """What the writer of a raster was told of its origin; None where the file does not say."""
    with rasterio.open(path) as source:
        text = source.tags().get(KEY)
    return None if text is None else json.loads(text)


def _burn(features: gpd.GeoDataFrame, burnt: np.ndarray, block: GeoBox) -> np.ndarray:
    """The block's pixels: the values `burnt` under the features' outlines, the last on top."""
    near = np.sort(features.sindex.query(block.extent.geom, predicate="intersects"))
    if not len(near):
        return np.full(block.shape, NONE, np.uint8)
    shapes = zip(features.geometry.to_numpy()[near], burnt[near], strict=True)
    return rasterize(shapes, block.shape, fill=NONE, transform=block.affine, dtype="uint8")


def _checksum(blocks: Iterable[np.ndarray], start: int = 0) -> int:
    for pixels in blocks:
        start = zlib.crc32(pixels.tobytes(), start)
    return start


def _readable(provenance: Mapping[str, Any], classes: Sequence[str]) -> dict[str, str]:
    """Tags that GDAL and QGIS show to people."""
    tags = {
        "TIFFTAG_DOCUMENTNAME": title(provenance, classes, "class raster"),
        "TIFFTAG_IMAGEDESCRIPTION": abstract(provenance),
        "TIFFTAG_COPYRIGHT": "\n".join(attributions(provenance)),
    }
    return {name: text for name, text in tags.items() if text}


def _category_names(classes: Sequence[str]) -> str:
    names = "".join(f"<Category>{escape(name)}</Category>" for name in ("", *classes))
    band = f'<PAMRasterBand band="1"><CategoryNames>{names}</CategoryNames></PAMRasterBand>'
    return f"<PAMDataset>{band}</PAMDataset>\n"

"""What a raster says of itself: bands, palette, place, identity. Its omissions become errors here."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import CRSError
from rasterio.io import DatasetReader

from hybridseg.errors import BandsMissing, NoGeoreference, SourceError
from hybridseg.read import ground

_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def choose_bands(dataset: DatasetReader, bands: tuple[int, ...] | None) -> tuple[int, ...]:
    """The bands in use: those asked for, or those the raster declares, or the only reasonable ones."""
    name, count, interp = dataset.name, dataset.count, dataset.colorinterp
    if count == 0:
        raise SourceError(f"{name} is a container without bands of its own; give one of its subdatasets")
    if bands is not None:
        if len(bands) not in (1, 3):
            raise BandsMissing(f"{len(bands)} bands were asked for; give one (grey) or three (red, green, blue)")
        wrong = [band for band in bands if not 1 <= band <= count]
        if wrong:
            raise BandsMissing(f"band {wrong[0]} was asked for, but {name} has bands 1 to {count}; change --bands")
        return bands
    colours = data_bands(dataset)
    if all(colour in interp for colour in _RGB):
        return tuple(interp.index(colour) + 1 for colour in _RGB)
    if len(colours) in (1, 3):
        return colours
    example = {2: "1", 4: "1,2,3"}.get(count, "4,3,2")
    raise BandsMissing(
        f"{name} has {count} bands and does not say which are red, green and blue; choose them, e.g. --bands {example}"
    )


def data_bands(dataset: DatasetReader) -> tuple[int, ...]:
    """Numbers of all bands but alpha."""
    return tuple(i for i, meaning in enumerate(dataset.colorinterp, 1) if meaning != ColorInterp.alpha)


def pixel_dtype(dataset: DatasetReader, bands: tuple[int, ...]) -> np.dtype[np.generic]:
    """The dtype that the bands are read as."""
    names = [dataset.dtypes[band - 1] for band in bands]
    if any("complex" in name for name in names):
        raise SourceError(f"{dataset.name} holds complex numbers ({names[0]}); give a raster of real ones")
    dtype: np.dtype[np.generic] = np.result_type(*names)
    return dtype


def palette(dataset: DatasetReader, bands: tuple[int, ...]) -> bytes | None:
    """Colours of a paletted band, 3 bytes (RGB) an entry; None when its pixels are values."""
    if len(bands) > 1 or dataset.colorinterp[bands[0] - 1] != ColorInterp.palette:
        return None
    colours = dataset.colormap(bands[0])
    return bytes(value for i in range(max(colours) + 1) for value in colours.get(i, (0, 0, 0))[:3])


def georeference(dataset: DatasetReader, crs: str | None) -> GeoBox:
    """The raster's grid, or an error that says what is missing."""
    name = dataset.name
    if dataset.transform.is_identity:
        if dataset.gcps[0] or dataset.rpcs:
            kind = "ground control points" if dataset.gcps[0] else "RPCs"
            raise NoGeoreference(
                f"{name} is placed by {kind} only; warp it first, e.g. gdalwarp -t_srs EPSG:3857 in.tif out.tif"
            )
        raise NoGeoreference(f"{name} has no geotransform, so its place is unknown; georeference it first")
    if dataset.crs is None and crs is None:
        raise NoGeoreference(f"{name} has a geotransform but no CRS; say which it is in, e.g. --source-crs EPSG:3857")
    try:
        geobox = GeoBox(dataset.shape, dataset.transform, _short(dataset.crs or CRS.from_user_input(crs)))
    except CRSError as error:
        raise NoGeoreference(f"the CRS {crs} is unknown; give an EPSG code, e.g. --source-crs EPSG:3857") from error
    try:
        ground.horizontal(geobox)
    except ValueError as error:
        raise NoGeoreference(f"{name} cannot be placed: {error}; assign the right CRS to it") from error
    return geobox


def _short(crs: CRS) -> str:
    """EPSG:25832 rather than a page of WKT, where it is surely the same."""
    authority = crs.to_authority(confidence_threshold=100)
    return ":".join(authority) if authority else str(crs.to_wkt())


def fingerprint(dataset: DatasetReader, bands: tuple[int, ...]) -> str:
    """What tells this file, read through these bands, from another: sha256 (hex) of its size, time, ends and grid."""
    digest = hashlib.sha256(repr((bands, dataset.shape, tuple(dataset.transform))).encode())
    path = Path(dataset.name)
    if path.is_file():
        stat = path.stat()
        digest.update(repr((stat.st_size, stat.st_mtime_ns)).encode())
        with path.open("rb") as file:
            digest.update(file.read(2**16))
            file.seek(max(0, stat.st_size - 2**16))
            digest.update(file.read())
    else:  # in a bucket or an archive: what the header tells must do
        digest.update(repr((dataset.name, sorted(dataset.tags().items()), str(dataset.profile))).encode())
    return digest.hexdigest()

"""Small awkward rasters, made from one image: the same ground in many kinds of file.

    path = make("uint16", tmp_path)                      # any of KINDS: the pipeline must take it
    with pytest.raises(BAD["empty"]):                    # any of BAD: the error that it must give
        RasterScene.open(make("empty", tmp_path))

All kinds but `one_band` and `paletted` show the image's colours; those of `HOLED` lack the image's `HOLE`.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from hybridseg.errors import BandsMissing, EmptySource, HybridsegError, NoGeoreference, SourceError

Image = npt.NDArray[np.uint8]

LON, LAT = 15.2, 47.3
"""North-west corner of the geographic and web-Mercator kinds (degrees)."""
EAST, NORTH = 512_345.25, 5_240_321.5
"""The same of those in UTM 33N (metres)."""
ORIGIN = Affine.translation(500_000, 5_000_000)
TRANSFORMS = {
    "north-up": ORIGIN @ Affine.scale(0.5, -0.5),
    "south-up": ORIGIN @ Affine.scale(0.5, 0.5),
    "rotated": ORIGIN @ Affine.rotation(30) @ Affine.scale(0.5, -0.5),
}
"""Pixels of 0.5 m, by how they lie."""
HOLE = (slice(0, 16), slice(0, 24))
"""Rows and columns without data in the kinds of HOLED."""
HOLED = ("rgba", "int16", "float32", "masked")
_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def default_image(height: int = 96, width: int = 128, seed: int = 0) -> Image:
    """(3, H, W) uint8: a smooth ground with bright rectangles, no pixel darker than 10."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:height, :width]
    ground = np.stack([40 + 60 * cols / width, 60 + 60 * rows / height, 50 + 0 * rows])
    image = ground + rng.normal(0, 4, (3, height, width))
    for _ in range(6):
        r, c = rng.integers(16, height - 16), rng.integers(24, width - 24)
        image[:, r : r + rng.integers(6, 14), c : c + rng.integers(6, 20)] = rng.integers(150, 240, (3, 1, 1))
    return np.clip(image, 10, 250).astype(np.uint8)


def utm_affine(gsd_m: float) -> Affine:
    """North-up grid in EPSG:32633."""
    return Affine(gsd_m, 0, EAST, 0, -gsd_m, NORTH)


def write(path: Path, bands: npt.NDArray[Any], affine: Affine, crs: str | None = "EPSG:32633", **profile: Any) -> Path:
    """Write (B, H, W) as a small tiled GeoTIFF."""
    count, height, width = bands.shape
    settings: dict[str, Any] = {"driver": "GTiff", "tiled": True, "blockxsize": 64, "blockysize": 64} | profile
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", count=count, height=height, width=width, dtype=bands.dtype, transform=affine, crs=crs, **settings
        ) as file:
            file.write(bands)
    return path


def _one_band(path: Path, image: Image, gsd_m: float) -> Path:
    return write(path, image.mean(axis=0, keepdims=True).astype(np.uint8), utm_affine(gsd_m))


def _rgb(path: Path, image: Image, gsd_m: float) -> Path:
    return write(path, image, utm_affine(gsd_m), photometric="rgb")


def _with_hole(image: Image) -> Image:
    alpha = np.full(image.shape[1:], 255, np.uint8)
    alpha[HOLE] = 0
    return alpha


def _rgba(path: Path, image: Image, gsd_m: float) -> Path:
    bands = np.concatenate([image, _with_hole(image)[None]])
    return write(path, bands, utm_affine(gsd_m), photometric="rgb", alpha="yes")


def _masked(path: Path, image: Image, gsd_m: float) -> Path:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write(path, image, utm_affine(gsd_m), photometric="rgb")
        with rasterio.open(path, "r+") as file:
            file.write_mask(_with_hole(image))
    return path


def _grey_alpha(path: Path, image: Image, gsd_m: float) -> Path:
    bands = np.stack([image.mean(axis=0).astype(np.uint8), np.full(image.shape[1:], 255, np.uint8)])
    return write(path, bands, utm_affine(gsd_m), photometric="minisblack", alpha="yes")


def _paletted(path: Path, image: Image, gsd_m: float) -> Path:
    index = (image[0] // 16)[None]
    write(path, index, utm_affine(gsd_m), photometric="palette")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {i: (i * 16, 255 - i * 16, 128, 255) for i in range(16)})
    return path


def _many(path: Path, image: Image, gsd_m: float) -> Path:
    """13 bands as of Sentinel-2, the image in bands 4, 3, 2, the others noise."""
    bands = np.random.default_rng(1).integers(0, 10_000, (13, *image.shape[1:])).astype(np.uint16)
    bands[[3, 2, 1]] = image.astype(np.uint16) * 12
    return write(path, bands, utm_affine(gsd_m), photometric="minisblack")


def _thirteen_bands(path: Path, image: Image, gsd_m: float) -> Path:
    _many(path, image, gsd_m)
    with rasterio.open(path, "r+") as file:
        meanings = [ColorInterp.undefined] * 13
        meanings[3], meanings[2], meanings[1] = _RGB
        file.colorinterp = meanings
    return path


def _uint16(path: Path, image: Image, gsd_m: float) -> Path:
    return write(path, image.astype(np.uint16) * 40 + 300, utm_affine(gsd_m), photometric="rgb")


def _int16(path: Path, image: Image, gsd_m: float) -> Path:
    bands = image.astype(np.int16) * 20 - 1000
    bands[:, *HOLE] = -9999
    return write(path, bands, utm_affine(gsd_m), nodata=-9999)


def _float32(path: Path, image: Image, gsd_m: float) -> Path:
    bands = image.astype(np.float32) / 255
    bands[:, *HOLE] = np.nan
    return write(path, bands, utm_affine(gsd_m), nodata=math.nan)


def _epsg4326(path: Path, image: Image, gsd_m: float) -> Path:
    degree_m = 111_320.0
    affine = Affine(gsd_m / (degree_m * math.cos(math.radians(LAT))), 0, LON, 0, -gsd_m / degree_m, LAT)
    return write(path, image, affine, "EPSG:4326", photometric="rgb")


def _web_mercator(path: Path, image: Image, gsd_m: float) -> Path:
    px = gsd_m / math.cos(math.radians(LAT))
    return write(path, image, Affine(px, 0, 1_692_056.3, 0, -px, 5_988_504.7), "EPSG:3857", photometric="rgb")


def _rotated(path: Path, image: Image, gsd_m: float) -> Path:
    affine = Affine.translation(EAST, NORTH) @ Affine.rotation(25) @ Affine.scale(gsd_m, -gsd_m)
    return write(path, image, affine, photometric="rgb")


def _south_up(path: Path, image: Image, gsd_m: float) -> Path:
    affine = Affine(gsd_m, 0, EAST, 0, gsd_m, NORTH - gsd_m * image.shape[1])
    return write(path, image[:, ::-1], affine, photometric="rgb")


def _world_file(path: Path, image: Image, gsd_m: float) -> Path:
    path = path.with_suffix(".png")
    write(path, image, utm_affine(gsd_m), None, driver="PNG", tiled=None, blockxsize=None, blockysize=None)
    path.with_name(path.name + ".aux.xml").unlink(missing_ok=True)
    path.with_suffix(".pgw").write_text(f"{gsd_m}\n0\n0\n{-gsd_m}\n{EAST + gsd_m / 2}\n{NORTH - gsd_m / 2}\n")
    return path


def _no_georeference(path: Path, image: Image, gsd_m: float) -> Path:
    return write(path, image, Affine.identity(), None, photometric="rgb")


def _gcps(path: Path, image: Image, gsd_m: float) -> Path:
    write(path, image, Affine.identity(), None, photometric="rgb")
    height, width = image.shape[1:]
    corners = [(row, col) for row in (0, height) for col in (0, width)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "r+") as file:
            points = [GroundControlPoint(r, c, EAST + c * gsd_m, NORTH - r * gsd_m) for r, c in corners]
            file.gcps = (points, rasterio.CRS.from_epsg(32633))
    return path


def _empty(path: Path, image: Image, gsd_m: float) -> Path:
    return write(path, np.zeros_like(image), utm_affine(gsd_m), nodata=0, photometric="rgb")


def _complex(path: Path, image: Image, gsd_m: float) -> Path:
    return write(path, image.astype(np.complex64), utm_affine(gsd_m))


def _four_bands(path: Path, image: Image, gsd_m: float) -> Path:
    bands = np.concatenate([image, image[:1]])
    return write(path, bands, utm_affine(gsd_m), photometric="minisblack", alpha="no")


def _not_a_raster(path: Path, image: Image, gsd_m: float) -> Path:
    path.write_text("This is not a raster.\n")
    return path


def _cut_short(path: Path, image: Image, gsd_m: float) -> Path:
    _rgb(path, np.random.default_rng(0).integers(0, 255, image.shape).astype(np.uint8), gsd_m)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


_Writer = Callable[[Path, Image, float], Path]
_USABLE: dict[str, _Writer] = {
    "one_band": _one_band, "rgb": _rgb, "rgba": _rgba, "grey_alpha": _grey_alpha, "paletted": _paletted,
    "thirteen_bands": _thirteen_bands, "uint16": _uint16, "int16": _int16, "float32": _float32, "masked": _masked,
    "epsg4326": _epsg4326, "utm": _rgb, "web_mercator": _web_mercator, "rotated": _rotated, "south_up": _south_up,
}  # fmt: skip
_BAD: dict[str, tuple[_Writer, type[HybridsegError]]] = {
    "world_file": (_world_file, NoGeoreference),
    "no_georeference": (_no_georeference, NoGeoreference),
    "gcps": (_gcps, NoGeoreference),
    "empty": (_empty, EmptySource),
    "unnamed_bands": (_many, BandsMissing),
    "four_bands": (_four_bands, BandsMissing),
    "complex": (_complex, SourceError),
    "not_a_raster": (_not_a_raster, SourceError),
    "cut_short": (_cut_short, SourceError),
}

KINDS: tuple[str, ...] = tuple(_USABLE)
"""Kinds that `RasterScene.open` must take as they are."""
BAD: dict[str, type[HybridsegError]] = {kind: error for kind, (_, error) in _BAD.items()}
"""Kinds that it must refuse, and with what. `world_file` is usable with a CRS, the two of BandsMissing with bands."""


def make(kind: str, folder: Path, image: Image | None = None, gsd_m: float = 0.3) -> Path:
    """Write one kind of raster.

    Args:
        kind: of KINDS or BAD.
        folder: to write into; the file is called after the kind.
        image: (3, H, W) uint8, at least 32 px; default: `default_image()`.
        gsd_m: ground metres per pixel.
    """
    writer = _USABLE[kind] if kind in _USABLE else _BAD[kind][0]
    return writer(folder / f"{kind}.tif", default_image() if image is None else image, gsd_m)


def cut(path: Path, to: Path, col: int, row: int, width: int, height: int) -> Path:
    """Copy a rectangle of a raster, pixels and georeference unchanged."""
    with rasterio.open(path) as file:
        window = Window(col, row, width, height)
        profile = file.profile | {"width": width, "height": height, "transform": file.window_transform(window)}
        with rasterio.open(to, "w", **profile) as part:
            part.write(file.read(window=window))
            part.colorinterp = file.colorinterp
    return to


def raster_provenance(path: Path) -> Any:
    """What the writer of a raster was told of its origin."""
    with rasterio.open(path) as source:
        return json.loads(source.tags()["hybridseg"])

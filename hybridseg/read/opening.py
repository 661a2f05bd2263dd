"""`open_scene` makes a scene of whatever a user has; `SceneOnGrid` shows one on another grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.io import DatasetReaderBase

from hybridseg.errors import SourceError
from hybridseg.read import ground
from hybridseg.read.array import ArrayScene
from hybridseg.read.bands import Bands
from hybridseg.read.dataarray import is_dataarray
from hybridseg.read.fingerprint import combine
from hybridseg.read.mosaic import MosaicScene
from hybridseg.read.paths import display_name
from hybridseg.read.raster import RasterScene, reopens
from hybridseg.read.scene import Scene
from hybridseg.read.sources import name_of, raster_files
from hybridseg.read.stored import NoData, StoredScene
from hybridseg.read.tiles import zoomed
from hybridseg.types import Chip, Window

_ALLOWED = (
    "give a path or URL, paths of tiles, an open rasterio dataset, an xarray.DataArray with a CRS, or an array and its "
    "geobox: open_scene(array, geobox=...)"
)


@dataclass(frozen=True)
class SceneOnGrid:
    """A scene seen on another grid of its CRS, e.g. the working grid."""

    scene: Scene
    """Where the pixels come from."""
    geobox: GeoBox
    """The grid; it may reach beyond the scene."""
    local: bool = False
    """Whether the scale is that of the grid's place, not of the scene's, which may be the world."""

    @property
    def name(self) -> str:
        """The scene's."""
        return self.scene.name

    @property
    def crs(self) -> CRS:
        """The scene's."""
        return self.scene.crs

    @property
    def gsd_m(self) -> float:
        """Ground metres per pixel of the grid, at its centre."""
        return ground.gsd_m(self.geobox)

    @property
    def metres_per_unit(self) -> tuple[float, float]:
        """The scene's, so that all its grids agree, unless `local`."""
        return ground.metres_per_unit(self.geobox) if self.local else self.scene.metres_per_unit

    @property
    def window(self) -> Window:
        """All of the grid's pixels."""
        return Window(0, 0, self.geobox.width, self.geobox.height)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the scene's fingerprint and the grid."""
        return combine(self.scene.fingerprint.encode(), self.geobox)

    @property
    def bands(self) -> tuple[int, ...]:
        """The scene's."""
        return self.scene.bands

    @property
    def data_bands(self) -> tuple[int, ...]:
        """The scene's."""
        return self.scene.data_bands

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The scene's."""
        return self.scene.dtype

    def read_grid(self, geobox: GeoBox) -> Chip:
        """Return the scene on any grid of its CRS (see `RasterScene.read_grid`)."""
        return self.scene.read_grid(geobox)

    def read_window(self, window: Window, out_size_px: int | tuple[int, int]) -> Chip:
        """Return a window of the grid's pixels, resampled to a size: side, or (height, width).

        Raises:
            SourceError: when the scene cannot be read.
        """
        return self.scene.read_grid(zoomed(self.geobox, window, out_size_px))

    @property
    def band_names(self) -> tuple[str, ...]:
        """The scene's."""
        return self.scene.band_names

    @property
    def notes(self) -> tuple[str, ...]:
        """The scene's."""
        return self.scene.notes

    def raw(self, bands: Sequence[int]) -> SceneOnGrid:
        """Return the scene's stored bands on the same grid (see `RasterScene.raw`)."""
        return replace(self, scene=self.scene.raw(bands))

    def sample(self) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.bool_]]:
        """Return the scene's sample (see `RasterScene.sample`)."""
        return self.scene.sample()


Openable: TypeAlias = str | Path | Sequence[str | Path] | Scene | np.ndarray | Any
"""Path, URL, paths of tiles, `Scene`, array, open rasterio dataset, or xarray.DataArray."""


def open_scene(
    source: Openable,
    bands: Bands = None,
    crs: str | None = None,
    *,
    geobox: GeoBox | None = None,
    valid: npt.NDArray[np.bool_] | None = None,
    nodata: NoData = None,
) -> Scene:
    """Open imagery, whatever it comes as.

    Args:
        source: path of a raster, URL (http, s3, ...), or GDAL path; a folder, a pattern (`tiles/*.tif`), a .zip, a
            .txt with a path a line, or a list of paths: tiles, seen as one scene (see `mosaic`); an open rasterio
            dataset (its file is opened again; one in memory is read whole); an xarray.DataArray with coordinates and a
            CRS; an array (H, W), (B, H, W) or (H, W, B); or a scene, which is returned as it is.
        bands: 1-based, one for grey or three for red, green and blue; or names with numbers, {"red": 1, "nir": 4}, of
            which red, green and blue are what is seen; default: what the source says they are.
        crs: used only when the source has none.
        geobox: grid of an array; not for other sources.
        valid: (H, W) bool, which pixels of an array hold data; not for other sources.
        nodata: value that marks pixels without data, beside what the source itself says; "none": only that; default:
            that, and a collar that it does not declare (see `collar`).

    Raises:
        SourceError: it is missing, no raster, damaged, cannot be reached, or is none of these things.
        NoGeoreference: it has no CRS or no geotransform, or its coordinates do not fit its CRS.
        BandsMissing: it lacks the bands asked for, or they must be chosen.
        EmptySource: no pixel is valid.
    """
    if isinstance(source, np.ndarray):
        return ArrayScene.from_array(source, geobox, bands, crs, valid=valid, nodata=nodata)
    if geobox is not None or valid is not None:
        raise SourceError(
            f"geobox and valid describe an array, but a {type(source).__name__} was given; leave them out"
        )
    if isinstance(source, str | Path | list | tuple):
        files = raster_files(source)
        if len(files) == 1:
            return RasterScene.open(files[0], bands, crs, nodata)
        return MosaicScene.open(files, name_of(source, files), bands, crs, nodata)
    if isinstance(source, DatasetReaderBase):
        return _from_dataset(source, bands, crs, nodata)
    if is_dataarray(source):
        return ArrayScene.from_dataarray(source, bands, crs, nodata=nodata)
    if isinstance(source, StoredScene | SceneOnGrid | Scene):
        if not (bands is None and crs is None and nodata is None):
            raise SourceError(f"{source.name} is open already; choose bands, CRS and nodata where it is opened")
        return source
    raise SourceError(f"a {type(source).__name__} is no scene; {_ALLOWED}")


def _from_dataset(dataset: Any, bands: Bands, crs: str | None, nodata: NoData) -> RasterScene | ArrayScene:
    """An open dataset: its file again where that gives the same raster, else its pixels."""
    if dataset.closed or dataset.mode != "r":
        state = "closed" if dataset.closed else f"open for writing (mode {dataset.mode!r})"
        raise SourceError(f"the dataset {display_name(dataset.name)} is {state}; open it for reading, or give its path")
    if reopens(dataset):
        return RasterScene.open(dataset.name, bands, crs, nodata)
    return ArrayScene.from_dataset(dataset, bands, crs, nodata=nodata)


def files_of(source: Any) -> list[Any]:
    """Return what is read of a source, as far as that is known: paths, or an open dataset with its `files`."""
    if isinstance(source, SceneOnGrid):
        return files_of(source.scene)
    if isinstance(source, RasterScene):
        return [source.path]
    if isinstance(source, MosaicScene):
        return [tile.path for tile in source.tiles]
    if isinstance(source, str | Path | list | tuple):
        return [source, *raster_files(source)] if isinstance(source, str | Path) else list(raster_files(source))
    return [source.encoding.get("source") if is_dataarray(source) else source]

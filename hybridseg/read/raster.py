"""A raster file as a scene, described by values only: it opens its file where and when it is read."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import rasterio
import rasterio.shutil
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT

from hybridseg.cog import wkt
from hybridseg.errors import SourceError, SourceUnavailable
from hybridseg.read import describe
from hybridseg.read.bands import Bands
from hybridseg.read.fingerprint import content
from hybridseg.read.ground import is_north_up
from hybridseg.read.paths import display_name, is_remote, is_virtual, problem
from hybridseg.read.stored import NoData, StoredScene, as_nodata

_HANDLES = 8
"""Open files kept for each thread, so that neighbouring windows share GDAL's cache of decoded blocks."""
_HTTP = {
    "GDAL_HTTP_TIMEOUT": 120,
    "GDAL_HTTP_CONNECTTIMEOUT": 30,
    "GDAL_HTTP_MAX_RETRY": 2,
    "GDAL_HTTP_RETRY_DELAY": 1,
}
"""Seconds until a server that does not answer is given up, and how often it is asked again; the environment wins."""
_SERVER_FAILS = re.compile(
    r"CURL error(?!: URL)|HTTP response code: (?:0|408|425|429|5\d\d)\b|Unable to download|SlowDown|timed? ?out",
    re.I,
)
"""What GDAL writes when a server fails."""
_CUT_SHORT = re.compile(r"Read ?error|got \d+ bytes", re.I)
"""What GDAL writes when it gets less than it asked for: of a file that is cut short, or of a server that fails."""
_local = threading.local()


@dataclass(frozen=True, kw_only=True)
class RasterScene(StoredScene):
    """One georeferenced raster file, seen as 8-bit RGB. Made by `RasterScene.open`."""

    path: str
    """File, URL, or anything else that GDAL opens."""

    @classmethod
    def open(
        cls,
        path: str | Path,
        bands: Bands = None,
        crs: str | None = None,
        nodata: NoData = None,
    ) -> Self:
        """Look at a raster: its grid, bands and stretch.

        Args:
            path: file, URL or GDAL path.
            bands: 1-based, one for grey or three for red, green and blue, or names of bands with their numbers;
                default: what the raster says they are.
            crs: used only when the file has none (images with a world file).
            nodata: value of pixels without data, beside the raster's own nodata, mask and alpha; "none": only these;
                default: these, and a collar that they do not declare (see `collar`).

        Raises:
            SourceError: it is missing, no raster, damaged, or of complex numbers.
            SourceUnavailable: its server does not answer.
            NoGeoreference: it has no CRS or no geotransform, or its coordinates do not fit its CRS.
            BandsMissing: it lacks the bands asked for, or they must be chosen.
            EmptySource: no pixel is valid.
        """
        path = str(path)
        with open_raster(path) as dataset, reading(path):
            seen = vars(describe.look(dataset, bands, crs))
            scene = cls(name=display_name(path), path=path, nodata=as_nodata(nodata), **seen)
            mark = content(dataset)
        # a web map service has no corners to look at: they are the poles
        return scene._completed(mark, "none" if nodata is None and dataset.driver == "WMS" else nodata)

    def _store(self, level: int | None) -> DatasetReader:
        return handle(self.path, level)

    def _dtype(self, bands: Sequence[int]) -> np.dtype[np.generic]:
        return describe.pixel_dtype(self.name, handle(self.path, None).dtypes, bands)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with reading(self.path):
            yield


def reopens(dataset: DatasetReader) -> bool:
    """Return whether opening a dataset's name again gives the same raster (not so for one in memory, or warped)."""
    if dataset.name.startswith("/vsimem/"):
        return False
    try:
        with open_raster(dataset.name) as again:
            same = [(d.shape, d.count, d.transform, d.crs, d.dtypes, d.nodatavals) for d in (again, dataset)]
            return same[0] == same[1]
    except SourceError:
        return False


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn what GDAL cannot read into one line, and give servers that do not answer up after a while."""
    with ExitStack() as stack:
        if is_remote(path) or path.lower().endswith(".xml"):  # a description of a web map service
            stack.enter_context(rasterio.Env(**{k: v for k, v in _HTTP.items() if k not in os.environ}))
        try:
            yield
        except (RasterioIOError, CPLE_BaseError) as error:  # some of GDAL's errors come as they are
            _forget(path)
            raise _unreadable(path, error, "cannot be read to its end") from error


def open_raster(path: str) -> DatasetReader:
    """Open a raster, or say why not."""
    name, wrong = display_name(path), problem(path)
    if wrong:
        raise SourceError(f"{name} {wrong}; give the path of a raster file")
    try:
        with reading(path), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # answered later, by an error
            return rasterio.open(path)
    except SourceUnavailable:
        raise
    except (SourceError, RasterioError, ValueError) as error:
        words = _words(error.__cause__ or error) if is_virtual(path) else ""
        raise SourceError(
            f"{name} is not a raster that GDAL can open{words}; give a GeoTIFF, COG or similar"
        ) from error


def handle(path: str, level: int | None, warped: GeoBox | None = None) -> DatasetReader:
    """Return a file opened at full resolution or at one of its overviews, in this thread and process only.

    A file that was replaced under the same path is opened again.

    Args:
        path: of a raster.
        level: which overview, from 0.
        warped: grid to bring it to, bilinear, its edges masked; what the warper makes of a block of its own does not
            depend on the window that is asked for.
    """
    handles: OrderedDict[tuple[Any, ...], DatasetReader] = _local.__dict__.setdefault("handles", OrderedDict())
    key = (os.getpid(), path, level, warped, _stamp(path))
    if key not in handles:
        options = {} if level is None else {"overview_level": level}
        opened = rasterio.open(path, **options)
        handles[key] = opened if warped is None else _warp(opened, warped)
        if len(handles) > _HANDLES:
            handles.popitem(last=False)[1].close()
    handles.move_to_end(key)
    return handles[key]


def _warp(dataset: DatasetReader, grid: GeoBox) -> DatasetReader:
    return WarpedVRT(
        dataset,
        crs=wkt(grid),
        transform=grid.affine,
        width=grid.width,
        height=grid.height,
        resampling=Resampling.bilinear,
        tolerance=0.001,  # of a pixel
        add_alpha=ColorInterp.alpha not in dataset.colorinterp and dataset.nodata is None,
    )


def _stamp(path: str) -> tuple[int, int] | None:
    """Size and time of change of a local file, None for others and for files that are gone."""
    try:
        stat = None if is_virtual(path) else os.stat(path)
    except OSError:
        return None
    return None if stat is None else (stat.st_size, stat.st_mtime_ns)


def _forget(path: str) -> None:
    """Close a file's handles in this thread, so that the next try opens it again."""
    handles = _local.__dict__.get("handles", {})
    for key in [key for key in handles if key[1] == path]:
        handles.pop(key).close()


def _unreadable(path: str, error: BaseException, what: str) -> SourceError:
    name, words = display_name(path), _words(error)
    if _SERVER_FAILS.search(words) or (is_remote(path) and _CUT_SHORT.search(words)):
        return SourceUnavailable(f"{name} cannot be reached{words}; try again")
    return SourceError(f"{name} {what}{words}: the file is damaged or cut short; fetch it again")


def _words(error: BaseException | None) -> str:
    """GDAL's own words, in brackets: those of the first error of a chain, which says the most."""
    while error is not None and (error.__cause__ or error.__context__) is not None:
        error = error.__cause__ or error.__context__
    text = display_name(str(error).strip().split("\n")[0]) if error else ""
    return f" ({text})" if text else ""


def north_up(scene: RasterScene, dataset: DatasetReader, crs: CRS, virtual: Path) -> RasterScene:
    """Return a raster north-up in a CRS: as it is, or by a virtual raster.

    Args:
        scene: of the raster, whose first band is opened.
        dataset: the same, open.
        crs: the CRS asked for.
        virtual: path of the virtual raster (.vrt), which is written where the raster is not so already.
    """
    if scene.crs == crs and is_north_up(scene.geobox):
        return scene
    with WarpedVRT(dataset, crs=crs.to_wkt(), resampling=Resampling.bilinear) as vrt:
        rasterio.shutil.copy(vrt, virtual, driver="VRT")
    return RasterScene.open(virtual, bands=(1,))

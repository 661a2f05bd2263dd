"""Many rasters as one scene: tiles on one grid, read as the one raster that they were cut from would be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj.exceptions import ProjError
from rasterio._err import CPLE_BaseError
from rasterio.io import DatasetReader
from rasterio.warp import transform_bounds
from rasterio.windows import Window as RasterWindow

from hybridseg.errors import SourceError
from hybridseg.read import describe, ground
from hybridseg.read.bands import Bands
from hybridseg.read.fingerprint import content_of_files
from hybridseg.read.paths import display_name
from hybridseg.read.raster import handle, open_raster, reading
from hybridseg.read.stored import NoData, StoredScene, as_nodata
from hybridseg.read.stretch import PixelStore, declared, nearest
from hybridseg.types import Window

_ALIGNED_PX = 0.01
"""Tiles may lie so far off the first one's grid and still be read as they are."""
_MOST_RATIO = 2.0
"""Pixels of a tile may be so much larger or smaller than the first one's."""
_LEAST_FILLED = 0.002
"""Share of the rectangle around all tiles that these must cover."""


@dataclass(frozen=True)
class Tile:
    """One raster of a mosaic."""

    path: str
    window: Window
    """Where it lies on the mosaic's grid."""
    warped: bool
    """Whether its own grid is another."""
    overviews: tuple[int, ...]
    """Decimation factors of its overviews."""


class MosaicStore:
    """Tiles behind the interface that rasters are read through (`stretch.PixelStore`), at one level of overviews."""

    def __init__(self, scene: MosaicScene, factor: int) -> None:
        """Show the tiles at full resolution (factor 1) or at overviews of a factor that all have."""
        self._scene, self._factor = scene, factor
        first = scene.tiles[0]
        opened = handle(first.path, None)
        self.count, self.dtypes = opened.count, opened.dtypes
        self.block_shapes = opened.block_shapes
        self.shape = (scene.geobox.height // factor, scene.geobox.width // factor)
        self._last: tuple[Any, tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]] | None = None

    def read(self, indexes: list[int], *, window: RasterWindow = None, out_shape: Any = None) -> npt.NDArray[Any]:
        """Return (B, H, W) of 1-based bands; nearest neighbour where `out_shape` (B, H, W) is another."""
        return self._both(indexes, window, out_shape)[0]

    def read_masks(
        self, indexes: list[int], *, window: RasterWindow = None, out_shape: Any = None
    ) -> npt.NDArray[np.uint8]:
        """Return (B, H, W), 0 where a band has no data and where there is no tile."""
        return self._both(indexes, window, out_shape)[1]

    def _both(
        self, indexes: list[int], window: RasterWindow | None, out_shape: Any
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
        """Pixels and masks; those of the last read are kept, as both are always asked for."""
        asked = (tuple(indexes), window, None if out_shape is None else tuple(out_shape))
        if self._last is None or self._last[0] != asked:
            self._last = asked, self._compose(indexes, *nearest(self.shape, window, out_shape))
        return self._last[1]

    def _compose(
        self, indexes: list[int], rows: npt.NDArray[np.intp], cols: npt.NDArray[np.intp]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
        """Pixels and masks at some rows and columns: of the first tile that has data there."""
        shape = (len(indexes), len(rows), len(cols))
        pixels = np.zeros(shape, np.result_type(*(self.dtypes[band - 1] for band in indexes)))
        masks = np.zeros(shape, np.uint8)
        left, top, right, bottom = self._scene.bounds.T // self._factor
        near = (left <= cols[-1]) & (right > cols[0]) & (top <= rows[-1]) & (bottom > rows[0])
        for number in np.flatnonzero(near):
            r0, r1 = np.searchsorted(rows, (top[number], bottom[number]))
            c0, c1 = np.searchsorted(cols, (left[number], right[number]))
            if r0 == r1 or c0 == c1:
                continue
            here = (slice(None), slice(r0, r1), slice(c0, c1))
            free = ~masks[here].any(axis=0)
            if not free.any():
                continue
            down, across = rows[r0:r1] - top[number], cols[c0:c1] - left[number]
            part = RasterWindow(across[0], down[0], across[-1] - across[0] + 1, down[-1] - down[0] + 1)
            pick = (slice(None), *np.ix_(down - down[0], across - across[0]))
            with reading(self._scene.tiles[number].path):
                source = self._scene.opened(int(number), self._factor)
                found, there = source.read(indexes, window=part)[pick], source.read_masks(indexes, window=part)[pick]
            valid = declared(found, there, self._scene.nodata)
            take = free & valid.any(axis=0)
            pixels[here] = np.where(take, found, pixels[here])
            masks[here] = np.where(take, valid, masks[here])
        return pixels, masks


@dataclass(frozen=True, kw_only=True)
class MosaicScene(StoredScene):
    """Rasters on one grid, seen as one. Made by `MosaicScene.open`.

    Where they overlap, the first in the list that has data shows. The stretch, and a collar, are those of the whole.
    """

    tiles: tuple[Tile, ...]
    """In the order in which they were given."""

    @classmethod
    def open(
        cls,
        paths: Sequence[str],
        name: str,
        bands: Bands = None,
        crs: str | None = None,
        nodata: NoData = None,
    ) -> Self:
        """Look at all rasters, and lay them on the grid of the first.

        Args:
            paths: files, URLs or GDAL paths.
            name: what messages call the mosaic.
            bands: as of `RasterScene.open`, of each of them.
            crs: used for those that have none.
            nodata: as of `RasterScene.open`, of each of them.

        Raises:
            SourceError: some cannot be read, or do not fit together.
            NoGeoreference, BandsMissing, EmptySource: as of `RasterScene.open`.
        """
        looks = [_look(path, bands, crs) for path in paths]
        first = looks[0]
        for path, look in zip(paths, looks, strict=True):
            _check_fit(path, look, paths[0], first)
        grids = [look.geobox for look in looks]
        try:
            windows, warped = zip(*(_placed(grid, first.geobox) for grid in grids), strict=True)
        except (ProjError, CPLE_BaseError) as error:
            raise SourceError(
                f"{name} holds rasters that cannot be brought to the CRS of {display_name(paths[0])}; give each alone"
            ) from error
        col, row = min(w.col for w in windows), min(w.row for w in windows)
        width, height = max(w.stop[0] for w in windows) - col, max(w.stop[1] for w in windows) - row
        if sum(w.width * w.height for w in windows) < _LEAST_FILLED * width * height:
            raise SourceError(f"{name} holds rasters that lie far apart; give each by itself, or those of one place")
        corner = next((g for g, w, off in zip(grids, windows, warped, strict=True)
                       if (w.col, w.row) == (col, row) and not off), None)  # fmt: skip
        affine = first.geobox.affine @ Affine.translation(col, row) if corner is None else corner.affine
        tiles = tuple(
            Tile(path, Window(w.col - col, w.row - row, w.width, w.height), off, look.overviews)
            for path, w, off, look in zip(paths, windows, warped, looks, strict=True)
        )
        scene = cls(
            name=name,
            bands=first.bands,
            data_bands=first.data_bands,
            band_names=first.band_names,
            geobox=GeoBox((height, width), affine, first.geobox.crs),
            dtype=first.dtype,
            overviews=_shared_overviews(tiles),
            palette=first.palette,
            nodata=as_nodata(nodata),
            tiles=tiles,
        )
        return scene._completed(_content(looks, tiles), nodata)

    @cached_property
    def bounds(self) -> npt.NDArray[np.intp]:
        """(tiles, 4) left, top, right, bottom of each tile in pixels of the grid."""
        return np.array([(t.window.col, t.window.row, *t.window.stop) for t in self.tiles], np.intp)

    def opened(self, number: int, factor: int) -> DatasetReader:
        """Return a tile's raster on the mosaic's grid, at the overview of a factor."""
        tile = self.tiles[number]
        if tile.warped:
            return handle(tile.path, None, self.geobox[tile.window.slices(self.window)])
        return handle(tile.path, None if factor == 1 else tile.overviews.index(factor))

    def _store(self, level: int | None) -> PixelStore:
        return MosaicStore(self, 1 if level is None else self.overviews[level])

    def _dtype(self, bands: Sequence[int]) -> np.dtype[np.generic]:
        return describe.pixel_dtype(self.name, handle(self.tiles[0].path, None).dtypes, bands)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with reading(self.tiles[0].path):
            yield


@dataclass(frozen=True)
class _Look(describe.Look):
    """What a raster says of itself, with the dtypes of all its bands and the files that it is read from."""

    dtypes: tuple[str, ...]
    files: tuple[str, ...]


def _look(path: str, bands: Bands, crs: str | None) -> _Look:
    with open_raster(path) as dataset, reading(path):
        seen = vars(describe.look(dataset, bands, crs))
        return _Look(**seen, dtypes=dataset.dtypes, files=tuple(dataset.files))


def _check_fit(path: str, look: _Look, other: str, first: _Look) -> None:
    """Refuse a raster that cannot be a tile beside the first."""
    both = f"{display_name(path)} and {display_name(other)}"
    advice = "give rasters of one kind, or each by itself"
    if (look.dtypes, look.bands, look.data_bands) != (first.dtypes, first.bands, first.data_bands):
        kinds = " and ".join(f"{len(one.dtypes)} bands of {one.dtypes[0]} ({','.join(map(str, one.bands))} in use)"
                             for one in (look, first))  # fmt: skip
        raise SourceError(f"{both} have {kinds}, so they are no tiles of one scene; {advice}")
    ratio = ground.gsd_m(look.geobox) / ground.gsd_m(first.geobox)
    if not 1 / _MOST_RATIO <= ratio <= _MOST_RATIO:
        sizes = " and ".join(f"{ground.gsd_m(one.geobox):.2g} m" for one in (look, first))
        raise SourceError(f"{both} have pixels of {sizes}, so they are no tiles of one scene; {advice}")
    if look.palette != first.palette:
        raise SourceError(f"{both} have different palettes; convert them, e.g. gdal_translate -expand rgb")
    if look is not first and len(look.data_bands) == 1 and look.geobox == first.geobox:
        raise SourceError(
            f"{both} have one band each and the same place, as bands of one scene do; "
            "stack them, e.g. gdalbuildvrt -separate all.vrt red.tif green.tif blue.tif, and give all.vrt"
        )


def _placed(grid: GeoBox, onto: GeoBox) -> tuple[Window, bool]:
    """Where a raster lies on the grid of the first, and whether it must be warped to lie there."""
    if grid.crs == onto.crs:
        to_px = ~onto.affine @ grid.affine
        col, row = round(to_px.c), round(to_px.f)
        corner = to_px @ (grid.width, grid.height)
        off = max(abs(a - b) for a, b in zip((to_px.c, to_px.f, *corner),
                                             (col, row, col + grid.width, row + grid.height), strict=True))  # fmt: skip
        if off <= _ALIGNED_PX and abs(to_px.b) + abs(to_px.d) < 1e-9:
            return Window(col, row, grid.width, grid.height), False
    box = transform_bounds(str(grid.crs), str(onto.crs), *grid.boundingbox.bbox)
    a, b, c, d, e, f = tuple(~onto.affine)[:6]
    corners = np.array([(a * x + b * y + c, d * x + e * y + f) for x in box[0::2] for y in box[1::2]])
    if not np.isfinite(corners).all():
        raise ProjError(f"{grid.crs} does not reach {onto.crs}")
    (col, row), stop = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int)
    return Window(int(col), int(row), int(stop[0] - col), int(stop[1] - row)), True


def _shared_overviews(tiles: Sequence[Tile]) -> tuple[int, ...]:
    """Factors of overviews that all tiles have and whose pixels are the mosaic's at that factor."""
    if any(tile.warped for tile in tiles):
        return ()
    factors = set.intersection(*(set(tile.overviews) for tile in tiles))
    edges = [edge for tile in tiles for edge in (tile.window.col, tile.window.row, *tile.window.stop)]
    return tuple(sorted(factor for factor in factors if all(edge % factor == 0 for edge in edges)))


def _content(looks: Sequence[_Look], tiles: Sequence[Tile]) -> bytes | None:
    content = content_of_files([file for look in looks for file in look.files])
    return content and hashlib.sha256(content + repr([tile.window for tile in tiles]).encode()).digest()

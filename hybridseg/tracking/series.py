"""Scenes of one place at several dates, on the grid of the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj.exceptions import ProjError
from rasterio._err import CPLE_BaseError

from hybridseg.errors import EmptySource, SourceError
from hybridseg.files import replacing
from hybridseg.read.opening import SceneOnGrid
from hybridseg.read.raster import RasterScene
from hybridseg.read.scene import Scene
from hybridseg.run.store import Store, key_of
from hybridseg.tracking.register import Shift, shift_between
from hybridseg.tracking.warp import write_on_grid

SURE = 2.0
"""Standard errors that a shift must exceed to be taken back: half a pixel at least (`register.ALIKE_PX`), as moving the
pixels by less would blur more than it mends."""
ALIGNED_PX = 0.05
"""Pixels that lie so near to those of the grid are read as they are."""
WHOLE = 0.98
"""Share of the grid from which on a scene counts as covering it."""


@dataclass(frozen=True)
class Frame:
    """One date of a series.

    day: when it was taken.
    scene: on the grid of the series, what is not clear masked.
    name: of the scene as it was given.
    shift: how far it lay off the first date; what `moved` says was taken back.
    moved: whether the scene was moved by the shift.
    notes: what a user should know of it, a line each.
    """

    day: date
    scene: Scene
    name: str
    shift: Shift
    moved: bool = False
    notes: tuple[str, ...] = ()

    @property
    def left_px(self) -> float:
        """Standard error (pixels, along one axis) of where it lies relative to the first date."""
        if not self.shift.known:
            return 0.5  # nothing is known: half a pixel, as of imagery that was made to lie on one grid
        return float(np.hypot(self.shift.sd_px, 0 if self.moved else self.shift.length_px))


@dataclass(frozen=True)
class Series:
    """Dates of one place, in order. Made by `Series.open`.

    grid: of the first date.
    aligned: whether shifts against the first date were looked for.
    """

    frames: tuple[Frame, ...]
    grid: GeoBox
    aligned: bool = True

    @property
    def notes(self) -> list[str]:
        """What a user should know of the dates, a line each."""
        said = [note for frame in self.frames for note in frame.notes]
        untold = [str(frame.day) for frame in self.frames if not frame.shift.known]
        if self.aligned and untold:
            said.append(f"{', '.join(untold)}: how far off the first date cannot be told, as too little ground is seen "
                        "at both or edges do not agree; taken as it lies, half a pixel counting as error")  # fmt: skip
        return said

    @classmethod
    def open(
        cls,
        scenes: Sequence[Scene],
        days: Sequence[date],
        store: Store,
        clear: Sequence[str | Path] | None = None,
        align: bool = True,
    ) -> Series:
        """Bring scenes to the grid of the first date.

        A scene whose pixels lie on that grid already is read as it is; any other is written there once, in the folder
        of the store. So the first date's grid decides, and a date added at the end changes nothing of the others.

        Args:
            scenes: of at least one date, in any order.
            days: the date of each.
            store: gives the folder for scenes that must be written.
            clear: a raster for each scene, in its order, on any grid: 0 where the ground cannot be seen.
            align: whether shifts against the first date are found and taken back.

        Raises:
            SourceError: scenes that do not lie on one place, or differ in their bands.
        """
        order = sorted(range(len(scenes)), key=lambda at: days[at])
        if clear is not None and len(clear) != len(scenes):
            raise SourceError(f"{len(clear)} clear masks came with {len(scenes)} scenes; give one a scene, in order")
        first = scenes[order[0]]
        frames: list[Frame] = []
        for at in order:
            _check_bands(scenes[at], first)
            mask = None if clear is None else str(clear[at])
            frames.append(_frame(scenes[at], days[at], first, store, mask, align))
        return cls(tuple(frames), first.geobox, align)


def _frame(scene: Scene, day: date, first: Scene, store: Store, clear: str | None, align: bool) -> Frame:
    """A scene on the grid of the first."""
    grid, notes = first.geobox, list(scene.notes)
    share = _covered(scene, grid)
    if not share:
        raise EmptySource(f"{scene.name} does not overlap {first.name}; give scenes of one place")
    if share < WHOLE:
        notes.append(f"{scene.name} covers {share:.0%} of the first date's ground; elsewhere objects are unknown")
    placed = _placed(scene, grid, Shift(), store, None)
    measured = shift_between(first, placed, grid) if align and scene is not first else Shift()
    shift = Shift(sd_px=0.0) if scene is first else measured
    moved = bool(shift.known and shift.length_px > SURE * shift.sd_px)
    if moved or clear is not None:
        placed = _placed(scene, grid, shift if moved else Shift(), store, clear)
    return Frame(day, placed, scene.name, shift, moved, tuple(notes))


def _placed(scene: Scene, grid: GeoBox, shift: Shift, store: Store, clear: str | None) -> Scene:
    """The scene on a grid: as it is where its pixels lie there, else written once."""
    if clear is None and not shift.length_px and _aligned(scene.geobox, grid):
        return scene if scene.geobox == grid else SceneOnGrid(scene, grid)
    masked = None if clear is None else _mask_of(clear)
    numbers = {name: scene.band_names.index(name) + 1 for name in scene.band_names if name}
    kept = sorted({*scene.data_bands, *scene.bands, *numbers.values()})  # one that GDAL takes for alpha may have a name
    key = key_of(
        "frame", scene.fingerprint, scene.geobox, grid, kept, shift.x_px, shift.y_px, masked and masked.fingerprint
    )
    path = store.folder / f"{key}.tif"
    with store.claim(key, wait=True):
        if not path.is_file():
            moved = GeoBox(grid.shape, grid.affine @ Affine.translation(shift.x_px, shift.y_px), grid.crs)
            with replacing(path, errors=(rasterio.errors.RasterioError, CPLE_BaseError)) as beside:
                write_on_grid(scene, grid, moved, kept, beside, masked)
    bands = [kept.index(band) + 1 for band in scene.bands]
    named = {name: kept.index(number) + 1 for name, number in numbers.items()}
    rgb = dict(zip(("red", "green", "blue"), bands, strict=True)) if len(bands) == 3 else {}
    try:
        opened = RasterScene.open(path, {**named, **rgb} if rgb else bands, nodata="none")
    except EmptySource as error:
        raise EmptySource(f"{scene.name} has no clear ground on the first date's; leave it out") from error
    return replace(opened, name=scene.name)


def _mask_of(path: str) -> RasterScene:
    """A raster whose first band is 0 where the ground cannot be seen."""
    return RasterScene.open(path, [1], nodata="none").raw([1])


def _aligned(own: GeoBox, grid: GeoBox) -> bool:
    """Whether the pixels of a grid are those of another, as far as both reach."""
    if own.crs != grid.crs:
        return False
    to_grid = ~grid.affine @ own.affine
    corners = [to_grid @ corner for corner in ((0, 0), (own.width, 0), (0, own.height))]
    off = max(abs(value - round(value)) for corner in corners for value in corner)
    return off <= ALIGNED_PX and to_grid.almost_equals(Affine.translation(to_grid.c, to_grid.f), 1e-4)


def _covered(scene: Scene, grid: GeoBox) -> float:
    """Share of a grid that a scene's rectangle covers."""
    own, target = scene.geobox.extent.geom, grid.extent.geom
    try:
        if scene.crs != grid.crs:  # with vertices on its sides, which bend
            sides = shapely.segmentize(own, max(own.length / 80, 1e-9))
            own = gpd.GeoSeries([sides], crs=str(scene.crs)).to_crs(str(grid.crs)).iloc[0]
        return float(own.buffer(0).intersection(target).area / target.area)
    except (ProjError, CPLE_BaseError, shapely.errors.ShapelyError):
        return 0.0  # its ground cannot even be named in the other's CRS


def _check_bands(scene: Scene, first: Scene) -> None:
    if (len(scene.bands), len(scene.data_bands)) != (len(first.bands), len(first.data_bands)):
        counts = " and ".join(
            f"{one.name} has {len(one.data_bands)} bands ({len(one.bands)} in use)" for one in (first, scene)
        )
        raise SourceError(f"{counts}; give dates of one kind of imagery, or choose with --bands what all have")

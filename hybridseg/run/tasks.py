"""The work of a run as values: a stage with its place, frozen and picklable; a key names all that decides it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import shapely.errors
from odc.geo.geobox import GeoBox

from hybridseg.heatmap import Heatmap, HeatmapPart
from hybridseg.read.scene import Scene
from hybridseg.read.tiles import tile
from hybridseg.run.extents import to_pixels
from hybridseg.run.store import key_of
from hybridseg.shape import Shape
from hybridseg.shape.measure import area_m2, blocks_of
from hybridseg.shape.overlaps import resolve_overlaps, union_pieces
from hybridseg.tables import FIGURES, Prompts, table_hash
from hybridseg.types import Window
from hybridseg.what import Objects
from hybridseg.what.classify import Classify, Network
from hybridseg.what.lattice import Block, Lattice
from hybridseg.where.refine import Mask, Prompt, Refine
from hybridseg.write.lineage import Provenance


def lineage_of(scene: Scene, network: Network) -> dict[str, Any]:
    """Return what a heatmap of a scene is made of."""
    request = {"scene": scene.name, "bands": list(scene.bands), "classes": list(network.spec.classes)}
    own = {network.name: network.sha256}
    made = Provenance.collect(request=request, models=own, source=scene.name, source_fingerprint=scene.fingerprint)
    return made.to_dict()


@dataclass(frozen=True)
class ClassifyTask:
    """Makes one part of the heatmap.

    scene: as the network takes it.
    grid: the working grid.
    core: the window of the grid whose heatmap is wanted.
    raster: where the whole scene lies on the grid.
    side_px: the core is made in squares of this side, which gives the same heatmap; None: at once.
    """

    stage: Classify
    scene: Scene
    grid: GeoBox
    core: Window
    raster: Window
    side_px: int | None = None

    @property
    def key(self) -> str:
        """Of network, halo, scene and window."""
        network, halo_px = self.stage.network, self.stage.windows.halo_px
        look = (network.sha256, network.spec, self.stage.scales, self.stage.looks, halo_px)
        made_of = (*look, self.scene.fingerprint, self.grid, self.core, self.raster)
        return key_of("part", *made_of)

    @property
    def place(self) -> str:
        """The core."""
        return describe(self.core)

    def lighter(self) -> ClassifyTask | None:
        """Return the task in squares of half the side; None where they would be smaller than half a halo."""
        spec, halo_px = self.stage.network.spec, self.stage.windows.halo_px
        half = (self.side_px or max(self.core.width, self.core.height)) // 2 // spec.snap_px * spec.snap_px
        return None if spec.image_px is not None or half < max(halo_px // 2, 1) else replace(self, side_px=half)

    def __call__(self) -> HeatmapPart:
        """Read core and halo, return the heatmap of the core."""
        if self.side_px is None:
            return self.stage(self.scene, self.grid, self.core, self.raster)
        core, whole = self.core, None
        for part in tile((core.height, core.width), self.side_px):
            square = Window(core.col + part.col, core.row + part.row, part.width, part.height)
            made = self.stage(self.scene, self.grid, square, self.raster)
            if whole is None:
                stride = self.stage.network.spec.stride
                place = Window(*(px // stride for px in (core.col, core.row, core.width, core.height)))
                shape = place.height, place.width
                whole = HeatmapPart(np.zeros((len(made.values), *shape), np.float32), np.zeros(shape, bool), place)
            whole.values[:, *made.window.slices(whole.window)] = made.values
            whole.valid[made.window.slices(whole.window)] = made.valid
        assert whole is not None
        return whole


@dataclass(frozen=True)
class FindTask:
    """Finds the objects of one block of the heatmap."""

    stage: Objects
    heatmap: Heatmap
    lattice: Lattice
    label: str
    core: Window

    @property
    def key(self) -> str:
        """Of heatmap, settings and block."""
        return key_of("rows", self.heatmap.fingerprint, self.stage, self.label, self.core)

    @property
    def place(self) -> str:
        """The block."""
        return describe(self.core)

    def lighter(self) -> None:
        """None: a block is found at once."""

    def __call__(self) -> gpd.GeoDataFrame:
        """Read the block and return what the stage finds in its core."""
        block = Block.read(self.heatmap, self.label, self.core, self.stage.halo_px(self.lattice))
        return self.stage.find(block, self.lattice, self.label)


@dataclass(frozen=True)
class RefineTask:
    """Refines the prompts of one window.

    rows: their places in the table of all prompts.
    """

    stage: Refine
    scene: Scene
    window: Window
    prompts: tuple[Prompt, ...]
    rows: tuple[int, ...]

    @cached_property
    def key(self) -> str:
        """Of refiner, settings, scene, window and prompts."""
        digest = hashlib.sha256()
        for prompt in self.prompts:
            digest.update(shapely.to_wkb(prompt.support) or b"")
            digest.update(prompt.positive.tobytes() + b"\0" + prompt.negative.tobytes())
        made_of = (self.stage.model.sha256, self.stage.settings, self.scene.fingerprint, self.scene.geobox, self.window)
        return key_of("rows", *made_of, digest.hexdigest())

    @property
    def place(self) -> str:
        """The window."""
        return describe(self.window)

    def lighter(self) -> RefineTask | None:
        """Return the task with half as many prompts decoded at once."""
        batch = self.stage.batch // 2
        return replace(self, stage=replace(self.stage, batch=batch)) if batch else None

    def __call__(self) -> gpd.GeoDataFrame:
        """Return the masks, a row a prompt: `FIGURES` and outline."""
        masks: list[Mask] = self.stage(self.scene, self.window, self.prompts)
        figures = {name: np.array([getattr(mask, name) for mask in masks], float) for name in FIGURES}
        outlines = [mask.outline for mask in masks]
        return gpd.GeoDataFrame(figures, geometry=outlines, crs=self.scene.crs)


@dataclass(frozen=True)
class RefineTasks(Sequence[RefineTask]):
    """The tasks of a sweep, each made when it is asked for: prompts in pixels take many times the room of the table.

    served: windows with the rows of `prompts` that each serves.
    """

    stage: Refine
    scene: Scene
    prompts: Prompts
    served: Mapping[Window, np.ndarray]

    @cached_property
    def _windows(self) -> list[Window]:
        return list(self.served)

    def __len__(self) -> int:
        return len(self.served)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        window = self._windows[number]
        rows = self.served[window]
        asked = to_pixels(self.prompts.rows.iloc[rows], self.scene.geobox)
        return RefineTask(self.stage, self.scene, window, tuple(asked), tuple(rows.tolist()))


@dataclass(frozen=True)
class JoinTask:
    """Makes features of outlines: without overlaps, or united from pieces, then shaped and measured.

    outlines: id, class, score, origin, FIGURES, geometry.
    united: rows of one id are pieces of one region.
    gsd_m: size of a pixel that the outlines were traced on.
    within: grounds that the result is cut at, one after the other.
    coarse_m: size of a pixel that coarse outlines were traced on.
    """

    outlines: gpd.GeoDataFrame
    united: bool
    shape: Shape
    gsd_m: float
    within: tuple[shapely.Geometry, ...]
    coarse_m: float = 0.0

    @cached_property
    def key(self) -> str:
        """Of outlines and settings."""
        within = tuple(shapely.to_wkb(ground, hex=True) for ground in self.within)
        return key_of("rows", table_hash(self.outlines), self.united, self.shape, self.gsd_m, within, self.coarse_m)

    @property
    def place(self) -> str:
        """The whole layer."""
        return f"{len(self.outlines)} outlines"

    def lighter(self) -> None:
        """None: the layer is joined at once."""

    def __call__(self) -> gpd.GeoDataFrame:
        """Return the features, with `area_m2`, and `unshaped`: why an outline stays as it was traced, else None."""
        joined = union_pieces(self.outlines) if self.united else resolve_overlaps(self.outlines)
        joined = self._shaped(joined.reset_index(drop=True).assign(unshaped=None))
        for ground in self.within:  # after shaping, which would take the cut for an outline
            joined = _cut(joined, ground)
        joined = joined[~joined.geometry.is_empty].reset_index(drop=True)
        return joined.assign(area_m2=area_m2(joined.geometry))

    def _shaped(self, rows: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
        """Shape all rows, block by block where the stage may."""
        if self.shape.block_m is None:
            return self._shaped_at_once(rows)
        outlines, unshaped = rows.geometry.to_numpy().copy(), np.full(len(rows), None, object)
        for core, known in blocks_of(rows.geometry, self.shape.block_m, 2 * self.shape.reach_m):
            shaped = self._shaped_at_once(rows.iloc[known]).iloc[np.searchsorted(known, core)]
            outlines[core], unshaped[core] = shaped.geometry.to_numpy(), shaped["unshaped"].to_numpy()
        return rows.assign(unshaped=unshaped).set_geometry(gpd.GeoSeries(outlines, rows.index, rows.crs))

    def _shaped_at_once(self, rows: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
        """Shape rows, but for those whose outlines GEOS cannot work with: these stay as they were traced."""
        try:
            return self.shape.shape(rows, self.gsd_m, coarse_m=self.coarse_m) if len(rows) else rows
        except shapely.errors.ShapelyError as error:
            reasons = [self._reason(rows.iloc[[at]]) for at in range(len(rows))]
            sound = np.array([reason is None for reason in reasons])
            if sound.all():  # none alone: it takes several, and nobody knows which
                return rows.assign(unshaped=f"{type(error).__name__}: {error}")
            left = rows[~sound].assign(unshaped=[reason for reason in reasons if reason is not None])
            both = pd.concat([self._shaped_at_once(rows[sound]), left]).sort_index()
            return gpd.GeoDataFrame(both, geometry="geometry", crs=rows.crs)

    def _reason(self, row: gpd.GeoDataFrame) -> str | None:
        """Why an outline cannot be shaped; None where it can."""
        try:
            self.shape.shape(row, self.gsd_m, coarse_m=self.coarse_m)
        except shapely.errors.ShapelyError as error:
            return f"{type(error).__name__}: {error}"
        return None


def _cut(rows: gpd.GeoDataFrame, ground: shapely.Geometry) -> gpd.GeoDataFrame:
    """Return rows, those cut that reach beyond a ground; the others keep their coordinates to the last digit."""
    beyond = ~shapely.covered_by(rows.geometry.to_numpy(), ground)
    if not beyond.any():
        return rows
    cut = rows[beyond].clip(ground, keep_geom_type=True)
    both = pd.concat([rows[~beyond], cut]).sort_index().reset_index(drop=True)
    return gpd.GeoDataFrame(both, geometry="geometry", crs=rows.crs)


def describe(window: Window) -> str:
    """Return a window's place in words."""
    return f"window at column {window.col}, row {window.row}, {window.width} x {window.height} px"

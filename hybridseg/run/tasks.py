"""The work of a run as values: a stage with its place, frozen and picklable; a key names all that decides it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
import shapely.errors
from odc.geo.geobox import GeoBox

from hybridseg.heatmap import Heatmap, HeatmapPart
from hybridseg.read.scene import Scene
from hybridseg.read.tiles import tile
from hybridseg.rowfile import PackedRows
from hybridseg.run.extents import to_pixels
from hybridseg.run.provenance import Provenance
from hybridseg.run.store import key_of
from hybridseg.run.sweeps import Results
from hybridseg.tables import FIGURES, Prompts, Refined
from hybridseg.types import Window
from hybridseg.what import Objects
from hybridseg.what.classify import Classify, Network
from hybridseg.what.lattice import Block, Lattice
from hybridseg.where.refine import Mask, Prompt, Refine


def lineage_of(scene: Scene, network: Network) -> dict[str, Any]:
    """Return what a heatmap of a scene is made of."""
    request = {"scene": scene.name, "bands": list(scene.bands), "classes": list(network.spec.classes)}
    return Provenance.collect(scene, {network.name: network.sha256}, request).to_dict()


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

    prompts: the geometries of all prompts.
    served: windows with the rows of `prompts` that each serves.
    """

    stage: Refine
    scene: Scene
    prompts: PackedRows
    served: Mapping[Window, np.ndarray]

    def gather(self, results: Results, prompts: Prompts) -> Refined:
        """Return all prompts with the masks that the tasks gave."""
        outlines = np.full(len(prompts), None, object)
        figures = np.full((len(prompts), len(FIGURES)), np.nan)
        for task, masks in results:
            outlines[list(task.rows)] = shapely.to_wkb(masks.geometry.to_numpy())  # objects take twice the room
            figures[list(task.rows)] = masks[list(FIGURES)].to_numpy()
        return Refined.from_prompts(prompts, outlines, figures)

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
        asked = to_pixels(self.prompts.take(rows), self.scene.geobox)
        return RefineTask(self.stage, self.scene, window, tuple(asked), tuple(rows.tolist()))


def describe(window: Window) -> str:
    """Return a window's place in words."""
    return f"window at column {window.col}, row {window.row}, {window.width} x {window.height} px"

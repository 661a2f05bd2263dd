"""The work of a run as values: a stage with its place, frozen and picklable; a key names all that decides it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from hybridseg.heatmap import Heatmap, HeatmapPart
from hybridseg.read.scene import Scene
from hybridseg.run.store import key_of
from hybridseg.shape import Shape
from hybridseg.shape.measure import area_m2
from hybridseg.shape.overlaps import resolve_overlaps, union_pieces
from hybridseg.tables import FIGURES
from hybridseg.types import Window
from hybridseg.what import Objects
from hybridseg.what.classify import Classify
from hybridseg.what.lattice import Block, Lattice
from hybridseg.where.refine import Mask, Prompt, Refine


@dataclass(frozen=True)
class ClassifyTask:
    """Makes one part of the heatmap.

    scene: as the network takes it.
    grid: the working grid.
    core: the window of the grid whose heatmap is wanted.
    raster: where the whole scene lies on the grid.
    """

    stage: Classify
    scene: Scene
    grid: GeoBox
    core: Window
    raster: Window

    @property
    def key(self) -> str:
        """Of network, halo, scene and window."""
        network, halo_px = self.stage.network, self.stage.windows.halo_px
        look = (network.sha256, network.spec, self.stage.scales, halo_px)
        made_of = (*look, self.scene.fingerprint, self.grid, self.core, self.raster)
        return key_of("part", *made_of)

    @property
    def place(self) -> str:
        """The core."""
        return describe(self.core)

    def __call__(self) -> HeatmapPart:
        """Read core and halo, return the heatmap of the core."""
        return self.stage(self.scene, self.grid, self.core, self.raster)


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

    @property
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

    def __call__(self) -> gpd.GeoDataFrame:
        """Return the masks, a row a prompt: `FIGURES` and outline."""
        masks: list[Mask] = self.stage(self.scene, self.window, self.prompts)
        figures = {name: np.array([getattr(mask, name) for mask in masks], float) for name in FIGURES}
        outlines = [mask.outline for mask in masks]
        return gpd.GeoDataFrame(figures, geometry=outlines, crs=self.scene.crs)


@dataclass(frozen=True)
class JoinTask:
    """Makes features of outlines: without overlaps, or united from pieces, then shaped and measured.

    outlines: id, class, score, origin, FIGURES, geometry.
    united: rows of one id are pieces of one region.
    gsd_m: size of a pixel that the outlines were traced on.
    within: extent that the result is cut at; None: it is whole.
    coarse_m: size of a pixel that coarse outlines were traced on.
    """

    outlines: gpd.GeoDataFrame
    united: bool
    shape: Shape
    gsd_m: float
    within: tuple[float, float, float, float] | None = None
    coarse_m: float = 0.0

    @property
    def key(self) -> str:
        """Of outlines and settings."""
        values = self.outlines.drop(columns="geometry").to_csv()
        shapes = hashlib.sha256(b"\0".join(shapely.to_wkb(self.outlines.geometry.to_numpy()))).hexdigest()
        return key_of("rows", values, shapes, self.united, self.shape, self.gsd_m, self.within, self.coarse_m)

    @property
    def place(self) -> str:
        """The whole layer."""
        return f"{len(self.outlines)} outlines"

    def __call__(self) -> gpd.GeoDataFrame:
        """Return the features, with `area_m2`."""
        joined = union_pieces(self.outlines) if self.united else resolve_overlaps(self.outlines)
        joined = joined.reset_index(drop=True)
        if len(joined):
            joined = self.shape.shape(joined, self.gsd_m, coarse_m=self.coarse_m)
        if self.within is not None:  # after shaping, which would take the cut for an outline
            joined = joined.clip(shapely.box(*self.within), keep_geom_type=True, sort=True).reset_index(drop=True)
        return joined.assign(area_m2=area_m2(joined.geometry))


def describe(window: Window) -> str:
    """Return a window's place in words."""
    return f"window at column {window.col}, row {window.row}, {window.width} x {window.height} px"

"""The heart: a survey is a scene, a theme and models; its methods are the steps of the work, in order.

what:   scene -> heatmap -> prompts
where:  prompts -> windows -> refined masks
then:   refined masks -> gate -> join -> shape -> features
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import geopandas as gpd
import numpy as np
from odc.geo.geobox import GeoBox

from hybridseg import nn
from hybridseg.errors import PromptsError, ThemeError, TooCoarse
from hybridseg.heatmap import Heatmap, create_heatmap
from hybridseg.read import ground
from hybridseg.read.ground import pixel_anchor, work_grid
from hybridseg.read.opening import SceneOnGrid
from hybridseg.read.scene import Scene
from hybridseg.read.tiles import tile
from hybridseg.run.calibration import calibrated
from hybridseg.run.engine import Engine, Serial, Task
from hybridseg.run.extents import bordered, grow, neighbourhood, place_on, to_pixels
from hybridseg.run.progress import Progress, Quiet
from hybridseg.run.result import Result, Steps
from hybridseg.run.store import Memory, Store, key_of
from hybridseg.run.tasks import ClassifyTask, FindTask, JoinTask, RefineTask
from hybridseg.tables import FIGURES, Features, Prompts, Refined, within
from hybridseg.theme import Theme
from hybridseg.types import FEATURE_COLUMNS, Extent, Failure, Sweep, Window
from hybridseg.what.classify import Classify, view_for
from hybridseg.what.lattice import Lattice
from hybridseg.where.refine import Refine
from hybridseg.where.windows import ObjectWindows

BLOCK_PX = 2048
"""Side of the blocks in which objects are found on the heatmap."""
NEAR_M = 10.0
"""Refined outlines may leave their supports by so much and meet a neighbour's."""


@dataclass(frozen=True)
class Survey:
    """One theme looked for in one scene. Every value it gives is a function of these fields.

    scene: the imagery.
    theme: what to look for.
    models: what to look with.
    store: remembers heatmap, prompts and masks.
    engine: runs the tasks.
    progress: is told how far each sweep is.
    core_px, offset_px: tiling of the first sweep; they must not matter to the result.
    reach_m: least ground around an extent whose heatmap is made, where surveys of several themes share it.

    Raises `ThemeError` where the classifier does not know the theme's class, `TooCoarse` where the scene is coarser
    than the theme or the classifier allows.
    """

    scene: Scene
    theme: Theme
    models: nn.models.Models
    store: Store = field(default_factory=Memory)
    engine: Engine = Serial()
    progress: Progress = field(default_factory=Quiet)
    core_px: int = 1024
    offset_px: int = 0
    reach_m: float = 0.0

    def __post_init__(self) -> None:
        spec, theme = self.models.classifier.spec, self.theme
        if theme.label not in spec.classes:
            known = f"its classifier {theme.classifier} knows {', '.join(spec.classes)}"
            advice = "give one of these as the theme's `label:`, or another classifier"
            raise ThemeError(f"theme {theme.name} looks for {theme.label}, but {known}; {advice}")
        coarsest_m = theme.max_gsd_m or spec.coarsest_gsd_m
        # a tenth to spare: 0.6 m imagery in a projected CRS may measure 0.62 m on the ground
        if self.scene.gsd_m > 1.1 * coarsest_m:
            pixels = f"{self.scene.name} has {self.scene.gsd_m:.2g} m pixels"
            advice = "use finer imagery or a theme whose model was trained on yours"
            raise TooCoarse(f"{pixels}; theme {theme.name} needs {coarsest_m:g} m or finer: {advice}")

    @classmethod
    def open(
        cls,
        scene: Scene,
        theme: Theme,
        refiner: str | None = None,
        device: str = "auto",
        *,
        store: Store | None = None,
        progress: Progress | None = None,
        reach_m: float = 0.0,
    ) -> Survey:
        """Open a theme's models and make a survey of a scene with them.

        Args:
            scene: as `open_scene` gives it.
            theme: as `load_theme` gives it.
            refiner: name or path of the one to use, or `none`; default: the theme's.
            device: auto, cpu, cuda, cuda:1, mps.
            store: as the field.
            progress: as the field.
            reach_m: as the field.

        Raises:
            WeightsError: a model cannot be found or does not fit.
        """
        store = store or Memory()
        shared = theme.prompts.windows == "shared"
        models = nn.models.Models.open(theme.classifier, refiner or theme.refiner, device, shared, store.folder)
        return cls(scene, theme, models, store, progress=progress or Quiet(), reach_m=reach_m)

    def heatmap(self, extent: Extent | None = None) -> Heatmap:
        """Classify the scene, or an extent (left, bottom, right, top in its CRS) and what surrounds it.

        Raises:
            EmptySource: the extent does not touch the scene.
            RunError: every window failed.
        """
        network = self.models.classifier
        stage, view, spec = self._classify, view_for(self.scene, network), network.spec
        grid, raster = self._working_grid(extent)
        look = (network.sha256, spec, stage.scales, self.models.shared, stage.windows.halo_px)
        made_of = (view.fingerprint, *look, grid)
        key = key_of("heatmap", *made_of, self.core_px, self.offset_px)
        if (known := self.store.load(key)) is not None:
            return known
        cores = stage.windows.cores((grid.height, grid.width), self.core_px, self.offset_px)
        tasks = [ClassifyTask(stage, view, grid, core, raster) for core in cores]
        # the file goes with the heatmap, unless the store keeps it
        own = Memory(self.store.folder if self.store.keeps_parts else None)
        path = own.folder / "heatmap.tif"
        with create_heatmap(path, grid.zoom_out(spec.stride), spec.classes) as file:
            sweep = self._sweep("classify", tasks, lambda _, part: file.write(part))
        # with gaps it is another heatmap, named by its content: what is found on it is not what the whole one holds
        made = Heatmap.open(path, "" if sweep.failures else key)
        made = replace(made, sweep=sweep, owner=own)
        if not sweep.failures:
            self.store.save(key, made)
        return made

    def prompts(self, extent: Extent | None = None) -> Prompts:
        """Find the heatmap's objects, each once; regions in pieces. With an extent, its own and their neighbours."""
        return self._find(self.heatmap(extent), extent)

    def _find(self, heatmap: Heatmap, extent: Extent | None) -> Prompts:
        theme, lattice = self.theme, Lattice.of(heatmap.geobox, self.scene)
        key = key_of("prompts", heatmap.fingerprint, theme.objects, theme.label, theme.shape.reach_m, extent)
        if (known := self.store.load(key)) is not None:
            return known
        blocks = tile((heatmap.geobox.height, heatmap.geobox.width), BLOCK_PX)
        tasks = [FindTask(theme.objects, heatmap, lattice, theme.label, block) for block in blocks]
        parts: dict[Window, gpd.GeoDataFrame] = {}

        def keep(task: FindTask, found: gpd.GeoDataFrame) -> int:
            parts[task.core] = found
            return len(found)

        sweep = self._sweep("find objects", tasks, keep)
        found = theme.objects.gather([parts[block] for block in blocks if block in parts], lattice, theme.label)
        if extent is not None and not theme.objects.in_pieces:
            near_m = max(NEAR_M, theme.shape.reach_m, 4 * lattice.pixel_m)
            found = found.take(neighbourhood(found, extent, near_m, self.scene))
        found = replace(found, sweep=sweep)
        if not sweep.failures and not heatmap.sweep.failures:
            self.store.save(key, found)
        return found

    def refine(self, prompts: Prompts) -> Refined:
        """Ask the refiner about each prompt; masks and figures of all, in order, before the gate.

        Raises:
            PromptsError: objects share an id.
            RunError: every window failed.
        """
        self._check_ids(prompts.rows)
        refiner = self.models.refiner
        if refiner is None or not len(prompts):
            return Refined.from_prompts(prompts)
        scene, objects = self._refiner_view, self.theme.objects
        asked = to_pixels(prompts, scene.geobox)
        windows = self._object_windows(refiner.size_px, pixel_anchor(scene.geobox))
        wanted = bordered(asked) if objects.in_pieces else None
        served, _ = windows.assign(np.array([prompt.box for prompt in asked]), wanted)
        stage = Refine(refiner, self.theme.prompts)
        tasks = [
            RefineTask(stage, scene, window, tuple(asked[row] for row in rows), tuple(rows.tolist()))
            for window, rows in served.items()
        ]
        outlines = np.full(len(prompts), None, object)
        figures = np.full((len(prompts), len(FIGURES)), np.nan)

        def keep(task: RefineTask, masks: gpd.GeoDataFrame) -> int:
            outlines[list(task.rows)] = masks.geometry.to_numpy()
            figures[list(task.rows)] = masks[list(FIGURES)].to_numpy()
            return len(masks)

        sweep = self._sweep("refine", tasks, keep)
        in_raster = windows.count(scene.window, {window.width for window in served})
        return Refined.from_prompts(prompts, list(outlines), figures, replace(sweep, in_raster=in_raster))

    def features(self, refined: Refined, extent: Extent | None = None) -> Features:
        """Choose refined or coarse outlines by the gate, free them of overlaps, shape and measure them.

        With an extent, only its own: objects whose peak lies inside, regions cut at its border.

        Raises:
            PromptsError: objects share an id.
        """
        self._check_ids(refined.rows)
        united, rows = self.theme.objects.in_pieces, refined.rows
        drawn = self.theme.gate.choose(refined)
        gsd_m = ground.gsd_m(self._refiner_view.geobox)
        coarse_m = ground.gsd_m(self._working_grid(None)[0].zoom_out(self.models.classifier.spec.stride))
        task = JoinTask(drawn, united, self.theme.shape, gsd_m, extent if united else None, coarse_m)
        joined: list[gpd.GeoDataFrame] = []
        sweep = self._sweep("shape", [task], lambda _, found: joined.append(found))
        found = joined[0]
        if extent is not None and not united:
            found = found[found["id"].isin(rows["id"][within(rows, extent)])].reset_index(drop=True)
        return Features(found[list(FEATURE_COLUMNS)], sweep, 0 if united else len(drawn) - len(joined[0]))

    def steps(self, extent: Extent | None = None) -> Steps:
        """Make every value in turn: heatmap, prompts, refined masks, features with calibrated scores."""
        heatmap = self.heatmap(extent)
        prompts, lattice = self._find(heatmap, extent), Lattice.of(heatmap.geobox, self.scene)
        refined = self.theme.objects.relabel(self.refine(prompts), heatmap, lattice, self.theme.label)
        return replace(self.steps_from(refined, extent), heatmap=heatmap, prompts=prompts)

    def steps_from(self, refined: Refined, extent: Extent | None = None, scored: bool = True) -> Steps:
        """Make the features of masks that are there already.

        Args:
            refined: masks before the gate.
            extent: as of `features`.
            scored: whether the prompts' scores are the classifier's own, to be calibrated.
        """
        features, notes = self.features(refined, extent), list[str]()
        if scored:
            rows, notes = calibrated(features.rows, self.theme, self.models.refiner_name, self.models.classifier.card)
            features = replace(features, rows=rows)
        return Steps(self.theme, self.models.refiner_name, None, None, refined, features, tuple(notes))

    def run(self, extent: Extent | None = None) -> Result:
        """Find every object of the theme in the scene, or in an extent."""
        return Result.of(self.scene.name, [self.steps(extent)])

    def _sweep(self, name: str, tasks: Sequence[Task], take: Callable[[Any, Any], int | None]) -> Sweep:
        """Run tasks, hand each result to `take` (which returns how many objects it holds), and count."""
        begun, failures = time.monotonic(), list[Failure]()
        self.progress.start(name, len(tasks))
        for done in self.engine.run(tasks, self.store):
            if done.failure is not None:
                failures.append(done.failure)
            self.progress.step((take(done.task, done.value) if done.failure is None else None) or 0)
        return Sweep(len(tasks), 0, time.monotonic() - begun, tuple(failures))

    @property
    def _classify(self) -> Classify:
        network = self.models.classifier
        return Classify(network, self.theme.scales_at(self.theme.gsd_m(self.scene.gsd_m, network.spec.gsd_m)))

    def _working_grid(self, extent: Extent | None) -> tuple[GeoBox, Window]:
        """The grid to classify on, and where the whole scene lies on it."""
        scene, theme, snap_px = self.scene, self.theme, self._classify.snap_px
        gsd_m = theme.gsd_m(scene.gsd_m, self.models.classifier.spec.gsd_m)
        whole = work_grid(scene, gsd_m, snap_px)
        if extent is None:
            return whole, Window(0, 0, whole.width, whole.height)
        work_grid(scene, gsd_m, snap_px, extent)  # refuses an extent beside the scene, before it is grown
        # neighbours must be whole, too
        reach_m = max(self.reach_m, theme.objects.reach_m)
        around = grow(extent, reach_m + max(reach_m, theme.shape.reach_m), scene)
        grid = work_grid(scene, gsd_m, snap_px, around)
        return grid, place_on(grid, whole)

    @cached_property
    def _refiner_view(self) -> Scene:
        """What the refiner reads and traces on: the scene, or the first sweep's grid where both share an encoder."""
        if not self.models.shared:
            return self.scene
        return SceneOnGrid(self.scene, self._working_grid(None)[0])

    def _object_windows(self, size_px: int, anchor: tuple[int, int]) -> ObjectWindows:
        if self.models.shared:
            return ObjectWindows.of_sweep(size_px, anchor)
        settings = self.theme.prompts
        return ObjectWindows(size_px, settings.span, settings.max_zoom, anchor)

    def _check_ids(self, rows: gpd.GeoDataFrame) -> None:
        doubled = rows["id"].duplicated()
        if doubled.any() and not self.theme.objects.in_pieces:
            name = rows["id"][doubled].iloc[0]
            raise PromptsError(
                f"{int(doubled.sum()) + 1} prompts share ids, as {name!r}; give each object one of its own"
            )

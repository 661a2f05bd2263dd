"""The heart: a survey is a scene, a theme and models; its methods are the steps of the work, in order.

what:   scene -> heatmap -> prompts
where:  prompts -> windows -> refined masks
then:   refined masks -> gate -> join -> shape -> features
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import geopandas as gpd
import numpy as np
from odc.geo.geobox import GeoBox

from hybridseg import nn
from hybridseg.folders import TemporaryFolder
from hybridseg.heatmap import Heatmap, create_heatmap
from hybridseg.read import ground
from hybridseg.read.given import GivenHeatmap
from hybridseg.read.ground import pixel_anchor
from hybridseg.read.opening import SceneOnGrid
from hybridseg.read.part import Area
from hybridseg.read.scene import Scene
from hybridseg.read.tiles import tile
from hybridseg.rowfile import PackedRows
from hybridseg.run.engine import Engine, Serial
from hybridseg.run.extents import SHAPES, belonging, boxes_on, check_fits, ground_of, neighbourhood, working_grid
from hybridseg.run.progress import Progress, Quiet
from hybridseg.run.result import Result, Steps, calibrated
from hybridseg.run.shaping import JoinTask, ShapeTasks, cut_and_measured, unshaped
from hybridseg.run.store import Memory, Store, key_of
from hybridseg.run.sweeps import Results, Sweeps, Tally
from hybridseg.run.tasks import ClassifyTask, FindTask, RefineTasks, lineage_of
from hybridseg.tables import Features, Prompts, Refined, check_ids
from hybridseg.theme import Theme
from hybridseg.types import FEATURE_COLUMNS, Extent, Window
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
    """One theme looked for in one scene, or in a part of it. Every value it gives is a function of these fields.

    scene: the imagery.
    theme: what to look for.
    models: what to look with.
    ground: the part that is asked for: an extent (left, bottom, right, top in the scene's CRS) or an area; None: all.
    store: remembers heatmap, prompts and masks.
    engine: runs the tasks.
    progress: is told how far each sweep is.
    core_px, offset_px: tiling of the first sweep; they must not matter to the result.
    reach_m: least ground around an extent whose heatmap is made, where surveys of several themes share it.

    Raises `ThemeError` or `TooCoarse` where these do not go together, see `check_fits`.
    """

    scene: Scene
    theme: Theme
    models: nn.models.Models
    ground: Extent | Area | None = None
    store: Store = field(default_factory=Memory)
    engine: Engine = Serial()
    progress: Progress = field(default_factory=Quiet)
    core_px: int = 1024
    offset_px: int = 0
    reach_m: float = 0.0

    def __post_init__(self) -> None:
        check_fits(self.scene, self.theme, self.models.classifier.spec)

    @classmethod
    def open(
        cls,
        scene: Scene,
        theme: Theme,
        refiner: str | None = None,
        device: str = "auto",
        runtime: str = "auto",
        *,
        ground: Extent | Area | None = None,
        store: Store | None = None,
        engine: Engine = Serial(),
        progress: Progress | None = None,
        reach_m: float = 0.0,
        cache: Path | None = None,
        given: GivenHeatmap | None = None,
    ) -> Survey:
        """Open a theme's models and make a survey of a scene with them.

        Args:
            scene: as `open_scene` gives it.
            theme: as `load_theme` gives it.
            refiner: name or path of the one to use, or `none`; default: the theme's.
            device: auto, cpu, cuda, cuda:1, mps.
            runtime: auto, torch, openvino.
            ground: as the field.
            store: as the field.
            engine: as the field.
            progress: as the field.
            reach_m: as the field.
            cache: folder for embeddings; None: none are kept, but between the sweeps where both share an encoder.
            given: a heatmap that stands in for the theme's classifier, see `open_heatmap`.

        Raises:
            WeightsError: a model cannot be found or does not fit.
        """
        store = store or Memory()
        shared = theme.prompts.windows == "shared"
        cache = cache or (store.folder / "embeddings" if shared else None)
        models = nn.models.Models.open(
            given or theme.classifier, refiner or theme.refiner, device, shared, cache, runtime, theme.label
        )
        return cls(scene, theme, models, ground, store, engine, progress or Quiet(), reach_m=reach_m)

    def heatmap(self) -> Heatmap:
        """Classify the scene, or the part that is asked for and what surrounds it.

        Raises:
            EmptySource: the part does not touch the scene.
            RunError: every window failed.
        """
        network = self.models.classifier
        stage, view, spec = self._classify, view_for(self.scene, network), network.spec
        grid, raster = self._working_grid(self.ground)
        look = (network.sha256, spec, stage.scales, stage.looks, self.models.shared, stage.windows.halo_px)
        key = key_of("heatmap", view.fingerprint, *look, grid, self.core_px, self.offset_px)
        cores = stage.windows.cores((grid.height, grid.width), self.core_px, self.offset_px)
        if isinstance(self.ground, Area):
            cores = self.ground.near(cores, grid, self._around_m, self.scene)
            key = key_of("heatmap", key, cores)
        tasks = [ClassifyTask(stage, view, grid, core, raster) for core in cores]

        def gather(results: Results) -> Heatmap:
            # the file goes with the heatmap, unless the store keeps it
            own = TemporaryFolder(self.store.folder if self.store.keeps_parts else None)
            path = own.path / "heatmap.tif"
            lineage = lineage_of(self.scene, network)
            with create_heatmap(path, grid.zoom_out(spec.stride), spec.classes, lineage) as file:
                for _, part in results:
                    file.write(part)
            return replace(Heatmap.open(path, key), owner=own)

        made, sweep = self._sweeps.value(key, "classify", tasks, gather)
        self.models.end_first_sweep()
        if sweep.failures:  # with gaps it is another heatmap, and what is found on it not what the whole one holds
            made = replace(made, fingerprint=key_of("heatmap", key, [failure.place for failure in sweep.failures]))
        return replace(made, sweep=sweep)

    def prompts(self, heatmap: Heatmap | None = None) -> Prompts:
        """Find the heatmap's objects, each once; regions in pieces. Of a part, its own and their neighbours.

        Args:
            heatmap: that of this survey, where it is there already.
        """
        heatmap = heatmap or self.heatmap()
        theme, lattice = self.theme, Lattice.of(heatmap.geobox, self.scene)
        blocks = tile((heatmap.geobox.height, heatmap.geobox.width), BLOCK_PX)
        tasks = [FindTask(theme.objects, heatmap, lattice, theme.label, block) for block in blocks]

        def gather(results: Results) -> Prompts:
            parts = {task.core: PackedRows.of(found) for task, found in results}
            found = theme.objects.gather([parts[block] for block in blocks if block in parts], lattice, theme.label)
            if self.ground is None or theme.objects.in_pieces:
                return found
            near_m = max(NEAR_M, theme.shape.reach_m, 4 * lattice.pixel_m)
            return found.take(neighbourhood(found, self.ground, near_m, self.scene))

        found, sweep = self._sweeps.value(self._prompts_key(heatmap), "find objects", tasks, gather)
        return replace(found, sweep=sweep)

    def refine(self, prompts: Prompts) -> Refined:
        """Ask the refiner about each prompt; masks and figures of all, in order, before the gate.

        Raises:
            PromptsError: objects share an id.
            RunError: every window failed.
        """
        if not self.theme.objects.in_pieces:
            check_ids(prompts.columns("id"))
        scene, settings = self._refiner_view, self.theme.prompts
        refiner = self.models.looking(settings.looks)
        if refiner is None or not len(prompts):
            return Refined.from_prompts(prompts)
        windows, served = self.windows(prompts)
        asked = PackedRows.chain(map(PackedRows.of, prompts.batches(SHAPES)))
        tasks = RefineTasks(Refine(refiner, settings), scene, asked, served)
        made_of = (refiner.sha256, settings, scene.fingerprint, scene.geobox, self.theme.objects.in_pieces)
        key = key_of("refined", prompts, *made_of, self.models.shared)
        made, sweep = self._sweeps.value(key, "refine", tasks, lambda results: tasks.gather(results, prompts))
        return replace(made, sweep=replace(sweep, in_raster=windows.count(scene.window, {w.width for w in served})))

    def windows(self, prompts: Prompts) -> tuple[ObjectWindows, dict[Window, np.ndarray]]:
        """The windows that the refiner looks through, and those of prompts, each with the rows that it serves."""
        assert self.models.refiner is not None
        scene, size_px, settings = self._refiner_view, self.models.refiner.size_px, self.theme.prompts
        windows = ObjectWindows.of_objects(size_px, settings.span, settings.max_zoom, pixel_anchor(scene.geobox))
        if self.models.shared:
            windows = ObjectWindows.of_sweep(size_px, pixel_anchor(scene.geobox))
        return windows, windows.assign(*boxes_on(prompts, scene.geobox, self.theme.objects.in_pieces))[0]

    def features(self, refined: Refined) -> Features:
        """Choose refined or coarse outlines by the gate, free them of overlaps, shape them within the scene, measure.

        Of a part, only its own: objects whose peak lies inside (those that touch an area), regions cut at its border.

        Raises:
            PromptsError: objects share an id.
        """
        united = self.theme.objects.in_pieces
        if not united:
            check_ids(refined.columns("id"))
        tasks, count = self._shape_tasks(self.theme.gate.choose(refined))
        tally = Tally(len(tasks))
        made = tasks.gather(self._sweeps.results("shape", tasks, tally))
        asked = () if self.ground is None or not united else (ground_of(self.ground),)
        found = made = cut_and_measured(made, (self.scene.geobox.extent.geom, *asked))
        sweep = replace(tally.sweep(), failures=(*tally.sweep().failures, *unshaped(made)))
        if self.ground is not None and not united:
            found = belonging(made, refined.columns("id", "peak_x", "peak_y"), self.ground)
        return Features(found[list(FEATURE_COLUMNS)], sweep, 0 if united else count - len(made))

    def _shape_tasks(self, drawn: gpd.GeoDataFrame) -> tuple[ShapeTasks, int]:
        """Join outlines; return the tasks of shaping, which hold them packed, and how many outlines there were."""
        _, layer = next(self._sweeps.results("join", [JoinTask(drawn, self.theme.objects.in_pieces)], Tally(1)))
        gsd_m = ground.gsd_m(self._refiner_view.geobox)
        coarse_m = ground.gsd_m(self._working_grid(None)[0].zoom_out(self.models.classifier.spec.stride))
        return ShapeTasks.of(layer, self.theme.shape, gsd_m, coarse_m), len(drawn)

    def steps(self) -> Steps:
        """Make every value in turn: heatmap, prompts, refined masks, features with calibrated scores."""
        heatmap = self.heatmap()
        prompts = self.prompts(heatmap)
        refined, found = self.relabel(self.refine(prompts), heatmap), prompts.sweep
        again = partial(replace, prompts) if found.failures else partial(self.store.load, self._prompts_key(heatmap))
        del prompts
        return replace(self.steps_from(refined), heatmap=heatmap, load_prompts=again, found=found)

    def steps_from(self, refined: Refined, scored: bool = True) -> Steps:
        """Make the features of masks that are there already; `scored`: their scores are to be calibrated."""
        features, notes = self.features(refined), list[str]()
        if scored:
            rows, notes = calibrated(features.rows, self.theme, self.models.refiner_name, self.models.classifier.card)
            features = replace(features, held=rows)
        return Steps(self.theme, self.models.refiner_name, None, None, refined, features, tuple(notes))

    def run(self) -> Result:
        """Find every object of the theme in the scene, or in the part that is asked for."""
        return Result.of(self.scene, [self.steps()])

    def relabel(self, refined: Refined, heatmap: Heatmap) -> Refined:
        """Decide by the heatmap which masks are the class, where the prompts do not say so already."""
        return self.theme.objects.relabel(refined, heatmap, Lattice.of(heatmap.geobox, self.scene), self.theme.label)

    @property
    def _sweeps(self) -> Sweeps:
        return Sweeps(self.store, self.engine, self.progress)

    def _prompts_key(self, heatmap: Heatmap) -> str:
        theme = self.theme
        return key_of("prompts", heatmap.fingerprint, theme.objects, theme.label, theme.shape.reach_m, self.ground)

    @property
    def _classify(self) -> Classify:
        network = self.models.classifier
        if network.spec.gsd_m is None:  # it looks at pixels one by one: coarser ones tell it nothing
            return Classify(network)
        scales = self.theme.scales_at(self.theme.gsd_m(self.scene.gsd_m, network.spec.gsd_m))
        return Classify(network, scales, 1 if self.models.shared else self.theme.looks)

    def _working_grid(self, part: Extent | Area | None) -> tuple[GeoBox, Window]:
        """The grid to classify a part on, and where the whole scene lies on it."""
        network, snap_px = self.models.classifier, self._classify.snap_px
        return working_grid(self.scene, self.theme, network, snap_px, part, self._around_m)

    @property
    def _around_m(self) -> float:
        """How far around a part the heatmap must be known: objects are whole there, and so are their neighbours."""
        reach_m = max(self.reach_m, self.theme.objects.reach_m)
        return reach_m + max(reach_m, self.theme.shape.reach_m)

    @cached_property
    def _refiner_view(self) -> Scene:
        """What the refiner reads and traces on: the scene, or the first sweep's grid where both share an encoder."""
        return SceneOnGrid(self.scene, self._working_grid(None)[0]) if self.models.shared else self.scene

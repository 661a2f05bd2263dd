"""The two sweeps, on one screen.

what:   source -> classify -> heatmap (on disk) -> prompts (on disk)
where:  prompts -> windows -> refine (encode once, decode many) -> gate -> outlines
then:   outlines -> join -> shape by theme -> features
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from hybridseg.read import ground
from hybridseg.read.grid import pixel_anchor, work_grid
from hybridseg.read.source import Source
from hybridseg.read.view import OnGrid
from hybridseg.read.windows import tile
from hybridseg.run.engine import Progress, Quiet, serial
from hybridseg.run.policies import finder, lattice_of, shaped
from hybridseg.run.summary import Failure
from hybridseg.shape.join import resolve_overlaps, union_pieces
from hybridseg.shape.measure import area_m2
from hybridseg.theme import RegionPolicy, Theme
from hybridseg.types import FEATURE_COLUMNS, Window
from hybridseg.what.classify import Classify, Network, shown
from hybridseg.what.prompts import within
from hybridseg.where.refine import Prompt, Promptable, Refine, Refined
from hybridseg.where.windows import ObjectWindows
from hybridseg.write.raster import heatmap_sink, open_heatmap

Extent = tuple[float, float, float, float]
BLOCK_PX = 2048
"""Side of the blocks in which objects are found on the heatmap."""
CONTEXT_M = 30.0
"""Objects this far outside an extent are refined too, so that those inside meet the same neighbours as without it."""


@dataclass
class Counts:
    """What the sweeps did."""

    windows_classified: int = 0
    windows_in_raster: int = 0
    windows_refined: int = 0
    prompts: int = 0
    refined: int = 0
    overlapping: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def took(self, sweep: str, begun: float) -> None:
        """Add the time since `begun` (monotonic) to a sweep's."""
        self.seconds[sweep] = self.seconds.get(sweep, 0.0) + time.monotonic() - begun


@dataclass(frozen=True)
class Pipeline:
    """Everything that a run needs besides the source. core_px and offset_px must not matter to the result.

    grid: what the refiner looks at through the first sweep's windows; None: it has windows of its own.
    """

    theme: Theme
    refiner: Promptable | None
    core_px: int = 1024
    offset_px: int = 0
    grid: GeoBox | None = None
    progress: Progress = field(default_factory=Quiet)

    def heatmap(
        self,
        source: Source,
        network: Network,
        gsd_m: float,
        extent: Extent | None,
        path: Path,
        counts: Counts,
        reach_m: float | None = None,
    ) -> None:
        """First sweep: the heatmap of the source, or of an extent and what surrounds it, as a COG.

        reach_m: how far around the extent; more than this theme needs where others share the heatmap.
        """
        begun = time.monotonic()
        work_grid(source, gsd_m, network.spec.snap_px, extent)  # refuses an extent beside the raster
        whole = work_grid(source, gsd_m, network.spec.snap_px)
        reach_m = self.theme.objects.reach_m if reach_m is None else reach_m
        around = None if extent is None else _grow(extent, CONTEXT_M + reach_m, source)
        grid = work_grid(source, gsd_m, network.spec.snap_px, around)
        raster = _place_on(grid, whole)
        classify, seen = Classify(network), shown(source, network)
        cores = classify.cores((grid.height, grid.width), self.core_px, self.offset_px)
        self.progress.start("classify", len(cores))
        names = [f"{name}:{part}" for name in network.spec.classes for part in ("extent", "interior")]
        with heatmap_sink(path, grid.zoom_out(network.spec.stride), names) as sink:
            results = serial(lambda core: classify(seen, grid, core, raster), cores, _place, counts.failures)
            for core, result in results:
                if result is not None:
                    sink.write(*result, _divide(core, network.spec.stride))
                counts.windows_classified += 1
                self.progress.step()
        counts.took("classify", begun)

    def prompts(self, source: Source, heatmap_path: Path, extent: Extent | None, counts: Counts) -> gpd.GeoDataFrame:
        """The heatmap's objects inside the extent or just around it, each once; regions in pieces."""
        begun = time.monotonic()
        around = None if extent is None or self._regions else _grow(extent, CONTEXT_M, source)
        heatmap = open_heatmap(heatmap_path)
        grid = heatmap.geobox
        find = finder(self.theme, lattice_of(grid, source))
        cores = tile((grid.height, grid.width), BLOCK_PX)
        self.progress.start("find objects", len(cores))
        parts = []

        def work(core: Window) -> gpd.GeoDataFrame:
            block = core.pad(find.halo_px).clip(Window(0, 0, grid.width, grid.height))
            values, _ = heatmap.read(block, (f"{self.theme.label}:extent", f"{self.theme.label}:interior"))
            return find(values[0], values[1], block, core)

        for _, found in serial(work, cores, _place, counts.failures):
            if found is not None:
                parts.append(found if around is None else found[within(found, around)])
            self.progress.step(0 if found is None else len(found))
        prompts = find.join(parts)
        counts.took("find objects", begun)
        return prompts

    def refine(self, source: Source, prompts: gpd.GeoDataFrame, counts: Counts) -> list[Refined | None]:
        """Second sweep: what became of each prompt, in order; None where the refiner was not asked."""
        counts.prompts += len(prompts)
        outcome: list[Refined | None] = [None] * len(prompts)
        if self.refiner is None or prompts.empty:
            return outcome
        begun = time.monotonic()
        policy = self.theme.prompts
        seen = source if self.grid is None else OnGrid(source, self.grid)
        objects = _to_pixels(prompts, seen.geobox)
        boxes = np.array([p.support.bounds for p in objects])
        side, anchor = self.refiner.size_px, pixel_anchor(seen.geobox)
        lattice = ObjectWindows(side, policy.span, policy.max_zoom, anchor)
        if self.grid is not None:
            lattice = ObjectWindows.of_sweep(side, anchor)
        windows, _ = lattice.assign(boxes, _bounded(objects) if self._regions else None)
        counts.windows_in_raster += lattice.count(seen.window, {w.width for w in windows})
        stage = Refine(self.refiner, policy, self.theme.gate)
        self.progress.start("refine", len(windows))

        def work(window: Window) -> list[Refined]:
            return stage(seen, window, [objects[row] for row in windows[window]])

        for window, results in serial(work, list(windows), _place, counts.failures):
            for row, result in zip(windows[window], results or [], strict=False):
                outcome[row] = result
            counts.windows_refined += 1
            self.progress.step(len(results or []))
        counts.took("refine", begun)
        return outcome

    def features(
        self,
        source: Source,
        prompts: gpd.GeoDataFrame,
        outcome: list[Refined | None],
        counts: Counts,
        extent: Extent | None = None,
    ) -> gpd.GeoDataFrame:
        """Outlines, refined where the gate let them and coarse elsewhere, without overlaps, shaped and measured.

        Those of the extent only, by their peaks; the others have served as neighbours.
        """
        begun = time.monotonic()
        kept = [r is not None and r.outline is not None for r in outcome]
        verdicts = [None if r is None else r.verdict for r in outcome]
        frame = gpd.GeoDataFrame(
            {
                "id": prompts["id"],
                "class": prompts["class"],
                "score": prompts["score"],
                "origin": pd.Series(np.where(kept, "refined", "coarse"), dtype="string"),
                **{
                    name: pd.Series([np.nan if v is None else getattr(v, name) for v in verdicts], dtype=float)
                    for name in ("iou_pred", "stability", "agreement")
                },
            },
            geometry=[
                r.outline if keep and r else support
                for r, keep, support in zip(outcome, kept, prompts.geometry, strict=True)
            ],
            crs=prompts.crs,
        )
        if self._regions:
            joined = union_pieces(frame)
            if extent is not None:
                joined = joined.clip(shapely.box(*extent), keep_geom_type=True)
        else:
            joined = resolve_overlaps(frame)
            counts.overlapping += len(frame) - len(joined)
        joined = shaped(joined.reset_index(drop=True), self.theme.shape, ground.gsd_m(self.grid or source.geobox))
        if extent is not None and not self._regions:
            joined = joined[joined["id"].isin(prompts["id"][within(prompts, extent)])].reset_index(drop=True)
        joined["area_m2"] = area_m2(joined.geometry)
        counts.refined += int(sum(kept))
        counts.took("shape", begun)
        return joined[list(FEATURE_COLUMNS)]

    @property
    def _regions(self) -> bool:
        return isinstance(self.theme.objects, RegionPolicy)


def _grow(extent: Extent, by_m: float, source: Source) -> Extent:
    """The extent with so much around it, as far as the source reaches."""
    dx, dy = (by_m / scale for scale in source.metres_per_unit)
    left, bottom, right, top = source.geobox.boundingbox.bbox
    grown = (extent[0] - dx, extent[1] - dy, extent[2] + dx, extent[3] + dy)
    return max(grown[0], left), max(grown[1], bottom), min(grown[2], right), min(grown[3], top)


def _bounded(objects: list[Prompt]) -> np.ndarray:
    """Which prompts have a border to refine: a piece of a region that fills its square has none."""
    supports = np.array([p.support for p in objects])
    return np.asarray(shapely.area(supports) < (1 - 1e-6) * shapely.area(shapely.envelope(supports)))


def _place_on(grid: GeoBox, other: GeoBox) -> Window:
    """Where a grid of the same pixels lies on `grid`."""
    col, row = ~grid.affine @ (other.affine.c, other.affine.f)
    return Window(round(col), round(row), other.width, other.height)


def _divide(window: Window, by: int) -> Window:
    return Window(window.col // by, window.row // by, window.width // by, window.height // by)


def _place(window: Window) -> str:
    return f"window at column {window.col}, row {window.row}, {window.width} x {window.height} px"


def _to_pixels(prompts: gpd.GeoDataFrame, geobox: GeoBox) -> list[Prompt]:
    """Prompts from the CRS to the source's pixels."""
    to_px: Affine = ~geobox.affine

    def move(xy: np.ndarray) -> np.ndarray:
        return np.column_stack(
            [to_px.a * xy[:, 0] + to_px.b * xy[:, 1] + to_px.c, to_px.d * xy[:, 0] + to_px.e * xy[:, 1] + to_px.f]
        )

    supports = shapely.transform(prompts.geometry.to_numpy(), move)
    positive = shapely.transform(prompts["positive"].to_numpy(), move)
    negative = shapely.transform(prompts["negative"].to_numpy(), move)
    return [
        Prompt(s, shapely.get_coordinates(p), shapely.get_coordinates(n))
        for s, p, n in zip(supports, positive, negative, strict=True)
    ]

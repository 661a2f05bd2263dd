"""From outlines to features: joined as a whole, shaped block by block, cut and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import shapely.errors

from hybridseg.rowfile import AT_ONCE, PackedRows
from hybridseg.run.store import key_of
from hybridseg.run.sweeps import Results
from hybridseg.shape import Shape
from hybridseg.shape.measure import area_m2, blocks_of
from hybridseg.shape.overlaps import resolve_overlaps, union_pieces
from hybridseg.types import Failure


@dataclass(frozen=True)
class JoinTask:
    """Makes a layer of outlines: without overlaps, or united from pieces.

    outlines: id, class, score, origin, FIGURES, geometry.
    united: rows of one id are pieces of one region.
    """

    outlines: gpd.GeoDataFrame
    united: bool

    @cached_property
    def key(self) -> str:
        """Of outlines and how they are joined."""
        return key_of("rows", self.outlines, self.united)

    @property
    def place(self) -> str:
        """The whole layer."""
        return f"{len(self.outlines)} outlines"

    def lighter(self) -> None:
        """None: the layer is joined at once."""

    def __call__(self) -> gpd.GeoDataFrame:
        """Return the rows that stay."""
        return union_pieces(self.outlines) if self.united else resolve_overlaps(self.outlines)


@dataclass(frozen=True)
class ShapeTask:
    """Shapes the outlines of one block of a layer.

    outlines: all that must be known, as `JoinTask` gives them.
    core: positions of those that are wanted.
    rows: their places in the layer.
    gsd_m: size of a pixel that the outlines were traced on.
    coarse_m: size of a pixel that coarse outlines were traced on.
    """

    outlines: gpd.GeoDataFrame
    core: tuple[int, ...]
    rows: tuple[int, ...]
    shape: Shape
    gsd_m: float
    coarse_m: float

    @cached_property
    def key(self) -> str:
        """Of outlines and settings."""
        return key_of("rows", self.outlines, self.core, self.shape, self.gsd_m, self.coarse_m)

    @property
    def place(self) -> str:
        """The block."""
        left, bottom, right, top = self.outlines.iloc[list(self.core)].total_bounds
        return f"{len(self.core)} outlines in {left:.8g}, {bottom:.8g}, {right:.8g}, {top:.8g}"

    def lighter(self) -> None:
        """None: a block is shaped at once."""

    def __call__(self) -> gpd.GeoDataFrame:
        """Return the core's outlines, empty where none is left, and `unshaped`: why one stays as traced, else None."""
        rows = self.outlines.reset_index(drop=True).assign(unshaped=None)
        shaped = self._shaped_at_once(rows)
        outlines, unshaped = np.full(len(rows), shapely.Polygon(), object), np.full(len(rows), None, object)
        outlines[shaped.index], unshaped[shaped.index] = shaped.geometry.to_numpy(), shaped["unshaped"].to_numpy()
        core = list(self.core)
        return gpd.GeoDataFrame({"unshaped": unshaped[core]}, geometry=outlines[core], crs=rows.crs)

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


@dataclass(frozen=True)
class ShapeTasks(Sequence[ShapeTask]):
    """The tasks of shaping a layer, each made when it is asked for.

    layer: as `JoinTask` gives it.
    blocks: the rows that each is to shape, and those that it must know.
    """

    layer: PackedRows
    blocks: Sequence[tuple[np.ndarray, np.ndarray]]
    shape: Shape
    gsd_m: float
    coarse_m: float

    @classmethod
    def of(cls, layer: gpd.GeoDataFrame, shape: Shape, gsd_m: float, coarse_m: float) -> ShapeTasks:
        """Divide a layer into blocks; what must be shaped at once is one."""
        blocks = [(np.arange(len(layer)),) * 2] if len(layer) else []
        if blocks and shape.block_m is not None:
            blocks = list(blocks_of(layer.geometry, shape.block_m, 2 * shape.reach_m))
            blocks.sort(key=lambda block: -len(block[1]))  # the largest first: processes that share a run end together
        return cls(PackedRows.of(layer), blocks, shape, gsd_m, coarse_m)

    def gather(self, results: Results) -> gpd.GeoDataFrame:
        """Return the layer with the outlines that the tasks gave, and `unshaped`; of those that failed as they were."""
        outlines, unshaped = np.full((2, len(self.layer)), None, object)
        for task, made in results:
            outlines[list(task.rows)] = shapely.to_wkb(made.geometry.to_numpy())  # objects take twice the room
            unshaped[list(task.rows)] = made["unshaped"].to_numpy()
        left = np.flatnonzero(pd.isna(outlines))
        outlines[left] = self.layer.shapes["geometry"].take(left).to_numpy()
        for start in range(0, len(outlines), AT_ONCE):  # all at once, both would be there
            some = slice(start, start + AT_ONCE)
            outlines[some] = shapely.from_wkb(outlines[some])
        rows = self.layer.others.assign(unshaped=unshaped)
        return gpd.GeoDataFrame(rows, geometry=outlines, crs=self.layer.crs)

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        core, known = self.blocks[number]
        outlines = gpd.GeoDataFrame(self.layer.take(known), geometry="geometry")
        wanted = tuple(np.searchsorted(known, core).tolist())
        return ShapeTask(outlines, wanted, tuple(core.tolist()), self.shape, self.gsd_m, self.coarse_m)


def unshaped(rows: gpd.GeoDataFrame) -> list[Failure]:
    """Return which objects stay as they were traced, and why."""
    some = rows.loc[rows["unshaped"].notna(), ["id", "unshaped"]].itertuples(index=False)
    return [Failure(f"object {name}", why) for name, why in some]


def cut_and_measured(rows: gpd.GeoDataFrame, within: Sequence[shapely.Geometry]) -> gpd.GeoDataFrame:
    """Return shaped rows cut at grounds, one after the other, with `area_m2`; those of which nothing is left go."""
    for ground in within:  # after shaping, which would take the cut for an outline
        rows = _cut(rows, ground)
    rows = rows[~rows.geometry.is_empty].reset_index(drop=True)
    return rows.assign(area_m2=area_m2(rows.geometry))


def _cut(rows: gpd.GeoDataFrame, ground: shapely.Geometry) -> gpd.GeoDataFrame:
    """Return rows, those cut that reach beyond a ground; the others keep their coordinates to the last digit."""
    beyond = ~shapely.covered_by(rows.geometry.to_numpy(), ground)
    if not beyond.any():
        return rows
    cut = rows[beyond].clip(ground, keep_geom_type=True)
    both = pd.concat([rows[~beyond], cut]).sort_index().reset_index(drop=True)
    return gpd.GeoDataFrame(both, geometry="geometry", crs=rows.crs)

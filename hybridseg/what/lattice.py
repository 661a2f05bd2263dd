"""Where heatmap pixels lie, and a block of them: what the finders of objects work on."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import geopandas as gpd
import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from hybridseg.heatmap import Heatmap
from hybridseg.read.ground import pixel_anchor
from hybridseg.read.scene import Scene
from hybridseg.rowfile import AT_ONCE, PackedRows
from hybridseg.tables import Prompts, Refined
from hybridseg.types import Settings, Window


@dataclass(frozen=True)
class Lattice:
    """The grid of a heatmap, as a part of the endless lattice anchored at the CRS origin.

    affine: from pixels to the CRS.
    crs: as text.
    anchor: (col, row) of the grid's first pixel on the endless lattice.
    pixel_m: side of a pixel on the ground.
    """

    affine: Affine
    crs: str
    anchor: tuple[int, int]
    pixel_m: float

    @classmethod
    def of(cls, grid: GeoBox, scene: Scene) -> Lattice:
        """Return the lattice of a north-up grid of a scene's CRS."""
        mx, my = scene.metres_per_unit
        pixel_m = float(np.sqrt(grid.affine.a * mx * -grid.affine.e * my))
        return cls(grid.affine, str(scene.crs), pixel_anchor(grid), pixel_m)

    def identity(self, label: str, col: int, row: int) -> str:
        """Return the id of an object whose peak is at this pixel: the same in every run over the same ground."""
        place = f"{label}:{self.crs}:{self.pixel_m:.4f}:{self.anchor[0] + col}:{self.anchor[1] + row}"
        return f"{label}-{hashlib.sha256(place.encode()).hexdigest()[:12]}"

    def to_px(self, xy: np.ndarray) -> np.ndarray:
        """Return (N, 2) coordinates of the CRS as pixels of the grid."""
        return np.column_stack(~self.affine * (xy[:, 0], xy[:, 1]))


@dataclass(frozen=True)
class Block:
    """A piece of one class's heatmap.

    extent, interior: (h, w) float32 in [0, 1], 0 where not valid.
    valid: (h, w) bool.
    window: the place of these (h, w) pixels on the heatmap's grid.
    core: the part of `window` whose objects are wanted; the rest is context.
    """

    extent: np.ndarray
    interior: np.ndarray
    valid: np.ndarray
    window: Window
    core: Window

    @classmethod
    def read(cls, heatmap: Heatmap, label: str, core: Window, halo_px: int) -> Block:
        """Read a core and `halo_px` around it, as far as the heatmap reaches."""
        grid = heatmap.geobox
        window = core.pad(halo_px).clip(Window(0, 0, grid.width, grid.height))
        return cls(*heatmap.read(window, label), window, core)


class ObjectSettings(Settings):
    """Base of the ways to find a class's objects on its heatmap; each kind is one subclass, named in a theme's YAML.

    in_pieces: an object may come as several prompts of one id, which are united after refining.
    counted: objects count one by one (buildings), not by the ground that they cover (water).
    labels_masks: prompts say nothing of the class; `relabel` needs the heatmap once they are refined.
    """

    in_pieces: ClassVar[bool] = False
    counted: ClassVar[bool] = False
    labels_masks: ClassVar[bool] = False

    @property
    @abstractmethod
    def reach_m(self) -> float:
        """How far around an extent the heatmap must be known for the objects inside it."""

    @abstractmethod
    def halo_px(self, lattice: Lattice) -> int:
        """Heatmap pixels to read around a core."""

    @abstractmethod
    def find(self, block: Block, lattice: Lattice, label: str) -> gpd.GeoDataFrame:
        """Find the objects of a core, or the parts of objects that lie in it."""

    @abstractmethod
    def gather(self, parts: Sequence[PackedRows], lattice: Lattice, label: str) -> Prompts:
        """Make prompts of what `find` gave for all blocks, in an order that does not depend on the blocks."""

    def relabel(self, refined: Refined, heatmap: Heatmap, lattice: Lattice, label: str) -> Refined:
        """Decide by the heatmap which masks are the class, where the prompts do not say so already."""
        return refined

    def choices(self) -> Mapping[str, Sequence[float]]:
        """Values that a search may try, by field."""
        return {}


def join_in_order(parts: Sequence[PackedRows], crs: object) -> Prompts:
    """Return all blocks' prompts from top to bottom, then left to right."""
    if not any(map(len, parts)):
        return Prompts.from_records([], crs)
    joined = PackedRows.chain(parts)
    order = np.lexsort((joined.others["peak_x"], -joined.others["peak_y"]))
    some = (joined.take(order[start : start + AT_ONCE]) for start in range(0, len(order), AT_ONCE))
    return Prompts.from_batches((Prompts.from_frame(frame, crs).rows for frame in some), len(order))


def deepest(depth: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (N, 2) row and column of the highest pixel under each label; of several, the topmost, then the leftmost.

    A heatmap's steps make plateaus, so which of its pixels stands for an object must not be left to chance.

    Args:
        depth: (h, w).
        labels: (h, w) int, 0 none, 1 to N each somewhere.
    """
    rows, cols = np.nonzero(labels)
    label = labels[rows, cols]
    order = np.lexsort((cols, rows, -depth[rows, cols], label))
    first = order[np.unique(label[order], return_index=True)[1]]
    return np.stack([rows[first], cols[first]], axis=1)


def multiples(value: float, factors: Sequence[float]) -> list[float]:
    """Return multiples of a setting (of 1 where it is 0) for a search to try."""
    return [round((value or 1.0) * factor, 4) for factor in factors]

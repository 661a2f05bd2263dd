"""Which window each object is refined in: whole, with a margin, at a zoom that suits its size.

Windows of one size form a lattice anchored in the CRS, with overlaps wide enough that every object that suits the size
lies whole inside the window whose cell holds its centre. So an object's window depends on the object alone, not on the
extent asked for nor on its neighbours, and near objects of like size share one encode.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from hybridseg.types import Window, core_px

MARGIN = 0.05
"""Least share of the window's side between an object's box and the window's edge, for an image of `USUAL_PX`."""
USUAL_PX = 512
"""Side of the image that shares of a window were chosen for. In a larger one an object is seen as large as in this one,
and takes a smaller share of it: so windows lie further apart, and fewer of them do."""
STEPS = (1.0, 1.5)
"""Window sizes are these times powers of two."""
LEAST_ZOOM = 1 / 32
"""Of the largest window; what needs a larger one keeps its coarse outline."""
_BAND_PX = 16384
"""Windows are worked through in bands of so many rows, so that near ones follow each other."""


@dataclass(frozen=True)
class ObjectWindows:
    """Assigns boxes to windows of the source's pixel grid.

    model_px: side of the refiner's image; span: most of a window's side that a box may take; max_zoom: most that source
    pixels are enlarged; anchor: the raster's first pixel on the CRS-anchored lattice (read.ground.pixel_anchor);
    margin: least share of the window's side between a box and the window's edge.
    """

    model_px: int
    span: float
    max_zoom: float
    anchor: tuple[int, int]
    margin: float = MARGIN

    def __post_init__(self) -> None:
        if not 0 < self.span < 1 - 2 * self.margin:
            raise ValueError(f"span must be between 0 and {1 - 2 * self.margin}, got {self.span}")

    @classmethod
    def of_objects(cls, model_px: int, span: float, max_zoom: float, anchor: tuple[int, int]) -> ObjectWindows:
        """The windows that suit objects one by one.

        span: as for an image of `USUAL_PX`, so that the zoom of an object does not depend on the refiner.
        """
        share = min(1.0, USUAL_PX / model_px)
        return cls(model_px, span * share, max_zoom, anchor, MARGIN * share)

    @classmethod
    def of_sweep(cls, model_px: int, anchor: tuple[int, int]) -> ObjectWindows:
        """The windows that a sweep with images of `model_px` looks through, for what fits them; larger ones besides."""
        return cls(model_px, 1 - 2 * MARGIN - core_px(model_px) / model_px, 1.0, anchor)

    @property
    def sizes_px(self) -> list[int]:
        """Window sides on offer, in source pixels, ascending."""
        smallest = self.model_px / self.max_zoom
        power = 2 ** int(np.floor(np.log2(smallest)))
        sizes = [round(step * power * 2**k) for k in range(16) for step in STEPS]
        return [size for size in sizes if smallest <= size <= self.model_px / LEAST_ZOOM]

    def step_px(self, size_px: int) -> int:
        """Distance between windows of one size: what is left of the side after box and margins."""
        return int(size_px * (1 - self.span - 2 * self.margin) + 1e-6)  # a whole number may come out just below itself

    def assign(
        self, boxes: np.ndarray, wanted: np.ndarray | None = None
    ) -> tuple[dict[Window, np.ndarray], np.ndarray]:
        """Windows with the rows of the boxes they serve, and the rows that are too large for any.

        boxes: (N, 4) float, x0, y0, x1, y1 in source pixels; wanted: (N,) bool, rows to serve, all by default.
        """
        side = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
        # a lone click has no size: it gets the scene's own zoom
        side = np.where(side > 0, side, self.model_px * self.span)
        sizes = np.array(self.sizes_px)
        level = np.searchsorted(sizes * self.span, side)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + self.anchor
        served: dict[Window, list[int]] = defaultdict(list)
        wanted = np.ones(len(boxes), bool) if wanted is None else wanted
        for row in np.flatnonzero((level < len(sizes)) & wanted):
            size = int(sizes[level[row]])
            step = self.step_px(size)
            cell = np.floor(centre[row] / step).astype(int)
            corner = cell * step + step // 2 - size // 2 - self.anchor
            served[Window(int(corner[0]), int(corner[1]), size, size)].append(int(row))
        ordered = sorted(served, key=lambda w: (w.row // _BAND_PX, w.width, w.row, w.col))
        return {window: np.array(served[window]) for window in ordered}, np.flatnonzero(level == len(sizes))

    def count(self, raster: Window, sizes_px: set[int]) -> int:
        """Windows that a full cover of the raster at these sizes would encode."""
        total = 0
        for size in sizes_px:
            step = self.step_px(size)
            spans = [
                (a // step, (a + n - 1) // step)
                for a, n in zip(self.anchor, (raster.width, raster.height), strict=True)
            ]
            total += (spans[0][1] - spans[0][0] + 1) * (spans[1][1] - spans[1][0] + 1)
        return total

"""Training and validation ground, by blocks with a guard band between them.

Neighbouring pixels resemble each other, so that a random split would praise what has only been learnt by heart (Roberts
et al. 2017, Cross-validation strategies for data with temporal, spatial, hierarchical structure, Ecography 40).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from scipy import ndimage as ndi

from hybridseg.errors import ThemeError


@dataclass(frozen=True)
class Split:
    """Where to learn and where to look how well: (H, W) bool each, apart by the guard band.

    blocks: (row, column, height, width) of the validation blocks, px.
    """

    train: np.ndarray
    validation: np.ndarray
    blocks: list[tuple[int, int, int, int]]

    def area(self, to_crs: Affine) -> shapely.Geometry:
        """The validation blocks, through the grid's affine."""
        boxes = [_box(to_crs, *block) for block in self.blocks]
        return shapely.union_all(boxes)


@dataclass(frozen=True)
class SplitBlocks:
    """Draws validation blocks among those that hold objects.

    share: of the objects, to validate on; across: blocks along the longer side; guard_px: width of the band around
    validation blocks that is not learnt from; seed: draws.
    """

    share: float = 0.25
    across: int = 5
    guard_px: int = 32
    seed: int = 0

    def __call__(self, objects: np.ndarray, valid: np.ndarray) -> Split:
        """Split a scene.

        Args:
            objects: (H, W) int, ids of all classes' objects, 0 none.
            valid: (H, W) bool, where anything is known.

        Raises:
            ThemeError: too few objects, or too close together, to keep some apart.
        """
        height, width = valid.shape
        side = max(16, -(-max(height, width) // self.across))
        corners = [(r, c) for r in range(0, height, side) for c in range(0, width, side)]
        counts = np.array(
            [_count(objects[r : r + side, c : c + side], valid[r : r + side, c : c + side]) for r, c in corners]
        )
        order = np.random.default_rng(self.seed).permutation(np.flatnonzero(counts))
        target = self.share * counts.sum()
        chosen: list[int] = []
        # the block that overshoots least goes first where one must
        for k in order[np.argsort(np.maximum(counts[order] - target, 0), kind="stable")]:
            if counts[chosen].sum() + counts[k] <= max(target, counts[order].min()) * 1.3:
                chosen.append(int(k))
            if counts[chosen].sum() >= target:
                break
        blocks = [(r, c, min(side, height - r), min(side, width - c)) for r, c in (corners[k] for k in chosen)]
        inside = np.zeros(valid.shape, bool)
        for r, c, h, w in blocks:
            inside[r : r + h, c : c + w] = True
        guard = min(self.guard_px, side // 4)
        outside = ~ndi.maximum_filter(inside, 2 * guard + 1)
        split = Split(outside & valid, inside & valid, blocks)
        if len(order) > 1 and self.share > 0.5 and not (objects[split.train] > 0).any():
            raise ThemeError(f"--validation {self.share:g} leaves nothing to learn from; give less, e.g. 0.25")
        if not (objects[split.train] > 0).any() or not (objects[split.validation] > 0).any():
            raise ThemeError(
                f"{len(np.unique(objects)) - 1} labelled objects in {len(order)} blocks are too few or too close to "
                "keep some apart for validation; label objects in at least two parts of the scene"
            )
        return split


def _count(objects: np.ndarray, valid: np.ndarray) -> int:
    return len(np.unique(objects[valid & (objects > 0)]))


def _box(to_crs: Affine, row: int, col: int, height: int, width: int) -> shapely.Polygon:
    corners = np.array([(col, row), (col + width, row), (col + width, row + height), (col, row + height)], float)
    xs = to_crs.a * corners[:, 0] + to_crs.b * corners[:, 1] + to_crs.c
    ys = to_crs.d * corners[:, 0] + to_crs.e * corners[:, 1] + to_crs.f
    return shapely.Polygon(np.column_stack([xs, ys]))

"""Training and validation ground: blocks of a scene, apart by a guard band, with whole objects on one side.

Neighbouring pixels resemble each other, so a random split would reward what has only been memorised (Roberts et al.
2017, Cross-validation strategies for data with temporal, spatial, hierarchical structure, Ecography 40). Validation
ground comes in folds, so that settings can be searched on one and judged on the other, and the other way round
(cross-fitting; Chernozhukov et al. 2018, Double/debiased machine learning, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from rasterio.features import shapes
from scipy import ndimage as ndi

from hybridseg.errors import ThemeError
from hybridseg.labels.images import LabelledImage

_TRAIN = -1
_MOST_SIZE = 0.9
"""Quantile of the objects' lengths that counts as their size."""
_OVERSHOOT = 1.3
"""Validation may hold this many times its share, as blocks come whole."""


@dataclass(frozen=True)
class Split:
    """Where to learn on one scene, and where to validate: (H, W) bool masks that share no object."""

    train: np.ndarray
    folds: tuple[np.ndarray, ...]
    """Validation ground, one mask for each fold."""
    objects: tuple[int, ...]
    """Number of objects in each fold; 0 where a scene has too few blocks for all folds."""
    guard_px: int = 0
    """Least distance of training from validation ground."""
    dropped: int = 0
    """Number of objects on no side, as they straddle the border of one."""

    @property
    def validation(self) -> np.ndarray:
        """All folds."""
        return np.logical_or.reduce(self.folds)

    def area(self, affine: Affine, fold: int | None = None) -> shapely.Geometry:
        """Return the validation ground, or that of one fold, as a polygon, through the grid's affine."""
        mask = self.validation if fold is None else self.folds[fold]
        traced = shapes(mask.astype(np.uint8), mask=mask, transform=affine)
        return shapely.union_all([shapely.geometry.shape(geometry) for geometry, _ in traced])


def cross_fits(objects: Sequence[int]) -> list[tuple[int, int]]:
    """Return pairs (fold to search on, fold to judge on): (0, 1) and (1, 0), or (0, 0) where only one has objects.

    Judged on its own search, as with (0, 0), a model looks better than it is; whoever reports the figures must say so.

    Args:
        objects: number of objects in each fold.
    """
    usable = [fold for fold, count in enumerate(objects) if count]
    if len(usable) == 1:
        return [(usable[0], usable[0])]
    return [(a, b) for a in usable for b in usable if a != b]


@dataclass(frozen=True)
class SplitBlocks:
    """Chooses validation blocks among those that hold objects, at random."""

    share: float = 0.25
    """Share of the objects to validate on."""
    folds: int = 2
    """Parts of the validation ground."""
    across: int = 5
    """Most blocks along the longer side; large objects get fewer, larger blocks."""
    guard_px: int = 32
    """Least width of the band around validation blocks that is not learnt from; large objects get a wider one."""
    seed: int = 0

    def split(self, images: Sequence[LabelledImage]) -> list[Split]:
        """Split scenes, with folds that hold about as many objects each over all of them.

        Raises:
            ThemeError: a scene's objects are too few, or too close together, to keep some apart.
        """
        splits: list[Split] = []
        for image in images:
            held = np.sum([split.objects for split in splits], axis=0) if splits else np.zeros(self.folds, int)
            splits.append(self(image.instances, image.valid, held))
        return splits

    def __call__(self, objects: np.ndarray, valid: np.ndarray, held: np.ndarray | None = None) -> Split:
        """Split one scene.

        The largest blocks that leave at least half of the objects to learn from are taken.

        Args:
            objects: (H, W) int, ids of all classes' objects, 0 none.
            valid: (H, W) bool, where anything is known.
            held: (folds,) objects that each fold has got from other scenes.

        Raises:
            ThemeError: too few objects, or too close together, to keep some apart.
        """
        objects = np.where(valid, objects, 0)
        found = _Objects.of(objects)
        tried = [self._split(objects, valid, found, side, held) for side in self._sides(max(valid.shape), found.size)]
        learnt = [len(np.unique(objects[one.train])) - 1 for one in tried]
        usable = [(one, count) for one, count in zip(tried, learnt, strict=True) if count and any(one.objects)]
        if usable:
            enough = [one for one, count in usable if all(one.objects) and 2 * count >= len(found.ids)]
            return enough[0] if enough else max(usable, key=lambda pair: (all(pair[0].objects), pair[1]))[0]
        if any(tried[0].objects) and self.share > 0.5:
            raise ThemeError(f"--validation {self.share:g} leaves nothing to learn from; give less, e.g. 0.25")
        raise ThemeError(
            f"{len(found.ids)} labelled objects are too few or too close to keep some apart for validation; label "
            "objects in at least two parts of the scene"
        )

    def _sides(self, longest: int, size: int) -> list[int]:
        """Return sides of blocks to try: as large as the objects ask for, then smaller, down to the least."""
        least = max(16, -(-longest // self.across))
        sides = [max(least, min(4 * size, -(-longest // 2)))]
        while sides[-1] > least:
            sides.append(max(least, sides[-1] // 2))
        return sides

    def _split(
        self, objects: np.ndarray, valid: np.ndarray, found: _Objects, side: int, held: np.ndarray | None
    ) -> Split:
        """Return a split by blocks of one side; it may leave a side without objects."""
        ground = self._fold_ground(objects, found, side, held)
        home = np.full(int(objects.max()) + 1, _TRAIN, np.int8)
        home[found.ids] = ground[found.rows, found.cols]
        touches = np.zeros(len(home), bool)
        touches[np.unique(objects[ground != _TRAIN])] = True
        dropped = found.whole & touches & (home == _TRAIN)
        fold_of = np.where(found.whole[objects], home[objects], ground)
        guard = min(max(self.guard_px, found.size), side // 4)
        apart = ~ndi.maximum_filter((fold_of != _TRAIN) | (ground != _TRAIN), 2 * guard + 1)
        gone = dropped[objects]
        # a map of a dropped object may reach a little beyond its label
        around = ndi.maximum_filter(gone, 2 * max(2, guard // 4) + 1) & (objects == 0)
        folds = tuple((fold_of == fold) & valid & ~gone & ~around for fold in range(self.folds))
        counts = tuple(len(np.unique(objects[mask & (objects > 0)])) for mask in folds)
        return Split(apart & valid & ~gone, folds, counts, guard, int(dropped.sum()))

    def _fold_ground(self, objects: np.ndarray, found: _Objects, side: int, held: np.ndarray | None) -> np.ndarray:
        """Return the fold of the ground, (H, W) int8, _TRAIN outside the validation blocks."""
        rows, cols = (np.linspace(0, n, max(1, round(n / side)) + 1).astype(int) for n in objects.shape)
        counts = found.in_blocks(objects, rows, cols)
        totals = np.zeros(self.folds, int) if held is None else held.copy()
        ground = np.full(objects.shape, _TRAIN, np.int8)
        for k in sorted(self._choose(counts), key=lambda k: -counts[k]):  # each to the fold that has least
            fold = int(np.argmin(totals))
            totals[fold] += counts[k]
            r, c = divmod(k, len(cols) - 1)
            ground[rows[r] : rows[r + 1], cols[c] : cols[c + 1]] = fold
        return ground

    def _choose(self, counts: np.ndarray) -> list[int]:
        """Return validation blocks that hold about the share of the objects, one for each fold where there are some."""
        order = np.random.default_rng(self.seed).permutation(np.flatnonzero(counts))
        target = self.share * counts.sum()
        most = max(target, counts[order].min(initial=0)) * _OVERSHOOT
        chosen: list[int] = []
        # the blocks that hold least more than a fold should come first
        for k in order[np.argsort(np.maximum(counts[order] - target / self.folds, 0), kind="stable")]:
            taken = counts[chosen].sum()
            lacking = len(chosen) < self.folds  # a fold without a block is worth more than the share, up to a half
            if (taken < target and taken + counts[k] <= most) or (lacking and taken + counts[k] <= counts.sum() / 2):
                chosen.append(int(k))
        return chosen


@dataclass(frozen=True)
class _Objects:
    """The objects of a scene."""

    ids: np.ndarray
    """(N,) int."""
    rows: np.ndarray
    """(N,) int, row of the centre of each one's bounding box."""
    cols: np.ndarray
    """(N,) int, column of the centre."""
    whole: np.ndarray
    """(ids + 1,) bool: at most half as long as the scene, so that it can lie on one side; others are cut."""
    size: int
    """Length of a large one, px."""

    @classmethod
    def of(cls, objects: np.ndarray) -> _Objects:
        """Return the objects of an (H, W) int layer of ids."""
        boxes = ndi.find_objects(objects)
        ids = np.array([k for k, box in enumerate(boxes, 1) if box is not None], int)
        spans = np.array([[(axis.start, axis.stop) for axis in boxes[k - 1]] for k in ids], int).reshape(-1, 2, 2)
        rows, cols = (spans.sum(2) // 2).T
        lengths = (spans[:, :, 1] - spans[:, :, 0]).max(1, initial=0)
        whole = np.zeros(len(boxes) + 1, bool)
        whole[ids] = lengths <= max(objects.shape) / 2
        return cls(ids, rows, cols, whole, int(np.quantile(lengths, _MOST_SIZE)) if len(ids) else 0)

    def in_blocks(self, objects: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Return (blocks,) counts, row by row: objects with their centre in a block, and parts of those that are cut.

        Args:
            objects: (H, W) int.
            rows: edges of the blocks, px.
            cols: edges of the blocks, px.
        """
        whole = self.whole[self.ids]
        counts, _, _ = np.histogram2d(self.rows[whole], self.cols[whole], (rows, cols))
        cut = np.where(self.whole[objects], 0, objects)
        for r, c in np.ndindex(counts.shape):
            part = cut[rows[r] : rows[r + 1], cols[c] : cols[c + 1]]
            counts[r, c] += len(np.unique(part[part > 0]))
        return counts.astype(int).ravel()

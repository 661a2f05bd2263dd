"""Confidence intervals by drawing blocks of ground: the block bootstrap, and figures as functions of sums over blocks.

Errors of a map are correlated in space (one roof material, one cloud, one annotator), so resampling single objects
would make intervals too narrow. Whole blocks are drawn instead (Hall 1985, Resampling a coverage pattern), the same
draws for all figures. A figure is a function of sums: the drawn blocks are summed first, then divided once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

LEVEL = 0.95
ROUNDS = 1000
FEW_BLOCKS = 10
"""With fewer blocks than this an interval is unreliable."""

_BLOCKS = 100
_OBJECTS_PER_SIDE = 4

Formula = Callable[[np.ndarray], np.ndarray]
"""Computes a figure: sums (..., any shape) in, values (...) out, nan where the figure is not defined."""


@dataclass(frozen=True)
class Figure:
    """A value with its 95 % interval; None where it is not defined (a mean of nothing, an interval of one block)."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Sample:
    """A figure on all blocks and in each draw of blocks.

    Two samples from the same draws can be subtracted: both maps fail on the same blocks, so the interval of their
    difference is narrower than the two intervals suggest.

    Attributes:
        value: the figure on all blocks; nan where it is not defined.
        drawn: (rounds,) float64, the figure in each draw.
    """

    value: float
    drawn: np.ndarray

    def __sub__(self, other: Sample) -> Sample:
        return Sample(self.value - other.value, self.drawn - other.drawn)

    @property
    def figure(self) -> Figure:
        """The value with its percentile interval."""
        if math.isnan(self.value):
            return Figure(None)
        drawn = self.drawn[np.isfinite(self.drawn)]
        if len(drawn) == 0:
            return Figure(self.value)
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Figure(self.value, float(low), float(high))


@dataclass(frozen=True)
class Blocks:
    """A lattice of square blocks over an extent in the metric CRS, numbered by row from the top left corner.

    Attributes:
        left: x of the lattice's left edge (m).
        top: y of its upper edge (m).
        side_m: side of a block.
        rows: number of rows.
        cols: number of columns.
    """

    left: float
    top: float
    side_m: float
    rows: int
    cols: int

    @classmethod
    def over(cls, extent: Sequence[float], object_m: float) -> Blocks:
        """Lay about a hundred blocks over an extent, each at least four typical objects wide.

        Args:
            extent: (left, bottom, right, top) in metres.
            object_m: side of a typical object (m).
        """
        left, bottom, right, top = map(float, extent)
        width, height = max(right - left, 1e-6), max(top - bottom, 1e-6)
        side = max(math.sqrt(width * height / _BLOCKS), _OBJECTS_PER_SIDE * object_m)
        return cls(left, top, side, math.ceil(height / side), math.ceil(width / side))

    @property
    def size(self) -> int:
        """Number of blocks."""
        return self.rows * self.cols

    def of(self, points: np.ndarray) -> np.ndarray:
        """Return the block of each point: (n, 2) in, (n,) int out; points outside belong to the nearest block."""
        col = np.floor((points[:, 0] - self.left) / self.side_m).clip(0, self.cols - 1)
        row = np.floor((self.top - points[:, 1]) / self.side_m).clip(0, self.rows - 1)
        return np.asarray(row * self.cols + col, dtype=int)

    def sums(self, block: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Sum values by block.

        Args:
            block: (n,) int, the block of each row of `values`.
            values: (n, k) or (n,) numbers.

        Returns:
            (size, k) float64, k = 1 for values (n,).
        """
        values = values if values.ndim > 1 else values[:, None]
        total = np.zeros((self.size, values.shape[1]))
        np.add.at(total, block, values)
        return total


@dataclass(frozen=True)
class Bootstrap:
    """Random draws of blocks, with replacement.

    Attributes:
        draws: (rounds, blocks) int, how often each block occurs in each draw.
    """

    draws: np.ndarray

    @classmethod
    def of(cls, occupied: np.ndarray, rounds: int = ROUNDS, seed: int = 0) -> Bootstrap:
        """Draw among the blocks that hold anything, as many in each round as there are.

        Args:
            occupied: (blocks,) bool.
            rounds: number of draws.
            seed: of the random generator.
        """
        held = np.flatnonzero(occupied)
        draws = np.zeros((rounds, len(occupied)), int)
        if len(held) > 1:
            rng = np.random.default_rng(seed)
            draws[:, held] = rng.multinomial(len(held), np.full(len(held), 1 / len(held)), size=rounds)
        return cls(draws)

    def __call__(self, sums: np.ndarray, formula: Formula) -> Sample:
        """Return a figure on all blocks and in each draw.

        Args:
            sums: (blocks, ...) what each block holds.
            formula: computes the figure from sums over blocks, shape (...) or (rounds, ...).
        """
        flat = sums.reshape(len(sums), -1)
        drawn = (self.draws @ flat).reshape(len(self.draws), *sums.shape[1:])
        return Sample(float(formula(sums.sum(axis=0))), formula(drawn))

    def weighted(self, figure: Callable[[np.ndarray], float], rounds: int) -> Sample:
        """Return a figure that is not a function of sums over blocks, such as average precision.

        Args:
            figure: from the weight of each block, (blocks,) int, to a value; nan where it is not defined.
            rounds: use only the first so many draws.
        """
        value = figure(np.ones(self.draws.shape[1], int))
        return Sample(value, np.array([figure(weights) for weights in self.draws[:rounds] if weights.any()]))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return `part` / `whole`, nan where `whole` is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole != 0)


def column_ratio(part: int, whole: int) -> Formula:
    """Return the formula that divides one column of sums (..., k) by another."""
    return partial(_column_ratio, part=part, whole=whole)


def two_sided_f1(sums: np.ndarray) -> np.ndarray:
    """Harmonic mean of the shares found on each side.

    Args:
        sums: (..., 4) part and whole of the prediction, part and whole of the reference.

    Returns:
        (...) float64; 0 where one side has nothing, nan where both have nothing.
    """
    one, two = (np.nan_to_num(ratio(sums[..., i], sums[..., i + 1])) for i in (0, 2))
    return np.where(sums[..., 1] + sums[..., 3] > 0, np.nan_to_num(ratio(2 * one * two, one + two)), np.nan)


def mean_over_classes(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without nan, which marks classes that do not occur; nan where all are nan."""
    there = ~np.isnan(values)
    return ratio(np.where(there, values, 0).sum(axis=-1), there.sum(axis=-1))


def _column_ratio(sums: np.ndarray, part: int, whole: int) -> np.ndarray:
    return ratio(sums[..., part], sums[..., whole])

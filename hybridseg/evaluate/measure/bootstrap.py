"""How sure a figure is: intervals from resampled blocks of ground.

Objects near one another fail together (one roof material, one cloud, one careless labeller), so drawing single objects
would make intervals too narrow. Whole blocks are drawn instead (the block bootstrap; Hall 1985, Resampling a coverage
pattern), all figures from the same draws. A figure is a function of sums: what the drawn blocks hold is summed, and
divided once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_BLOCKS = 100
_OBJECTS_A_SIDE = 4
LEVEL = 0.95
ROUNDS = 1000
FEW_BLOCKS = 10
"""With fewer an interval says little."""


@dataclass(frozen=True)
class Figure:
    """A value with its 95 % interval; None where it is not defined (a mean of nothing, one block alone)."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Sample:
    """A figure on all the ground and in each draw of blocks; nan where it is not defined.

    Two of the same draws can be taken from one another: the interval of a difference is narrower than those of its
    parts suggest, since both fail on the same blocks.
    """

    value: float
    drawn: np.ndarray

    def __sub__(self, other: Sample) -> Sample:
        return Sample(self.value - other.value, self.drawn - other.drawn)

    @property
    def figure(self) -> Figure:
        """The value with its interval."""
        if math.isnan(self.value):
            return Figure(None)
        drawn = self.drawn[np.isfinite(self.drawn)]
        if len(drawn) == 0:
            return Figure(self.value)
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Figure(self.value, float(low), float(high))


@dataclass(frozen=True)
class Lattice:
    """Square blocks over an extent in the metric CRS: rows from its top, columns from its left."""

    left: float
    top: float
    side_m: float
    rows: int
    cols: int

    @classmethod
    def over(cls, bounds: Sequence[float], object_m: float) -> Lattice:
        """About a hundred blocks, none smaller than four typical objects (`object_m`, the side of one) across."""
        left, bottom, right, top = map(float, bounds)
        width, height = max(right - left, 1e-6), max(top - bottom, 1e-6)
        side = max(math.sqrt(width * height / _BLOCKS), _OBJECTS_A_SIDE * object_m)
        return cls(left, top, side, math.ceil(height / side), math.ceil(width / side))

    @property
    def size(self) -> int:
        """How many blocks there are."""
        return self.rows * self.cols

    def of(self, points: np.ndarray) -> np.ndarray:
        """Block of each point (n, 2), (n,) int; points outside go to the nearest block."""
        col = np.floor((points[:, 0] - self.left) / self.side_m).clip(0, self.cols - 1)
        row = np.floor((self.top - points[:, 1]) / self.side_m).clip(0, self.rows - 1)
        return np.asarray(row * self.cols + col, dtype=int)

    def sums(self, block: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Sums of values (n, k), or (n,), by the block (n,) that each lies in: (size, k) float64."""
        values = values if values.ndim > 1 else values[:, None]
        total = np.zeros((self.size, values.shape[1]))
        np.add.at(total, block, values)
        return total


@dataclass(frozen=True)
class Bootstrap:
    """Draws of blocks, with replacement.

    draws: (rounds, blocks) int, how often each block is in each draw.
    """

    draws: np.ndarray

    @classmethod
    def of(cls, holds: np.ndarray, rounds: int = ROUNDS, seed: int = 0) -> Bootstrap:
        """Draw among the blocks (blocks,) bool that hold anything; as many each time as there are."""
        held = np.flatnonzero(holds)
        draws = np.zeros((rounds, len(holds)), int)
        if len(held) > 1:
            rng = np.random.default_rng(seed)
            draws[:, held] = rng.multinomial(len(held), np.full(len(held), 1 / len(held)), size=rounds)
        return cls(draws)

    @property
    def blocks(self) -> int:
        """How many blocks there are to draw from."""
        return int((self.draws.sum(axis=0) > 0).sum())

    def __call__(self, sums: np.ndarray, figure: Callable[[np.ndarray], np.ndarray]) -> Sample:
        """A figure on all blocks and in each draw.

        Args:
            sums: (blocks, ...) what each block holds.
            figure: turns sums over blocks (..., rounds or nothing in front) into values; nan where not defined.
        """
        flat = sums.reshape(len(sums), -1)
        drawn = (self.draws @ flat).reshape(len(self.draws), *sums.shape[1:])
        return Sample(float(figure(sums.sum(axis=0))), figure(drawn))

    def weighted(self, figure: Callable[[np.ndarray], float], rounds: int) -> Sample:
        """The same for a figure that is no function of sums: it is given the weight of each block (blocks,).

        Args:
            figure: from weights to a value, nan where not defined.
            rounds: take this many of the draws only.
        """
        value = figure(np.ones(self.draws.shape[1], int))
        return Sample(value, np.array([figure(weights) for weights in self.draws[:rounds] if weights.any()]))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part` / `whole`, nan where there is no whole."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole != 0)


def over_classes(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis, of the classes that are anywhere; nan where none is."""
    there = ~np.isnan(values)
    return ratio(np.where(there, values, 0).sum(axis=-1), there.sum(axis=-1))

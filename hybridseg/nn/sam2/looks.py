"""A refiner that is shown each image turned and mirrored as well, and gives the mean of its masks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from hybridseg.nn.sam2.embedding import Embedding
from hybridseg.nn.sam2.networks import choose
from hybridseg.nn.sam2.promptable import Promptable
from hybridseg.nn.sam2.shared_encoder import CachedRefiner
from hybridseg.nn.sam2.wrapped import WrappedRefiner
from hybridseg.turns import TURNS, Turn
from hybridseg.types import Chip

BOX = (2, 3)
"""Labels of a box's corners, the upper left and the lower right, which come before all points."""


@dataclass(frozen=True, eq=False)
class Looks(WrappedRefiner):
    """A refiner whose masks are the mean over several looks at an image: as it is, turned and mirrored.

    Averaging over what should make no difference is test-time augmentation (Krizhevsky et al. 2012, section 4.1).

    refiner: looks.
    count: how often: 2, 4 or 8.
    """

    refiner: Promptable | CachedRefiner
    count: int

    @classmethod
    def of(cls, refiner: Promptable | CachedRefiner, count: int) -> Promptable | CachedRefiner | Looks:
        """The refiner with so many looks; as it is for one, and where its encoder takes seconds a look."""
        return refiner if count == 1 or refiner.large else cls(refiner, count)

    def encode(self, chip: Chip) -> tuple[Embedding, ...]:
        """The embedding of each look."""
        return tuple(self.refiner.encode(replace(chip, pixels=turn(chip.pixels))) for turn in self._turns)

    def decode(
        self,
        embedding: tuple[Embedding, ...],
        points: np.ndarray,
        labels: np.ndarray,
        hints: np.ndarray | None,
        agreed: dict[int, bool] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `Promptable.decode`, chosen from the means; `agreed` is not needed, as nothing is decoded on parts."""
        masks, iou = map(torch.from_numpy, self.readings(embedding, points, labels, hints))
        chosen, confidence = choose(masks, iou, torch.from_numpy(labels), hints is not None)
        return chosen.numpy(), confidence.numpy()

    def readings(
        self, embedding: tuple[Embedding, ...], points: np.ndarray, labels: np.ndarray, hints: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `Promptable.readings`: the means of each reading over the looks."""
        # sums, since the masks of all looks at once take several times the room of their mean
        masks, predicted = np.zeros(1, np.float32), np.zeros(1, np.float32)
        for turn, look in zip(self._turns, embedding, strict=True):
            there = self._turned(turn, points, labels)
            found, iou = self.refiner.readings(look, there, labels, None if hints is None else turn(hints))
            masks, predicted = masks + turn.back(found), predicted + iou
        return masks / self.count, predicted / self.count

    @property
    def _turns(self) -> tuple[Turn, ...]:
        return TURNS[: self.count]

    def _turned(self, turn: Turn, points: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Points (N, P, 2) in the turned image, the corners of a box in their order, padding at 0."""
        there = np.where(labels[..., None] < 0, 0, turn.of_points(points, self.size_px)).astype(np.float32)
        boxed = (labels[:, :2] == BOX).all(1)
        corners = there[boxed, :2]
        there[boxed, :2] = np.stack((corners.min(1), corners.max(1)), axis=1)
        return there

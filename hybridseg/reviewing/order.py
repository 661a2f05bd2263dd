"""In which order objects are shown, and what the ones drawn at random say of the whole map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hybridseg.reviewing.objects import Object

AUDIT = 10
"""Each so manieth object in the queue is drawn at random."""
RIGHT_IOU = 0.5
"""A corrected outline was right before if it had this IoU with what a person made of it, as in object F1."""


@dataclass(frozen=True)
class Order:
    """The queue of an extraction; it does not change while objects are decided.

    keys: of all objects: the doubtful ones first, each `AUDIT`th drawn at random.
    drawn: of all objects, in random order: any beginning of it is a fair sample of the map.
    """

    keys: tuple[int, ...]
    drawn: tuple[int, ...]

    @classmethod
    def of(cls, objects: Sequence[Object], seed: int) -> Order:
        """Order objects by disagreement, then by uncertainty.

        Args:
            objects: of the extraction, by key.
            seed: of the random order.
        """
        keys = np.array([one.key for one in objects], int)
        return cls.mixed(keys[doubt(objects)].tolist(), keys, seed)

    @classmethod
    def mixed(cls, doubtful: Sequence[int], keys: Sequence[int] | np.ndarray, seed: int) -> Order:
        """Mix an order with a random one.

        Args:
            doubtful: keys in order, proposals among them.
            keys: those of the map, of which a sample is to speak.
            seed: of the random order.
        """
        drawn = np.random.default_rng(seed).permutation(np.asarray(keys, int)).tolist()
        return cls(tuple(_mixed(doubtful, drawn)), tuple(drawn))

    def __len__(self) -> int:
        return len(self.keys)


def doubt(objects: Sequence[Object]) -> np.ndarray:
    """Return the positions (N,) of objects, the most doubtful first.

    Disagreement is 1 - IoU of SAM2's mask with the heatmap, which neither model's own score shows; in tenths, so that
    among the alike the least certain comes first. A coarse outline has no mask that passed the gate: what there is of
    its agreement counts, else it comes first.
    """
    agreement, score = (np.array([getattr(one, name) for one in objects], float) for name in ("agreement", "score"))
    disagreement = np.ceil(10 * (1 - np.nan_to_num(agreement, nan=0.0)))
    return np.lexsort((np.abs(np.nan_to_num(score, nan=0.5) - 0.5), -disagreement))


@dataclass(frozen=True)
class Estimate:
    """What the random sample says: the share of the map's objects that are right.

    right: of `seen` objects drawn at random.
    low, high: 95 % interval of the share (Wilson 1927); 0 and 1 where none was seen.
    """

    right: int
    seen: int
    low: float
    high: float

    @classmethod
    def of(cls, right: int, seen: int) -> Estimate:
        """Return the estimate of a sample."""
        if not seen:
            return cls(0, 0, 0.0, 1.0)
        from scipy.stats import binomtest  # takes long to import

        interval = binomtest(right, seen).proportion_ci(0.95, "wilson")
        return cls(right, seen, float(interval.low), float(interval.high))


def was_right(before: Object, now: Object) -> bool:
    """Return whether an object of the extraction was right, by what a person made of it.

    Right: accepted or corrected, of the same class, and with `RIGHT_IOU`. Wrong: all else, as a split or merge.
    """
    if now.verdict not in ("accepted", "corrected") or now.label != before.label:
        return False
    common = before.geometry.intersection(now.geometry).area
    return bool(common >= RIGHT_IOU * (before.geometry.area + now.geometry.area - common))


def _mixed(doubtful: Sequence[int], drawn: Sequence[int]) -> Iterator[int]:
    """Each key once: the next that is left of `doubtful`, at each `AUDIT`th place that of `drawn`, while it lasts."""
    used = set[int]()
    sources = iter(doubtful), iter(drawn)
    for place in range(len(doubtful)):
        source = sources[(place + 1) % AUDIT == 0]
        left = (key for source in (source, sources[0]) for key in source if key not in used)
        key = next(left)
        used.add(key)
        yield key

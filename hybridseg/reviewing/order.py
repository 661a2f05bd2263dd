"""In which order objects are shown, and what those drawn at random, and squares of ground, say of the whole map."""

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


_DRAWS = 4000
_PRIOR = 2.0


@dataclass(frozen=True)
class Recall:
    """The share of the real objects that the map as it came shows rightly.

    share: the estimate; None where nothing was sampled.
    low, high: 95 % interval; 0 and 1 where nothing was sampled.
    squares: of ground that were looked over.
    missing: real objects found in them that the map lacks.
    """

    share: float | None
    low: float
    high: float
    squares: int
    missing: float

    @classmethod
    def of(cls, right: np.ndarray, behind: np.ndarray, objects: int, missing: np.ndarray, squares: int) -> Recall:
        """Return what two samples say together.

        With R right objects, H real ones behind wrong objects and M where the map shows nothing, recall is
        R / (R + H + M). R and H come from the objects, M from the squares. The interval is that of 4000 draws of all
        that was not looked at; what was is known. Objects are drawn from the posterior predictive distribution of
        their kinds (Dirichlet and multinomial), missing ones from that of clusters in squares (gamma and Poisson), both
        with Jeffreys' priors (Brown, Cai and DasGupta 2001 and 2003). The size of a cluster is the dispersion of the
        counts (McCullagh and Nelder 1989, 6.2.3); since few squares tell it badly, it is drawn too, from its scaled
        inverse chi-square posterior (Gelman et al. 2013, 2.6) with a prior of `_PRIOR` degrees of freedom around 1.

        Args:
            right: (S,) bool of the objects drawn.
            behind: (S,) number of real objects behind each; 1 where it is right.
            objects: number of all.
            missing: (A,) number of missing objects in each square drawn.
            squares: number of all.
        """
        seen, looked, lacking = len(right), len(missing), float(missing.sum())
        if not seen or not looked:
            return cls(None, 0.0, 1.0, looked, lacking)
        hides = ~right & (behind > 0)
        hidden = float(behind[hides].sum())
        mean = hidden / hides.sum() if hides.any() else 1.0
        known = looked - 1 if lacking else 0
        dispersion = float(missing.var(ddof=1) / missing.mean()) if known else 1.0
        rng = np.random.default_rng(0)
        shares = rng.dirichlet([right.sum() + 0.5, hides.sum() + 0.5, (~right & ~hides).sum() + 0.5], _DRAWS)
        unseen = rng.multinomial(objects - seen, shares)
        cluster = np.maximum(1.0, (_PRIOR + known * dispersion) / rng.chisquare(_PRIOR + known, _DRAWS))
        clusters = rng.poisson(rng.gamma(lacking / cluster + 0.5, (squares - looked) / looked))
        found = right.sum() + unseen[:, 0]
        there = found + hidden + unseen[:, 1] * mean + lacking + cluster * clusters
        low, high = np.quantile(found / np.maximum(there, 1e-9), [0.025, 0.975]).tolist()
        scale = objects / seen
        real = scale * (right.sum() + hidden) + lacking * squares / looked
        share = float(scale * right.sum() / real) if real else None
        return cls(share, low, high, looked, lacking)

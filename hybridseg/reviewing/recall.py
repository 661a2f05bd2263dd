"""How much of what is there the map shows: an estimate from objects and squares of ground, both drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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

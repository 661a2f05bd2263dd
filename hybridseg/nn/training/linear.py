"""Fitting the linear head: scikit-learn on frozen features, from a trained head where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch.nn import functional as F

from hybridseg.errors import ThemeError
from hybridseg.nn.classify.heads import LinearSegmenter, Segmenter

LEAST_DEPTH = 0.05
"""Interior is learnt as a logit, clipped to between this and one less it."""
STRENGTHS = (1e-4, 1e-3, 1e-2)
"""Candidates for scikit-learn's C, the inverse of the L2 penalty, of the logistic regression without a start."""
STRENGTHS_FROM_START = (1e-6, 1e-5)
"""The same for a correction to a start: weaker penalties fit the pixels of a few dozen objects better, lose others."""
PENALTIES = (0.02,)
"""Candidates for the L2 penalty of the ridge regression, a sample, without a start."""
PENALTIES_FROM_START = (0.5, 2.0, 5.0)
"""The same for a correction to a start: stronger, since what the start leaves is mostly noise."""
START_SCALE = 30.0
"""How much the start's logit is enlarged among the features, so that the penalty hardly holds it."""


@dataclass(frozen=True)
class Samples:
    """Labelled pixels of the heatmap's grid.

    features: (N, C) float32.
    extent: (N,) bool.
    interior: (N,) float32 in [0, 1].
    weight: (N,) float32, how many pixels each stands for: some kinds of ground are sampled more densely.
    """

    features: np.ndarray
    extent: np.ndarray
    interior: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class Row:
    """One output of a head: logit = weight @ features + bias.

    weight: (C,) float64.
    bias: of the logit.
    """

    weight: np.ndarray
    bias: float

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Logits (N,) of features (N, C)."""
        return features @ self.weight + self.bias


def start_rows(net: Segmenter, classes: Sequence[str], features: int) -> Mapping[str, tuple[Row, Row]]:
    """Return extent and interior of each class of a trained segmenter, as rows over its pyramid's features.

    Args:
        net: the segmenter, whose pyramid gives the first of the features.
        classes: what it tells apart.
        features: how many there are in all; the others get no weight.
    """
    last: Any = net.head[1]
    weights = F.pad(last.weight.detach().cpu()[:, :, 0, 0], [0, features - last.weight.shape[1]])
    rows = [Row(w.double().numpy(), float(b)) for w, b in zip(weights, last.bias.detach().cpu(), strict=True)]
    return {name: (rows[2 * k], rows[2 * k + 1]) for k, name in enumerate(classes)}


def fit_linear(
    net: LinearSegmenter,
    samples: Sequence[Sequence[Samples]],
    held_out: Sequence[Sequence[Samples]] | None = None,
    starts: Sequence[tuple[Row, Row] | None] | None = None,
) -> None:
    """Fill the head: logistic regression for extent, ridge for interior (as a logit), on standardised features.

    Where a class has a start, a correction to it is learnt: for extent its logit is one more feature that the penalty
    hardly holds, for interior the difference to it is the target.

    Args:
        net: the head to fill.
        samples: of each class, of each scene.
        held_out: the same of other ground: the penalty is chosen that does best there, or a start without correction.
            Without it the weakest penalty is taken.
        starts: of each class, or None.

    Raises:
        ThemeError: a class has no labelled pixel inside or outside its objects.
    """
    rows: list[Row] = []
    for number, parts in enumerate(samples):
        own = _joined(parts)
        if own.extent.all() or not own.extent.any():
            raise ThemeError(
                f"class {number + 1} has labelled pixels {'inside' if own.extent.any() else 'outside'} its objects "
                "only; label some of both, or check --complete-within"
            )
        other = None if held_out is None else _joined(held_out[number])
        start = None if starts is None else starts[number]
        rows += [_extent(own, other, start), _interior(own, other, start)]
    with torch.no_grad():
        net.head.weight.copy_(torch.from_numpy(np.stack([row.weight for row in rows]))[:, :, None, None])
        assert net.head.bias is not None
        net.head.bias.copy_(torch.tensor([row.bias for row in rows]))


def _joined(parts: Sequence[Samples]) -> Samples:
    return Samples(
        np.concatenate([p.features for p in parts]).astype(np.float64),
        np.concatenate([p.extent for p in parts]),
        np.concatenate([p.interior for p in parts]),
        np.concatenate([p.weight for p in parts]),
    )


def _extent(own: Samples, other: Samples | None, start: tuple[Row, Row] | None) -> Row:
    fitted = [_logistic(own, start, strength) for strength in (STRENGTHS_FROM_START if start else STRENGTHS)]
    if other is None or not len(other.extent):
        return fitted[-1]
    candidates = [*fitted, *([start[0]] if start else [])]
    return min(candidates, key=lambda row: _log_loss(row, other))


def _logistic(own: Samples, start: tuple[Row, Row] | None, strength: float) -> Row:
    mean, std = own.features.mean(0), own.features.std(0) + 1e-3
    x = (own.features - mean) / std
    if start is not None:
        x = np.column_stack([x, START_SCALE * start[0](own.features)])
    model = LogisticRegression(C=strength, max_iter=500, tol=1e-3)
    model.fit(x, own.extent, sample_weight=own.weight / own.weight.mean())
    weight, bias = model.coef_[0][: len(mean)] / std, float(model.intercept_[0])
    row = Row(weight, bias - float(weight @ mean))
    if start is None:
        return row
    scale = START_SCALE * float(model.coef_[0][-1])
    return Row(row.weight + scale * start[0].weight, row.bias + scale * start[0].bias)


def _log_loss(row: Row, other: Samples) -> float:
    logits = row(other.features) * np.where(other.extent, 1, -1)
    return float(np.average(np.logaddexp(0, -logits), weights=other.weight))


def _interior(own: Samples, other: Samples | None, start: tuple[Row, Row] | None) -> Row:
    fitted = [_ridge(own, start, penalty) for penalty in (PENALTIES_FROM_START if start else PENALTIES)]
    if other is None or not other.extent.any():
        return fitted[0]
    candidates = [*fitted, *([start[1]] if start else [])]
    return min(candidates, key=lambda row: _depth_loss(row, other))


def _depth_loss(row: Row, other: Samples) -> float:
    """Mean squared error of interior, computed inside objects only: interior is ignored outside."""
    inside = other.extent
    depth = 1 / (1 + np.exp(-row(other.features[inside])))
    return float(np.average(np.square(depth - other.interior[inside]), weights=other.weight[inside]))


def _ridge(own: Samples, start: tuple[Row, Row] | None, penalty: float) -> Row:
    wanted = np.clip(own.interior, LEAST_DEPTH, 1 - LEAST_DEPTH)
    logits = np.log(wanted / (1 - wanted))
    known = Row(np.zeros(own.features.shape[1]), 0.0) if start is None else start[1]
    mean, std = own.features.mean(0), own.features.std(0) + 1e-3
    weights = own.weight / own.weight.mean()
    model = Ridge(alpha=penalty * len(logits))
    model.fit((own.features - mean) / std, logits - known(own.features), sample_weight=weights)
    weight = model.coef_ / std
    return Row(known.weight + weight, known.bias + float(model.intercept_) - float(weight @ mean))

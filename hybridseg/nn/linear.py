"""Fitting the linear head: scikit-learn on frozen features, going on from a trained head where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hybridseg.errors import ThemeError
from hybridseg.nn.heads import LinearSegmenter, Samples
from hybridseg.nn.segmenter import Segmenter
from hybridseg.nn.weights import load_weights, read_card

SURE = 0.05
"""Interior is learnt as a logit, between this and one less it."""
STRENGTHS = (1e-4, 1e-3, 1e-2)
"""Of the logistic regression's fit against its L2 penalty (scikit-learn's C); the best on held-out ground is taken."""
CAREFUL = (1e-6, 1e-5)
"""The same for a correction to a start: looser ones fit the pixels of a few dozen objects better, and lose objects."""
LOOSE = (0.02,)
TIGHT = (0.5, 2.0, 5.0)
"""Of the ridge regression for interior, a sample: what is left of a start is mostly noise, and held tighter."""
_FREE = 30.0
"""How much the start's logit is enlarged among the features, so that the penalty hardly holds it."""


@dataclass(frozen=True)
class Row:
    """One output of a head: logit = weight @ features + bias; weight: (C,) float64."""

    weight: np.ndarray
    bias: float

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Logits (N,) of features (N, C)."""
        return features @ self.weight + self.bias


def start_rows(folder: Path, features: int) -> Mapping[str, tuple[Row, Row]]:
    """Extent and interior of each class that a trained classifier knows, as rows over its pyramid's features.

    Args:
        folder: of a model whose pyramid gives the first of the features.
        features: how many there are in all; the others get no weight.
    """
    classes = read_card(folder, needs=("classes",))["classes"]
    net = Segmenter(len(classes))
    load_weights(net, folder)
    last: Any = net.head[1]
    weights = torch.nn.functional.pad(last.weight.detach()[:, :, 0, 0], [0, features - last.weight.shape[1]])
    rows = [Row(w.double().numpy(), float(b)) for w, b in zip(weights, last.bias.detach(), strict=True)]
    return {name: (rows[2 * k], rows[2 * k + 1]) for k, name in enumerate(classes)}


def fit_linear(
    net: LinearSegmenter,
    samples: Sequence[Sequence[Samples]],
    held_out: Sequence[Sequence[Samples]] | None = None,
    starts: Sequence[tuple[Row, Row] | None] | None = None,
) -> None:
    """Fill the head: logistic regression for extent, ridge for interior (as a logit), on standardised features.

    Where a class has a start, what is learnt is a correction to it: of its extent's logit, which is one more feature
    that the penalty hardly holds, and of its interior's, of which only the rest is learnt.

    Args:
        net: what to fill.
        samples: of each class, of each scene.
        held_out: the same of other ground, to choose how strong the penalties are, up to no change of a start; the
            weakest without.
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
    found = [_logistic(own, start, strength) for strength in (CAREFUL if start else STRENGTHS)]
    if other is None or not len(other.extent):
        return found[-1]
    candidates = [*found, *([start[0]] if start else [])]
    return min(candidates, key=lambda row: _log_loss(row, other))


def _logistic(own: Samples, start: tuple[Row, Row] | None, strength: float) -> Row:
    from sklearn.linear_model import LogisticRegression

    mean, std = own.features.mean(0), own.features.std(0) + 1e-3
    x = (own.features - mean) / std
    if start is not None:
        x = np.column_stack([x, _FREE * start[0](own.features)])
    model = LogisticRegression(C=strength, max_iter=500, tol=1e-3)
    model.fit(x, own.extent, sample_weight=own.weight / own.weight.mean())
    weight, bias = model.coef_[0][: len(mean)] / std, float(model.intercept_[0])
    row = Row(weight, bias - float(weight @ mean))
    if start is None:
        return row
    scale = _FREE * float(model.coef_[0][-1])
    return Row(row.weight + scale * start[0].weight, row.bias + scale * start[0].bias)


def _log_loss(row: Row, other: Samples) -> float:
    logits = row(other.features) * np.where(other.extent, 1, -1)
    return float(np.average(np.logaddexp(0, -logits), weights=other.weight))


def _interior(own: Samples, other: Samples | None, start: tuple[Row, Row] | None) -> Row:
    found = [_ridge(own, start, tightness) for tightness in (TIGHT if start else LOOSE)]
    if other is None or not other.extent.any():
        return found[0]
    candidates = [*found, *([start[1]] if start else [])]
    return min(candidates, key=lambda row: _depth_loss(row, other))


def _depth_loss(row: Row, other: Samples) -> float:
    """Mean squared error inside objects: outside, extent has the say, and what interior is there decides nothing."""
    inside = other.extent
    depth = 1 / (1 + np.exp(-row(other.features[inside])))
    return float(np.average(np.square(depth - other.interior[inside]), weights=other.weight[inside]))


def _ridge(own: Samples, start: tuple[Row, Row] | None, tightness: float) -> Row:
    from sklearn.linear_model import Ridge

    wanted = np.clip(own.interior, SURE, 1 - SURE)
    logits = np.log(wanted / (1 - wanted))
    known = Row(np.zeros(own.features.shape[1]), 0.0) if start is None else start[1]
    mean, std = own.features.mean(0), own.features.std(0) + 1e-3
    weights = own.weight / own.weight.mean()
    model = Ridge(alpha=tightness * len(logits))
    model.fit((own.features - mean) / std, logits - known(own.features), sample_weight=weights)
    weight = model.coef_ / std
    return Row(known.weight + weight, known.bias + float(model.intercept_) - float(weight @ mean))

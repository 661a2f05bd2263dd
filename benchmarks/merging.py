"""Weights of a theme's `merge`: which borders between parts are inside one object, from training ground.

    python -m benchmarks.merging [DATA [THEME]]      prints the YAML, and how well others tell at each place

Parts are those of the theme as it ships, on heatmaps of tiles that trained its classifier, none of a place that is
quoted. A part is of the reference object that it has most pixels of; of borders between two parts, one of them at least
of an object, those inside an object are to be merged. A border counts by the root of the smaller part's area, a place
by its borders, but as 300 at most.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from rasterio.features import rasterize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.places import Place, training_places
from hybridseg.run.survey import Survey
from hybridseg.theme import load_theme
from hybridseg.types import Window
from hybridseg.what.instances import Instances, find_objects
from hybridseg.what.lattice import Lattice
from hybridseg.what.merging import FIGURES, borders

MOST = 300
"""Borders that a place counts as at most."""

SURER = {"buildings": 0.4, "fields": 0.0}
"""How much surer than even odds a border must be (log odds): merging is by chains, so one error is enough to join two
objects. Of 0, 0.4 and 0.8 (fields: 0 and 0.7) the best mean object F1 on the training ground."""

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Figures of borders (m, 8), whether each is inside an object (m,), weights (m,)."""


def sample(place: Place) -> Sample:
    """Return what is known of the borders of one place."""
    theme = load_theme(place.theme)
    heatmap = Survey.open(place.scene, theme, "none", ground=place.extent).heatmap()
    grid = heatmap.geobox
    extent, interior, valid = heatmap.read(Window(0, 0, grid.width, grid.height), theme.label)
    pixel_m = Lattice.of(grid, place.scene).pixel_m
    assert isinstance(theme.objects, Instances)
    assert theme.objects.merge is not None
    near_m = theme.objects.merge.near_m
    labels = find_objects(extent, interior, theme.objects.model_copy(update={"merge": None}), pixel_m).labels
    numbered = zip(place.truth.geometry, range(1, len(place.truth) + 1), strict=True)
    truth = rasterize(numbered, grid.shape, transform=grid.affine, dtype=np.int32)
    known = rasterize([place.area], grid.shape, transform=grid.affine, dtype=np.uint8).astype(bool)
    pairs, figures = borders(labels, extent, interior, valid, pixel_m, near_m)
    owner, area = owners(np.where(known, labels, 0), truth)
    one, two = owner[pairs].T
    smaller = area[pairs].min(axis=1) * pixel_m**2
    some = ((one > 0) | (two > 0)) & (smaller > 0)
    weights = np.sqrt(smaller[some])
    return figures[some], (one == two)[some], weights * min(MOST, len(weights)) / max(weights.sum(), 1e-9)


def owners(labels: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return of each label the number that it has most pixels of (n + 1,), 0 for ground, and its pixels (n + 1,)."""
    count = int(truth.max()) + 1
    both, pixels = np.unique(labels.astype(np.int64) * count + truth, return_counts=True)
    order = np.lexsort((pixels, both // count))  # the largest last, so it is what stays
    owner = np.zeros(int(labels.max()) + 1, int)
    owner[both[order] // count] = both[order] % count
    return owner, np.bincount(labels.ravel())


def fitted(samples: list[Sample], surer: float = 0.0) -> dict[str, float]:
    """Return the weights of a logistic regression, for figures as they are; its constant is less by `surer`."""
    figures, inside, weights = (np.concatenate(each) for each in zip(*samples, strict=True))
    scaler, regression = model = make_pipeline(StandardScaler(), LogisticRegression(C=0.2))
    model.fit(figures, inside, logisticregression__sample_weight=weights)
    slopes = regression.coef_[0] / scaler.scale_
    constant = float(regression.intercept_[0] - slopes @ scaler.mean_)
    return {"constant": round(constant - surer, 3)} | {
        k: round(float(v), 3) for k, v in zip(FIGURES, slopes, strict=True)
    }


def main(data: Path, theme: str = "buildings") -> None:
    """Fit on all, after a look at each place with the weights of the others."""
    with tempfile.TemporaryDirectory() as folder:
        found = {place.name: sample(place) for place in training_places(data, Path(folder), theme)}
    for name, (figures, inside, weights) in found.items():
        others = fitted([each for other, each in found.items() if other != name])
        sums = others["constant"] + figures @ [others[figure] for figure in FIGURES]
        told = roc_auc_score(inside, sums, sample_weight=weights) if len(set(inside)) == 2 else float("nan")
        print(f"{name:20s} {len(inside):5d} borders, {np.average(inside, weights=weights):.2f} inside, AUC {told:.2f}")
    print(yaml.safe_dump({"merge": fitted(list(found.values()), SURER[theme])}, sort_keys=False))


if __name__ == "__main__":
    main(Path((sys.argv[1:] or ["../shared/data"])[0]), *sys.argv[2:])

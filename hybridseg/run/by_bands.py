"""Themes that a scene's bands call for: water by its index, where there is near infrared."""

from __future__ import annotations

import numpy as np
from skimage.filters import threshold_otsu

from hybridseg import nn
from hybridseg.errors import ThemeError
from hybridseg.read.bands import find_bands
from hybridseg.read.scene import Scene
from hybridseg.theme import Theme, load_theme

NEAR = 0.05
"""Values of an index so close to its centre belong to neither side."""
UNCLEAR = 0.07
"""Largest share of a scene's pixels near the centre where the index parts it. Of ten dates of one prairie in 8 bits the
eight on which the split was right had up to 0.066, the two on which fields were taken for water 0.106 and 0.127."""


def for_bands(theme: Theme, scene: Scene) -> Theme:
    """Return the first theme of `by_bands` whose index has its bands in the scene, or else the theme itself.

    8 bits hold no reflectance: brightness and stretch move the centre. There it lies between the two groups that the
    scene's own values fall into by Otsu's method (1979), and the
    index is left alone where they do not part clearly, or below its usual centre.

    Raises:
        ThemeError: such a theme is of another class.
        WeightsError: its classifier is no index.
    """
    for name in theme.by_bands:
        other = load_theme(name)
        if other.label != theme.label:
            raise ThemeError(
                f"theme {theme.name} names {name} in by_bands, which looks for {other.label}; give its own"
            )
        index = nn.indices.parse_index(other.classifier)
        numbers = find_bands(scene, index.bands)
        if numbers is None:
            continue
        raw = scene.raw(numbers)
        if raw.dtype.itemsize > 1:
            return other
        centre = _centre(index, raw)
        if centre is not None and centre >= index.centre:
            scaled = f"{other.classifier.partition('@')[0]}@{centre:.2f},{index.steepness:g}"
            return other.model_copy(update={"classifier": scaled})
    return theme


def _centre(index: nn.indices.Index, raw: Scene) -> float | None:
    """Where a scene's index is to be cut; None where its values do not part clearly."""
    pixels, valid = raw.sample()
    with np.errstate(divide="ignore", invalid="ignore"):
        values = index(dict(zip(index.bands, pixels[:, valid].astype(np.float64), strict=True)))
    values = values[np.isfinite(values)]
    if not values.size or np.ptp(values) < 4 * NEAR:
        return None
    low = values <= threshold_otsu(values)
    centre = float(values[low].mean() + values[~low].mean()) / 2
    return centre if np.mean(np.abs(values - centre) < NEAR) <= UNCLEAR else None

"""Coarse supports for a refiner's training, as extraction would find them."""

from __future__ import annotations

from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage as ndi

from hybridseg.errors import ThemeError
from hybridseg.labels.images import LabelledImage
from hybridseg.read.windows import tile
from hybridseg.theme import GridPolicy, InstancePolicy, load_theme
from hybridseg.train.recipe import DataSet
from hybridseg.what.classify import Network
from hybridseg.what.instances import find_objects

if TYPE_CHECKING:
    from hybridseg.nn.classifier import Classifier


def find_supports(image: LabelledImage, chosen: DataSet, runs: Path) -> np.ndarray | None:
    """Return (h, w) int32 supports on the grid of a classifier's heatmap; None where the entry names no classifier.

    The entry's `supports` is a classifier that was not trained on the image: a run's draft, a model's name or folder.

    Raises:
        ThemeError: the classifier does not know the class of the entry's theme.
    """
    if chosen.supports is None or not fnmatch(image.name, chosen.supports_on):
        return None
    draft = runs / chosen.supports / "model"
    classifier = _classifier(str(draft if draft.exists() else chosen.supports))
    theme = load_theme(chosen.supports_theme)
    gsd_m = theme.gsd_m(image.gsd_m, classifier.gsd_m)
    if theme.label not in classifier.classes or isinstance(theme.objects, GridPolicy):
        raise ThemeError(
            f"supports of {image.dataset}: {chosen.supports} finds {', '.join(classifier.classes)}, not as theme "
            f"{theme.name} wants {theme.label}; give another supports_theme"
        )
    first = 2 * classifier.classes.index(theme.label)
    extent, interior = _heatmap(image.at_gsd(gsd_m).image, classifier)[first : first + 2]
    pixel_m = gsd_m * classifier.stride
    policy = theme.objects
    if isinstance(policy, InstancePolicy):
        return find_objects(extent, interior, policy, pixel_m).labels
    return ndi.label(ndi.gaussian_filter(extent, policy.smooth_m / pixel_m) >= policy.extent)[0]


@cache
def _classifier(name: str) -> Classifier:
    from hybridseg.nn.classifier import load_classifier

    return load_classifier(name)


def _heatmap(image: np.ndarray, network: Network, core_px: int = 512, halo_px: int = 128) -> np.ndarray:
    """Return the (B, H/stride, W/stride) heatmap of a whole image in memory, window by window."""
    stride, (height, width) = network.stride, image.shape[:2]
    if max(height, width) <= core_px:  # most tiles are small, and have no neighbours
        core_px, halo_px = -(-max(height, width) // network.snap_px) * network.snap_px, network.snap_px
    pad = [(halo_px, halo_px + core_px)] * 2 + [(0, 0)]
    padded = np.pad(image, pad)
    out = np.zeros((2 * len(network.classes), -(-height // stride), -(-width // stride)), np.float32)
    for core in tile((height, width), core_px):
        at = np.s_[core.row : core.row + core_px + 2 * halo_px, core.col : core.col + core_px + 2 * halo_px]
        piece = network.predict(np.ascontiguousarray(padded[at].transpose(2, 0, 1)))[
            :, halo_px // stride :, halo_px // stride :
        ]
        part = out[
            :, core.row // stride : (core.row + core_px) // stride, core.col // stride : (core.col + core_px) // stride
        ]
        part[:] = piece[:, : part.shape[1], : part.shape[2]]
    return out

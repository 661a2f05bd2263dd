"""What the models see of the ground in view: the heatmap, the prompts found on it, the windows they are asked in."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from PIL import Image

from hybridseg.cog import whole
from hybridseg.errors import ReviewError
from hybridseg.read.scene import Scene
from hybridseg.reviewing.recent import Recent
from hybridseg.run.survey import Survey
from hybridseg.tables import Prompts
from hybridseg.theme import Theme
from hybridseg.types import Extent, Window

MOST_PX = 1024 * 1024
"""Pixels of a theme's working grid that are classified at a time: some seconds."""
_KEPT = 8
_FAINT, _STRONG = np.array([92, 40, 150]), np.array([255, 214, 90])
"""Colours of the probabilities 0 and 1."""
_OPAQUE = 190
"""Opacity of probability 1, of 255; that of 0 is 0."""


@dataclass(frozen=True)
class Seen:
    """What the models see of a part of a scene, as in an extraction of that part.

    picture: the probability of the class as a PNG, on `grid`.
    prompts: what is found on it.
    windows: of the scene's pixels, in which the refiner is asked about the prompts; those that suit the objects, also
        where a theme has its refiner look through the windows of the first sweep.
    """

    picture: bytes
    grid: GeoBox
    prompts: Prompts
    windows: tuple[Window, ...]


class Sight:
    """What the models see of parts of one scene; what was asked for last is kept. Any thread may call.

    scene, themes, device: of the review.
    refiner: the one that is asked; None: none is.
    """

    def __init__(self, scene: Scene, themes: Sequence[Theme], refiner: Any, device: str = "auto") -> None:
        self._scene, self._themes, self._refiner, self._device = scene, themes, refiner, device
        self._kept = Recent[tuple[str, Extent], Seen](_KEPT)
        self._lock = threading.Lock()

    def of(self, label: str, extent: Extent) -> Seen:
        """Return what is seen of a class in an extent of the scene's CRS.

        Raises:
            ReviewError: no theme finds the class, or the extent is too large to be classified while somebody waits.
            EmptySource: the extent does not touch the scene.
            HybridsegError: a model cannot be had.
        """
        with self._lock:
            if (known := self._kept.get((label, extent))) is None:
                self._kept.put((label, extent), known := self._look(label, extent))
            return known

    def _look(self, label: str, extent: Extent) -> Seen:
        theme = next((one for one in self._themes if one.label == label), None)
        if theme is None:
            known = ", ".join(one.label for one in self._themes)
            raise ReviewError(f"no theme of this review finds class {label}; choose one of {known}")
        survey = Survey.open(self._scene, theme, "none", self._device, "torch", ground=extent)
        survey = replace(survey, models=replace(survey.models, refiner=self._refiner))  # it is open already
        side_m = theme.gsd_m(self._scene.gsd_m, survey.models.classifier.spec.gsd_m)
        mx, my = self._scene.metres_per_unit
        if (extent[2] - extent[0]) * mx * (extent[3] - extent[1]) * my > MOST_PX * side_m**2:
            raise ReviewError(f"more than {MOST_PX**0.5 * side_m:.0f} m a side cannot be shown as seen; zoom in")
        heatmap = survey.heatmap()
        prompts = survey.prompts(heatmap)
        windows = () if survey.models.refiner is None else tuple(survey.windows(prompts)[1])
        values, _, _ = heatmap.read(whole(heatmap.geobox), label)
        return Seen(_picture(values), heatmap.geobox, prompts, windows)


def _picture(values: np.ndarray) -> bytes:
    """Probabilities (h, w) as a PNG."""
    share, out = values[..., None], io.BytesIO()
    shown = np.concatenate([_FAINT + share * (_STRONG - _FAINT), share * _OPAQUE], axis=-1)
    Image.fromarray(shown.round().astype(np.uint8)).save(out, "PNG")
    return out.getvalue()

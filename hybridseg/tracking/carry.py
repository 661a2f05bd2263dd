"""Masks that SAM2's memory carries to a date, from the nearest dates at which an object was found."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from rasterio.features import rasterize

from hybridseg import nn
from hybridseg.read.ground import pixel_anchor
from hybridseg.read.scene import Scene
from hybridseg.read.tiles import transformed
from hybridseg.tracking.follow import GIVEN, Observation, Track
from hybridseg.types import Window
from hybridseg.where.trace import trace
from hybridseg.where.windows import ObjectWindows

SHOWN = 6
"""Dates at which an object is shown to the memory, at most: the nearest at which it was found."""
KEPT_WINDOWS = 64
"""Encoded windows kept, the last ones used."""
SPAN = 0.5
"""Most of a window's side that an object spans: it may grow to twice that and is not cut."""
MAX_ZOOM = 4.0
SHARED = 0.3
"""IoU that a carried mask must have with the object's outline at the nearest date: else the memory lost it."""


@dataclass(frozen=True)
class MemoryCarry:
    """Carries objects by a refiner's memory (a `settle.Carry`).

    model: a refiner whose decoder sees the whole image, see `load_refiner`'s `decode_px`.
    scenes: of all dates, on one grid.
    anchor: windows lie on a lattice anchored in the CRS, so that they do not depend on the scene.
    """

    model: Any
    scenes: Sequence[Scene]
    _encoded: OrderedDict[tuple[int, Window], Any] = field(default_factory=OrderedDict, compare=False)

    @classmethod
    def open(cls, refiner: str, scenes: Sequence[Scene], device: str, runtime: str) -> MemoryCarry:
        """Open a refiner's memory.

        Raises:
            WeightsError: there is no such refiner.
            HybridsegError: it has no memory.
        """
        side = nn.sam2.official.load_refiner(refiner, device, runtime=runtime).size_px
        model = nn.sam2.official.load_refiner(refiner, device, side, runtime)
        nn.sam2.memory.Memory(model.model)  # says so where it has none
        return cls(model, scenes)

    def __call__(self, number: int, tracks: Sequence[Track]) -> list[shapely.Geometry | None]:
        """Return where objects lie at a date, None where the memory says that they are gone or has lost them."""
        scene = self.scenes[number]
        to_px = ~scene.geobox.affine
        shown = [_nearest_found(track, number) for track in tracks]
        known = [i for i, some in enumerate(shown) if some]
        drawn = {i: [transformed(one.outline, to_px) for one in shown[i]] for i in known}
        boxes = np.array([shapely.union_all(drawn[i]).bounds for i in known]).reshape(-1, 4)
        served, _ = self.windows.assign(boxes)
        found: list[shapely.Geometry | None] = [None] * len(tracks)
        for window, rows in served.items():
            groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
            for row in rows:
                groups[tuple(one.date for one in shown[known[row]])].append(known[row])
            for dates, members in groups.items():
                logits, presence = self._recall(number, window, dates, [drawn[i] for i in members])
                for i, mask, there in zip(members, logits, presence, strict=True):
                    if there > 0:
                        found[i] = self._outline(mask, window, scene, drawn[i][-1], to_px)
        return found

    @property
    def windows(self) -> ObjectWindows:
        """The lattice of windows."""
        return ObjectWindows(self.model.size_px, SPAN, MAX_ZOOM, pixel_anchor(self.scenes[0].geobox))

    def _recall(
        self, number: int, window: Window, dates: Sequence[int], outlines: Sequence[Sequence[shapely.Geometry]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits and presence of objects at a date; the farthest date at which they are shown comes first."""
        follower = nn.sam2.memory.Follower(self.model.model)
        for at, date in enumerate(dates):
            masks = np.stack([self._mask(object_[at], window) for object_ in outlines])
            follower.step(self.encode(date, window), masks)
        return follower.step(self.encode(number, window))

    def encode(self, number: int, window: Window) -> Any:
        """Return the embedding of a window at a date."""
        key = (number, window)
        if key not in self._encoded:
            self._encoded[key] = self.model.encode(self.scenes[number].read_window(window, self.model.size_px))
            if len(self._encoded) > KEPT_WINDOWS:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end(key)
        return self._encoded[key]

    def _mask(self, outline: shapely.Geometry, window: Window) -> np.ndarray:
        side = self.model.size_px
        zoom = side / window.width
        moved = shapely.transform(outline, lambda xy: (xy - (window.col, window.row)) * zoom)
        return rasterize([moved], (side, side), dtype=np.uint8).astype(bool)

    def _outline(
        self, logits: np.ndarray, window: Window, scene: Scene, before: shapely.Geometry, to_px: Any
    ) -> shapely.Geometry | None:
        valid = np.ones((self.model.size_px,) * 2, bool)  # the heatmap tells what is seen
        outline = trace(logits, window, scene, valid, before, np.zeros((0, 2)))
        if outline is None:
            return None
        drawn = transformed(outline, to_px)
        return outline if drawn.intersection(before).area >= SHARED * drawn.union(before).area else None


def _nearest_found(track: Track, number: int) -> list[Observation]:
    """Where an object was found by itself at the dates nearest to one, the nearest last."""
    own = [one for one in track.found if one.origin != GIVEN]
    return sorted(own, key=lambda one: (abs(one.date - number), one.date))[:SHOWN][::-1]

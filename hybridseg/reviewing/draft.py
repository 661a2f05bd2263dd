"""The first answer to a click: the outline that the classifier's heatmap shows there, while the refiner encodes."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import shapely

from hybridseg.errors import HybridsegError
from hybridseg.nn.cards import source_of
from hybridseg.nn.classify.classifier import load_classifier
from hybridseg.read.scene import Scene
from hybridseg.reviewing.recent import Recent
from hybridseg.run.extents import check_fits, working_grid
from hybridseg.theme import Theme
from hybridseg.types import Window
from hybridseg.what.classify import Network, crop, view_for
from hybridseg.what.lattice import Block, Lattice

SIDE_PX = 384
"""Of the ground that is classified for a click, on the classifier's grid."""
_STEPS = 4
"""Such windows lie on every fourth of their side, so that clicks near each other share one."""
_KEPT = 64


class Drafts:
    """Outlines of the heatmap around a place; made when asked for, those used last are kept. Any thread may call.

    The classifier sees less around such a window than in a run, so its heatmap may differ a little from the map's.

    scene, themes, device: of the review.
    """

    def __init__(self, scene: Scene, themes: Sequence[Theme], device: str = "auto") -> None:
        self._scene, self._device = scene, device
        self._themes = {theme.label: theme for theme in themes}
        self._networks: dict[str, Network | None] = {}
        self._found = Recent[tuple[str, int, int], list[shapely.Polygon]](_KEPT)
        self._lock = threading.Lock()

    def at(self, x: float, y: float, label: str) -> shapely.Polygon | None:
        """Return the outline in the scene's CRS that holds a place; None: the heatmap shows no object there.

        None, too, for a class whose theme has no heatmap of objects, or a classifier that would have to be fetched.

        Args:
            x: of the place, in pixels of the scene.
            y: the same.
            label: class of the object.
        """
        with self._lock:
            if label not in self._networks:
                self._networks[label] = self._network(label)
            network = self._networks[label]
            place = shapely.Point(self._scene.geobox.affine @ (x, y))
            shapes = [] if network is None else self._around(network, self._themes[label], place)
        return next((one for one in shapes if one.intersects(place)), None)

    def _network(self, label: str) -> Network | None:
        theme = self._themes.get(label)
        if theme is None or theme.objects.labels_masks or source_of(theme.classifier) is not None:
            return None
        try:
            network: Network = load_classifier(theme.classifier, self._device, "torch", label)
            check_fits(self._scene, theme, network.spec)
        except HybridsegError:  # whoever asks to find objects anew is told why; a click needs no draft
            return None
        return network

    def _around(self, network: Network, theme: Theme, place: shapely.Point) -> list[shapely.Polygon]:
        """Outlines of all objects near a place."""
        snap, stride = network.spec.snap_px, network.spec.stride
        step = network.spec.image_px or max(1, SIDE_PX // _STEPS // snap) * snap * _STEPS
        grid, _ = working_grid(self._scene, theme, network, snap, None, 0.0)
        at = ~grid.affine @ (place.x, place.y)
        col, row = (round((value - step / 2) / (step // _STEPS)) * (step // _STEPS) for value in at)
        key = theme.label, col, row
        if (known := self._found.get(key)) is not None:
            return known
        there = crop(grid, Window(col, row, step, step))
        chip = view_for(self._scene, network).read_grid(there)
        found = list[shapely.Polygon]()
        if chip.valid.any():
            side = step // stride
            valid = np.any(chip.valid.reshape(side, stride, side, stride), axis=(1, 3))
            first = 2 * network.spec.classes.index(theme.label)
            extent, interior = network.predict(chip.pixels)[first : first + 2] * valid
            whole = Window(0, 0, side, side)
            block = Block(extent, interior, valid, whole, whole)
            rows = theme.objects.find(block, Lattice.of(there.zoom_out(stride), self._scene), theme.label)
            found = [one for one in rows.geometry if isinstance(one, shapely.Polygon)]
        self._found.put(key, found)
        return found

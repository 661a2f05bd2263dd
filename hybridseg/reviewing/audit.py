"""What the decisions say of the map as it came: its precision from objects, its recall from squares of ground, too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
import shapely

from hybridseg.errors import ReviewError
from hybridseg.read.scene import Scene
from hybridseg.reviewing.edits import Edits
from hybridseg.reviewing.objects import MACHINE, Done, Object
from hybridseg.reviewing.order import RIGHT_IOU, Estimate, Order, Recall, was_right
from hybridseg.shape.geometry import iou
from hybridseg.types import Window

SIDE = 10
"""Side of a square of ground, in sides of a typical object: it is looked over at a glance."""
_SIDE_PX = 64, 2048
_BATCH = 200


class Audit:
    """Estimates from what was drawn at random. A sample is the beginning of the random order without a gap.

    scene, before, order, edits: of the review.
    """

    def __init__(self, scene: Scene, before: Mapping[int, Object], order: Order, edits: Edits, seed: int) -> None:
        self._scene, self._before, self._order, self._edits, self._seed = scene, before, order, edits, seed
        self._judged: dict[tuple[int, int], bool] = {}
        self._blank: dict[str, bool] = {}

    # --- objects ---

    def _sample(self) -> list[tuple[int, bool, str]]:
        """Key, whether it was right, and verdict of each object of the sample."""
        found = list[tuple[int, bool, str]]()
        for start in range(0, len(self._order.drawn), _BATCH):
            batch = self._order.drawn[start : start + _BATCH]
            states = self._edits.states(batch)
            for key in batch:
                verdict, version = states[key]
                if verdict in MACHINE:
                    return found
                found.append((key, self._was_right(key, version), verdict))
        return found

    def _was_right(self, key: int, version: int) -> bool:
        if (key, version) not in self._judged:
            (now,) = self._edits.get([key])
            self._judged[key, now.version] = was_right(self._before[key], now)
            version = now.version
        return self._judged[key, version]

    def precision(self) -> Estimate:
        """Return what the objects drawn at random and decided on say of the map's precision."""
        sample = self._sample()
        return Estimate.of(sum(right for _, right, _ in sample), len(sample))

    # --- squares of ground ---

    @cached_property
    def side_px(self) -> int:
        """Side of a square, in pixels of the scene."""
        areas = [one.geometry.area for one in self._before.values()]
        a, b, _, d, e, _ = tuple(self._scene.geobox.affine)[:6]
        return int(np.clip(SIDE * np.sqrt(np.median(areas) / abs(a * e - b * d)), *_SIDE_PX)) if areas else 0

    @cached_property
    def squares(self) -> list[str]:
        """All squares of the scene, in random order; none where the map has no object."""
        if not self.side_px:
            return []
        cols, rows = self._edges
        names = [f"{col}-{row}-{self.side_px}" for row in range(len(rows) - 1) for col in range(len(cols) - 1)]
        return [names[k] for k in np.random.default_rng(self._seed).permutation(len(names))]

    def window(self, square: str) -> Window:
        """Return the pixels of a square."""
        col, row, _ = map(int, square.split("-"))
        cols, rows = self._edges
        left, top = int(cols[col]), int(rows[row])
        return Window(left, top, int(cols[col + 1]) - left, int(rows[row + 1]) - top)

    @cached_property
    def _edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Where squares begin and end in the scene, across and down: all about as large."""
        sides = self._scene.window.stop
        across, down = (np.linspace(0, px, max(1, round(px / self.side_px)) + 1).round().astype(int) for px in sides)
        return across, down

    def next(self) -> str | None:
        """Return the next square to be looked over; None: all are, or there is none."""
        looked = self._edits.looked
        return next((one for one in self.squares if one not in looked and not self._is_blank(one)), None)

    def look(self, square: str, who: str) -> Done:
        """Write down that a square was looked over: what the map lacks in it is added.

        Raises:
            ReviewError: it is not the next one, or holds objects of a machine that nobody has decided on.
        """
        if square != self.next():
            raise ReviewError("this is not the square that was drawn next; ask for that one")
        open_ = [one for one in self._later() if one.verdict in ("unseen", "proposed") and self._place(one) == square]
        if open_:
            raise ReviewError(
                f"{len(open_)} objects that an improvement or a search for missing ones brought here are not decided "
                f"yet, as {open_[0].id}; accept or reject them first"
            )
        return self._edits.look(square, who)

    def recall(self) -> Recall:
        """Return what the sample of objects and that of squares say of the map's recall."""
        sample, drawn, later = self._sample(), list(self._drawn()), self._later()
        behind = defaultdict[str, float](float)
        missing = dict.fromkeys(drawn, 0.0)
        for one in reversed(later):
            count = 1.0 if one.present and one.decided else behind.pop(one.id, 0.0)
            for parent in one.parents:
                behind[parent] += count / len(one.parents)
            if not one.parents and count and (place := self._place(one)) in missing and not self._shown(one):
                missing[place] += count
        right = np.array([good for _, good, _ in sample], bool)
        real = {"accepted": 1.0, "corrected": 1.0, "rejected": 0.0, "deleted": 0.0}
        there = [real.get(verdict, behind[self._before[key].id]) for key, _, verdict in sample]
        counts = np.array(list(missing.values()), float)
        return Recall.of(right, np.array(there, float), len(self._before), counts, len(self.squares))

    def _drawn(self) -> Iterator[str]:
        """The squares of the sample; those without imagery hold nothing."""
        looked = self._edits.looked
        if not looked:
            return
        for square in self.squares:
            if square not in looked and not self._is_blank(square):
                return
            yield square

    def _is_blank(self, square: str) -> bool:
        if square not in self._blank:
            self._blank[square] = not self._scene.read_window(self.window(square), 64).valid.any()
        return self._blank[square]

    def _later(self) -> list[Object]:
        """Objects that the map did not have, by key."""
        return self._edits.get(self._edits.later(len(self._before)))

    def _place(self, one: Object) -> str:
        """The square that an object lies in, by a point inside it."""
        point = one.geometry.representative_point()
        at = ~self._scene.geobox.affine @ (point.x, point.y)
        col, row = (int(np.searchsorted(edges, px, "right")) - 1 for edges, px in zip(self._edges, at, strict=True))
        return f"{col}-{row}-{self.side_px}"

    def _shown(self, one: Object) -> bool:
        """Whether the map as it came has the object, though another now stands in its place."""
        tree, shapes, labels = self._tree
        near = tree.query(one.geometry)
        near = near[labels[near] == one.label]
        return bool(len(near) and (iou(one.geometry, shapes[near]) >= RIGHT_IOU).any())

    @cached_property
    def _tree(self) -> tuple[shapely.STRtree, np.ndarray, np.ndarray]:
        shapes = np.array([one.geometry for one in self._before.values()], dtype=object)
        return shapely.STRtree(shapes), shapes, np.array([one.label for one in self._before.values()], dtype=object)

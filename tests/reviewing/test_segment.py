"""Clicks to outlines, with the embedded sam2-lite on a rendered town."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import shapely

from hybridseg.read.scene import Scene
from hybridseg.reviewing.desk import Desk
from hybridseg.reviewing.recent import Recent
from hybridseg.reviewing.segment import ENCODED, Clicks, Segmenter
from hybridseg.types import Chip, Window
from tests.outlines import iou


def lone(x: float, y: float, side: float = 128) -> Clicks:
    return Clicks(np.array([[x, y]], float), np.array([1]), None, side)


@pytest.fixture
def buildings(desk: Desk) -> list[tuple[Any, tuple[float, float]]]:
    """Outlines of the town's larger buildings that lie whole inside it, each with a pixel in its middle."""
    whole = shapely.box(*desk.scene.geobox.boundingbox.bbox).buffer(-2)
    found = []
    for one in desk.before.values():
        if one.geometry.area > 30 and whole.contains(one.geometry):
            middle = one.geometry.representative_point()
            found.append((one.geometry, ~desk.scene.geobox.affine @ (middle.x, middle.y)))
    assert len(found) > 10
    return found


def test_a_click_finds_the_building_that_it_is_on(desk: Desk, buildings: list):
    best = []
    for truth, (x, y) in buildings[:12]:
        candidates = desk.segmenter.segment(lone(x, y))
        assert 1 <= len(candidates) <= 3
        best.append(max(iou(truth, one.outline) for one in candidates))
    assert np.median(best) > 0.7


def test_a_box_is_answered_better_than_a_click(desk: Desk, buildings: list):
    found = []
    for truth, _ in buildings[:12]:
        box = desk.segmenter.in_pixels(truth).bounds
        clicks = Clicks(np.empty((0, 2)), np.empty(0, int), box, 128)
        found.append(iou(truth, desk.segmenter.segment(clicks)[0].outline))
    assert np.median(found) > 0.8


def test_clicks_mend_an_outline_that_took_too_much(desk: Desk, buildings: list):
    """An outline reaches half its width beyond the building: a click on it and one beside it bring it back."""
    before, after = [], []
    for truth, (x, y) in buildings[:12]:
        inside = desk.segmenter.in_pixels(truth)
        left, top, right, bottom = inside.bounds
        wide = shapely.union_all([inside, shapely.box(left, top, right + (right - left) / 2, bottom)])
        beside = (right + (right - left) / 4, (top + bottom) / 2)
        clicks = Clicks(np.array([[x, y], beside]), np.array([1, 0]), None, 128)
        (found, *_) = desk.segmenter.segment(clicks, outline=wide)
        before.append(iou(inside, wide))
        after.append(iou(truth, found.outline))
    assert np.median(after) > np.median(before) + 0.1


@dataclass
class Told:
    """A model that finds a disc around the last point, and remembers what it was told."""

    size_px: int = 128
    mask_px: int = 32
    radius: float = 0.1
    name: str = "told"
    sha256: str = ""
    encoded: list[Chip] = field(default_factory=list)
    asked: list[tuple[np.ndarray, np.ndarray, Any]] = field(default_factory=list)

    def encode(self, chip: Chip) -> Any:
        self.encoded.append(chip)
        return chip

    def readings(self, embedding: Any, points: np.ndarray, labels: np.ndarray, hints: Any) -> Any:
        self.asked.append((points, labels, hints))
        on = points[0][labels[0] == 1][-1] / 4
        y, x = np.mgrid[:32, :32] + 0.5
        distance = np.hypot(x - on[0], y - on[1]) / 32
        radii = np.array([self.radius, self.radius / 2, self.radius, self.radius * 0.7])
        return ((radii[:, None, None] - distance) * 32)[None].astype(np.float32), np.array([[0.5, 0.6, 0.9, 0.7]])


@pytest.fixture
def told(scene: Scene) -> Segmenter:
    """On 128 x 96 pixels of 1 m."""
    return Segmenter(scene, Told(), 0.3, 4.0)  # type: ignore[arg-type]


def test_a_lone_click_is_answered_by_its_readings_others_by_the_first_mask(told: Segmenter):
    areas = [one.outline.area for one in told.segment(lone(64, 48, 64))]
    assert areas == sorted(areas, reverse=True)  # predicted IoU .9, .7, .6
    two = Clicks(np.array([[64, 48], [66, 48]], float), np.array([1, 1]), None, 64)
    assert len(told.segment(two)) == 2 + 1  # of four, the third doubles the first


def test_the_masks_logits_are_carried_on(told: Segmenter):
    first = told.segment(lone(64, 48, 64))[0]
    told.segment(Clicks(np.array([[64, 48], [60, 48]], float), np.array([1, 0]), None, 64), previous=first.token)
    hints = told.model.asked[-1][2]  # type: ignore[attr-defined]
    assert hints.shape == (1, 32, 32)
    assert hints.max() > 0 > hints.min()
    told.segment(lone(65, 48, 64), previous="0000")  # one that is forgotten counts as none
    assert told.model.asked[-1][2] is None  # type: ignore[attr-defined]


def test_an_object_that_is_corrected_is_the_hint(told: Segmenter):
    told.segment(lone(64, 48, 64), outline=shapely.box(60, 44, 70, 52))
    (hint,) = told.model.asked[-1][2]  # type: ignore[attr-defined]
    window = told.model.encoded[-1].geobox  # type: ignore[attr-defined]
    assert hint.max() == 6
    assert (hint > 0).sum() * window.resolution.x**2 * 16 == pytest.approx(80, rel=0.3)


def test_one_place_is_encoded_once(told: Segmenter):
    window = told.window(64, 48, 64)
    told.encode(window)
    for x in (56, 64, 70):
        told.segment(lone(x, 48, 64))
    assert len(told.model.encoded) == 1  # type: ignore[attr-defined]


def test_a_click_near_a_windows_edge_gets_a_window_around_it(told: Segmenter):
    first = told.encode(told.window(40, 48, 64)).window
    x = first.stop[0] - 2
    (found, *_) = told.segment(lone(x, 48, 64))
    last = told.model.encoded[-1].geobox  # type: ignore[attr-defined]
    col, _ = ~told.scene.geobox.affine @ (last.affine.c, last.affine.f)
    assert abs(col + 32 - x) <= 64 / 8
    assert not found.cut


def test_what_reaches_the_edge_is_looked_at_in_a_larger_window(told: Segmenter):
    told.model.radius = 0.9  # type: ignore[attr-defined]
    (found, *_) = told.segment(lone(64, 48, 32))
    sides = [chip.geobox.width * chip.geobox.resolution.x for chip in told.model.encoded]  # type: ignore[attr-defined]
    assert sides == sorted(sides)
    assert len(sides) > 1
    assert found.cut == (len(sides) == 3)


def test_a_preview_is_answered_on_the_window_that_there_is(told: Segmenter):
    told.model.radius = 0.9  # type: ignore[attr-defined]
    (found,) = told.segment(lone(64, 48, 32), preview=True)
    assert found.cut
    assert len(told.model.encoded) == 1  # type: ignore[attr-defined]


def test_a_click_where_the_pointer_hovered_is_not_decoded_again(told: Segmenter):
    (seen,) = told.segment(lone(64, 48, 64), preview=True)
    found = told.segment(lone(64, 48, 64))
    assert len(found) == 3
    assert found[0].outline.equals(seen.outline)
    assert len(told.model.asked) == 1  # type: ignore[attr-defined]
    told.segment(lone(64, 49, 64))
    assert len(told.model.asked) == 2  # type: ignore[attr-defined]


def test_small_holes_of_a_mask_are_filled(scene: Scene):
    @dataclass
    class Pierced(Told):
        def readings(self, embedding: Any, points: np.ndarray, labels: np.ndarray, hints: Any) -> Any:
            logits, iou_pred = super().readings(embedding, points, labels, hints)
            logits[..., 16:18, 15:19] = -5  # of 8 cells
            logits[..., 11:14, 12:15] = -5  # of 9
            return logits, iou_pred

    model = Pierced(radius=0.4)
    (found, *_) = Segmenter(scene, model, 0.3, 4.0).segment(lone(64, 48, 64))  # type: ignore[arg-type]
    assert len(found.outline.interiors) == 1


def test_a_mask_without_a_sure_edge_is_not_looked_at_again(scene: Scene):
    @dataclass
    class Unsure(Told):
        def readings(self, embedding: Any, points: np.ndarray, labels: np.ndarray, hints: Any) -> Any:
            logits, iou_pred = super().readings(embedding, points, labels, hints)
            return np.where(logits > 0, 0.5, -0.5).astype(np.float32), iou_pred

    model = Unsure(radius=0.9)
    assert Segmenter(scene, model, 0.3, 4.0).segment(lone(64, 48, 32))[0].cut  # type: ignore[arg-type]
    assert len(model.encoded) == 1


def test_nothing_is_cut_at_the_scenes_own_edge(told: Segmenter):
    (found, *_) = told.segment(lone(1, 1, 64))
    assert not found.cut
    assert shapely.box(*told.scene.geobox.boundingbox.bbox).contains(found.outline)


def test_a_mask_of_nothing_is_no_candidate(scene: Scene):
    nothing = Segmenter(scene, Told(radius=-1.0), 0.3, 4.0)  # type: ignore[arg-type]
    assert nothing.segment(lone(64, 48, 16)) == []


def test_a_click_beside_the_scene_finds_nothing(told: Segmenter):
    assert told.segment(lone(-500, -500, 64)) == []


def test_memory_is_bounded(told: Segmenter):
    for k in range(ENCODED + 10):
        told.encode(Window(k, 0, 64, 64))
    assert len(told._encoded.values()) == ENCODED
    recent = Recent[int, int](2)
    for k in (1, 2):
        recent.put(k, k)
    recent.get(1)
    recent.put(3, 3)
    assert recent.values() == [1, 3]


def test_readings_are_the_masks_that_decode_chooses_from(desk: Desk):
    model = desk.segmenter.model
    encoded = desk.segmenter.encode(desk.segmenter.window(100, 100, 128))
    points, labels = np.zeros((2, 6, 2), np.float32), np.full((2, 6), -1, np.int32)
    points[0, 0], labels[0, 0] = (256, 256), 1
    points[1, :3], labels[1, :3] = [(200, 200), (300, 300), (250, 250)], [2, 3, 1]
    masks, confidence = model.readings(encoded.embedding, points, labels, None)
    chosen, iou_pred = model.decode(encoded.embedding, points, labels, None)
    best = 1 + confidence[0, 1:].argmax()
    np.testing.assert_array_equal(chosen[0], masks[0, best])
    np.testing.assert_array_equal(chosen[1], masks[1, 0])
    assert iou_pred.tolist() == [confidence[0, best], confidence[1, 0]]

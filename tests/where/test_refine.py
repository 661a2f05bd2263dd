from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from rasterio.features import rasterize

from hybridseg.read.opening import open_scene
from hybridseg.read.scene import Scene
from hybridseg.types import HINT_SLOPE, Chip, Window
from hybridseg.where.refine import Prompt, PromptSettings, Refine
from tests.conftest import BLOCKS
from tests.doubles import Threshold
from tests.outlines import iou

BATCH = Refine.batch
WHOLE = Window(0, 0, 256, 256)
ALL = PromptSettings()
NONE = np.zeros((0, 2))


@dataclass(frozen=True)
class Spy(Threshold):
    """Remembers what it was told."""

    size_px: int = 512
    encoded: list[np.ndarray] = field(default_factory=list, compare=False)
    told: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]] = field(default_factory=list, compare=False)

    def encode(self, chip: Chip) -> np.ndarray:
        self.encoded.append(chip.pixels)
        return super().encode(chip)

    def decode(
        self, embedding: Any, points: np.ndarray, labels: np.ndarray, hints: np.ndarray | None, agreed: Any = None
    ) -> Any:
        self.told.append((points, labels, hints))
        return super().decode(embedding, points, labels, hints, agreed)


@pytest.fixture
def source(blocks: Path) -> Scene:
    return open_scene(blocks)


def truth(source: Scene, block: tuple[int, int, int, int]) -> shapely.Polygon:
    """The block in the source's CRS."""
    y, x, h, w = block
    affine = source.geobox.affine
    return shapely.Polygon([affine * at for at in [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]])


def prompt(block: tuple[int, int, int, int], negative: np.ndarray = NONE) -> Prompt:
    """As the heatmap would give it: rounded, a little small, on a coarse grid."""
    y, x, h, w = block
    support = shapely.box(x + 1, y + 1, x + w - 1, y + h - 1).buffer(-3).buffer(3)
    return Prompt(support, np.array([[x + w / 2, y + h / 2]]), negative)


@pytest.mark.parametrize("parts", [{"box", "points", "hint"}, {"box"}, {"box", "hint"}])
def test_outlines_are_the_true_rectangles(parts: set[str], source: Scene):
    refine = Refine(Spy(), PromptSettings(parts=frozenset(parts)))
    results = refine(source, WHOLE, [prompt(block) for block in BLOCKS])
    assert len(results) == len(BLOCKS)
    for block, result in zip(BLOCKS, results, strict=True):
        assert result.outline is not None
        assert iou(result.outline, truth(source, block)) > 0.9


def test_with_points_alone_the_part_under_the_support_is_taken(source: Scene):
    # without a box the double gives all that is bright, so the gate must not ask for agreement
    refine = Refine(Spy(), PromptSettings(parts=frozenset({"points"})))
    for block, result in zip(BLOCKS, refine(source, WHOLE, [prompt(block) for block in BLOCKS]), strict=True):
        assert iou(result.outline, truth(source, block)) > 0.9
        assert result.agreement < 0.5


def test_a_window_that_reaches_beyond_the_raster_refines_what_is_inside(source: Scene):
    block = BLOCKS[0]
    (result,) = Refine(Spy(), ALL)(source, Window(-40, -50, 192, 192), [prompt(block)])
    assert iou(result.outline, truth(source, block)) > 0.9


def test_the_model_is_told_what_the_policy_says(source: Scene):
    y, x, h, w = BLOCKS[0]
    negative = np.array([[10.0, 10.0], [20.0, 20.0], [30.0, 5.0], [5.0, 30.0]])
    asked = prompt(BLOCKS[0], negative)
    box = [[x + 1, y + 1], [x + w - 1, y + h - 1]]
    for parts, at, kinds in [
        ({"box"}, box, [2, 3]),
        ({"points"}, [[x + w / 2, y + h / 2], *negative[:2]], [1, 0, 0]),
        ({"box", "points"}, [*box, [x + w / 2, y + h / 2], *negative[:2]], [2, 3, 1, 0, 0]),
        ({"hint"}, [], []),
    ]:
        spy = Spy()
        Refine(spy, PromptSettings(parts=frozenset(parts), negatives=2))(source, WHOLE, [asked])
        ((points, labels, hints),) = spy.told
        said = labels[0] >= 0
        assert labels[0][said].tolist() == kinds
        np.testing.assert_allclose(points[0][said], np.array(at).reshape(-1, 2) * 2, atol=1e-4)  # 512 px of 256
        assert (hints is not None) == ("hint" in parts)


def test_a_hint_is_the_support_on_the_decoders_grid(source: Scene):
    spy = Spy()
    Refine(spy, ALL)(source, WHOLE, [prompt(BLOCKS[4])])
    _, _, hints = spy.told[0]
    y, x, h, w = BLOCKS[4]
    assert hints.shape == (1, 128, 128)
    covered = hints[0] / HINT_SLOPE + 0.5
    assert covered[(y + h // 2) // 2, (x + w // 2) // 2] == 1
    assert covered[0, 0] == 0
    assert covered.sum() * 4 == pytest.approx(prompt(BLOCKS[4]).support.area, rel=0.01)


def test_a_negative_point_outside_the_window_is_ignored(source: Scene):
    spy = Spy()
    window = Window(20, 20, 80, 80)
    negative = np.array([[10.0, 50.0], [90.0, 90.0], [50.0, 101.0]])
    (result,) = Refine(spy, ALL)(source, window, [prompt(BLOCKS[0], negative)])
    points, labels, _ = spy.told[0]
    assert labels[0].tolist()[:6] == [2, 3, 1, -1, 0, -1]
    assert (points[0][labels[0] == -1] == 0).all()
    assert result.outline is not None


def test_prompts_of_differing_number_are_padded(source: Scene):
    spy = Spy()
    asked = [prompt(BLOCKS[0]), prompt(BLOCKS[1], np.array([[60.0, 50.0], [60.0, 60.0]]))]
    Refine(spy, ALL)(source, WHOLE, asked)
    _, labels, _ = spy.told[0]
    assert [row[row >= 0].tolist() for row in labels] == [[2, 3, 1], [2, 3, 1, 0, 0]]


def test_what_a_prompt_is_told_does_not_depend_on_its_batch(source: Scene):
    # each padding point is one more token to SAM2 and moves its masks, so its number must be the same in every batch:
    # else an object's outline depends on which neighbours the extent lets in
    spy = Spy()
    bare, busy = prompt(BLOCKS[0]), prompt(BLOCKS[1], np.array([[60.0, 50.0], [60.0, 60.0], [70.0, 70.0]]))
    for together in ([bare], [bare, busy]):
        Refine(spy, ALL)(source, WHOLE, together)
    (alone, alone_labels, _), (among, among_labels, _) = spy.told
    assert alone_labels[0].tolist() == among_labels[0].tolist()
    assert np.array_equal(alone[0], among[0])


def test_more_prompts_than_a_batch_share_one_encode_and_keep_their_order(source: Scene):
    spy = Spy()
    count = 2 * BATCH + 5
    results = Refine(spy, ALL)(source, WHOLE, [prompt(BLOCKS[i % len(BLOCKS)]) for i in range(count)])
    assert len(spy.encoded) == 1
    assert [len(points) for points, _, _ in spy.told] == [BATCH, BATCH, 5]
    assert len(results) == count
    for i, result in enumerate(results):
        assert iou(result.outline, truth(source, BLOCKS[i % len(BLOCKS)])) > 0.9


def test_a_mask_has_its_figures_and_its_outline_whatever_they_are(source: Scene):
    (result,) = Refine(Spy(iou=0.2), ALL)(source, WHOLE, [prompt(BLOCKS[0])])
    assert result.outline is not None
    assert result.iou_pred == pytest.approx(0.2)
    assert result.agreement > 0.8


def test_clicks_and_prompts_with_a_support_may_share_a_window(source: Scene):
    spy = Spy()
    y, x, h, w = BLOCKS[1]
    click = Prompt(None, np.array([[x + w / 2, y + h / 2]]), NONE)
    first, second, third = Refine(spy, ALL)(source, WHOLE, [prompt(BLOCKS[0]), click, prompt(BLOCKS[2])])
    assert [hints is None for _, _, hints in spy.told] == [False, True]
    assert len(spy.encoded) == 1
    assert iou(second.outline, truth(source, BLOCKS[1])) > 0.9
    assert np.isnan(second.agreement)
    assert iou(first.outline, truth(source, BLOCKS[0])) > 0.9
    assert iou(third.outline, truth(source, BLOCKS[2])) > 0.9


def test_no_prompts_give_no_results(source: Scene):
    assert Refine(Spy(), ALL)(source, WHOLE, []) == []


def test_what_a_window_showed_is_told_with_all_its_batches(source: Scene):
    told: list[Any] = []

    @dataclass(frozen=True)
    class Asked(Spy):
        def decode(self, embedding: Any, points: np.ndarray, labels: np.ndarray, hints: Any, agreed: Any = None) -> Any:
            told.append(agreed)
            return super().decode(embedding, points, labels, hints, agreed)

    click = Prompt(None, np.array([[40.0, 40.0]]), NONE)
    Refine(Asked(), ALL, batch=1)(source, WHOLE, [prompt(BLOCKS[0]), click, prompt(BLOCKS[1])])
    first, second, bare = told
    assert first is second
    assert bare is not first


def test_a_support_covers_what_it_covers_on_the_whole_grid(source: Scene):
    """Rasterised around the support alone, it is the same to the last bit, also across the window's edge."""
    refine, window = Refine(Spy(), ALL), Window(30, 40, 96, 96)
    rng = np.random.default_rng(0)
    for _ in range(50):
        corners = rng.uniform(0, 160, 2) + rng.uniform(-25, 25, (6, 2))
        support = shapely.MultiPoint(corners).convex_hull
        moved = shapely.transform(support, lambda xy: (xy - (30, 40)) * (512 / 96))
        filled = rasterize([moved], out_shape=(512, 512), dtype=np.uint8)
        wanted = filled.reshape(128, 4, 128, 4).mean((1, 3), dtype=np.float32)
        np.testing.assert_array_equal(refine._cover(support, window), wanted)

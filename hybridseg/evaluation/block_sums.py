"""Sums over blocks of ground, from which all figures of polygons are computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from hybridseg.evaluation.area import crs_of, to_crs
from hybridseg.evaluation.comparison import Comparison
from hybridseg.metrics import objects, pixels, scores
from hybridseg.metrics.bootstrap import Blocks
from hybridseg.metrics.boundary import boundary_iou, corners, hausdorff, polis
from hybridseg.metrics.lines import near_lengths
from hybridseg.metrics.objects import HIT, IGNORED, Match, Overlaps

IOU = 0.5
"""IoU from which a pair is a hit."""

_MIN_CORE_PX, _MAX_CORE_PX = 16, 1024


@dataclass(frozen=True)
class Paired:
    """A comparison of polygons with its objects paired and assigned to blocks.

    Attributes:
        comparison: both sides.
        lattice: the blocks.
    """

    comparison: Comparison
    lattice: Blocks

    @cached_property
    def overlaps(self) -> Overlaps:
        """Overlaps of objects of the same class."""
        pred, ref = self.comparison.pred, self.comparison.ref
        pairs = objects.overlaps(pred.seen, ref.seen)
        return pairs.where(pred.classes[pairs.pred] == ref.classes[pairs.truth])

    @cached_property
    def matched(self) -> Match:
        """Pairs at IoU 0.5, those of ignored objects included."""
        return objects.best_first(self.overlaps, IOU)

    @cached_property
    def verdicts(self) -> tuple[np.ndarray, np.ndarray]:
        """A verdict on each predicted and each reference object, (n,) text."""
        return objects.verdicts(
            self.overlaps, self.matched, (self.comparison.pred.ignored, self.comparison.ref.ignored)
        )

    @cached_property
    def hits(self) -> Match:
        """Pairs at IoU 0.5 that count."""
        m = self.matched
        keep = self.verdicts[1][m.truth] == HIT
        return Match(m.pred[keep], m.truth[keep], m.ious[keep], m.n_pred, m.n_truth)

    @cached_property
    def blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """Block of each predicted and each reference object, (n,) int; both of a pair are in that of the reference."""
        sides = self.comparison.pred, self.comparison.ref
        of_pred, of_ref = (self.lattice.of(shapely.get_coordinates(shapely.centroid(side.seen))) for side in sides)
        of_pred[self.matched.pred] = of_ref[self.matched.truth]
        return of_pred, of_ref


def object_sums(paired: Paired) -> np.ndarray:
    """Return (blocks, K, 5) by class: hits, false, missed, hits above IoU 0.5, and the sum of the IoU of the latter.

    Panoptic quality counts pairs above a half, the other figures pairs at a half as well.
    """
    c, hits = paired.comparison, paired.hits
    of_pred, of_ref = paired.blocks
    sums = np.zeros((paired.lattice.size, len(c.classes), 5))
    place = of_ref[hits.truth], c.ref.classes[hits.truth]
    above = hits.ious > IOU
    for column, values in ((0, np.ones(len(hits.ious))), (3, above), (4, hits.ious * above)):
        np.add.at(sums[..., column], place, values)
    sides = zip((1, 2), (c.pred, c.ref), (of_pred, of_ref), paired.verdicts, strict=True)
    for column, side, blocks, verdicts in sides:
        alone = ~np.isin(verdicts, (HIT, IGNORED))
        np.add.at(sums[..., column], (blocks[alone], side.classes[alone]), 1)
    return sums


def pixel_sums(paired: Paired) -> np.ndarray:
    """Return confusion matrices, (blocks, K + 1, K + 1), reference classes in rows, 0 for none.

    Pixels are counted in windows about as large as a block; a window belongs to the block that holds its centre.
    """
    c, lattice = paired.comparison, paired.lattice
    crs, study = crs_of(c.grid), c.area
    pred, ref = ((to_crs(side.seen, study.crs, crs), side.classes) for side in (c.pred, c.ref))
    area, ignore = (None if g is None else to_crs(np.array([g]), study.crs, crs)[0] for g in (study.area, study.ignore))
    grid = pixels.crop(c.grid, np.concatenate([pred[0], ref[0]]) if area is None else np.array([area]))
    block_px = lattice.side_m / c.pixel_m
    core = max(_MIN_CORE_PX, round(block_px / math.ceil(block_px / _MAX_CORE_PX)))
    sums = np.zeros((lattice.size, len(c.classes) + 1, len(c.classes) + 1))
    windows, matrices = zip(*pixels.confusion(pred, ref, len(c.classes), grid, area, ignore, core), strict=True)
    np.add.at(sums, lattice.of(_centres(windows, paired)), np.array(matrices))
    return sums


def outline_sums(paired: Paired) -> np.ndarray:
    """Return (blocks, 4) metres of outline: predicted within the tolerance, predicted, reference within it, reference.

    Outlines are compared with those of the same class.
    """
    c = paired.comparison
    inside = c.area.shrunk(c.tolerance_m)
    sums = np.zeros((paired.lattice.size, 4))
    lines = [shapely.boundary(side.whole) for side in (c.pred, c.ref)]
    for number in range(len(c.classes)):
        own = [side.classes == number for side in (c.pred, c.ref)]
        for column, (a, b, side) in ((0, (0, 1, c.pred)), (2, (1, 0, c.ref))):
            measured = own[a] & ~side.ignored
            lengths = near_lengths(lines[a][measured], lines[b][own[b]], c.tolerance_m, inside)
            sums[:, column : column + 2] += paired.lattice.sums(paired.blocks[a][measured], np.stack(lengths, axis=-1))
    return sums


def shape_sums(paired: Paired) -> np.ndarray:
    """Return (blocks, 6) over the hits that are not cut by the area: number, boundary IoU, PoLiS, Hausdorff, corners.

    Corners are two columns: of the predicted objects and of the reference objects.
    """
    c, hits = paired.comparison, paired.hits
    whole = ~(c.pred.cut[hits.pred] | c.ref.cut[hits.truth])
    pred, ref = c.pred.whole[hits.pred[whole]], c.ref.whole[hits.truth[whole]]
    values = (
        np.ones(len(pred)), boundary_iou(pred, ref, c.tolerance_m), polis(pred, ref),
        hausdorff(pred, ref, c.tolerance_m / 2), corners(pred), corners(ref),
    )  # fmt: skip
    return paired.lattice.sums(paired.blocks[1][hits.truth[whole]], np.stack(values, axis=-1))


def segmentation_sums(paired: Paired) -> np.ndarray:
    """Return (blocks, 3): number of pairs of object and segment, sums of over- and under-segmentation."""
    c, pairs = paired.comparison, paired.overlaps
    counts = ~(c.pred.ignored[pairs.pred] | c.ref.ignored[pairs.truth])
    truth, over, under = objects.segmentation(pairs.where(counts), c.pred.seen, c.ref.seen)
    return paired.lattice.sums(paired.blocks[1][truth], np.stack([np.ones(len(truth)), over, under], axis=-1))


def reliability_sums(paired: Paired) -> np.ndarray | None:
    """Return (blocks, bins, 3), see `scores.reliability`; None where there are no scores from 0 to 1."""
    side, verdicts = paired.comparison.pred, paired.verdicts[0]
    if side.scores is None or not len(side) or side.scores.min() < 0 or side.scores.max() > 1:
        return None
    counts = verdicts != IGNORED
    own = side.scores[counts], verdicts[counts] == HIT, paired.blocks[0][counts]
    return scores.reliability(*own, paired.lattice.size)


def rankings(paired: Paired) -> list[scores.Ranking] | None:
    """Return the ranking of each class; None without scores."""
    pred, ref = paired.comparison.pred, paired.comparison.ref
    if pred.scores is None:
        return None
    both = (pred.ignored, ref.ignored), (pred.classes, ref.classes), paired.blocks
    return scores.rank(paired.overlaps, pred.scores, *both, len(paired.comparison.classes), paired.lattice.size)


def _centres(windows: Sequence[GeoBox], paired: Paired) -> np.ndarray:
    """Return the centres of windows in the metric CRS, (n, 2)."""
    centres = shapely.points([window.affine @ (window.width / 2, window.height / 2) for window in windows])
    return np.asarray(shapely.get_coordinates(to_crs(centres, crs_of(windows[0]), paired.comparison.area.crs)))

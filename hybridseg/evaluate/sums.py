"""What each block of ground holds of a comparison of polygons: the sums that all its figures are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from hybridseg.evaluate.align.compare import Comparison
from hybridseg.evaluate.align.ground import crop
from hybridseg.evaluate.align.metric import to_crs
from hybridseg.evaluate.align.rasters import crs_of
from hybridseg.evaluate.measure import pixels, scores
from hybridseg.evaluate.measure.bootstrap import Lattice
from hybridseg.evaluate.measure.boundary import boundary_iou, corners, hausdorff, polis
from hybridseg.evaluate.measure.near import near_lengths
from hybridseg.evaluate.measure.objects import Match, Overlaps, best_first, overlaps
from hybridseg.evaluate.measure.ranking import Ranking, rank
from hybridseg.evaluate.measure.verdicts import HIT, IGNORED, segmentation, verdicts

IOU = 0.5
_MIN_CORE_PX, _MAX_CORE_PX = 16, 1024


@dataclass(frozen=True)
class Paired:
    """A comparison of polygons with its objects paired, and blocks laid over its ground."""

    comparison: Comparison
    lattice: Lattice

    @cached_property
    def found(self) -> Overlaps:
        """Overlaps of objects of one class."""
        pred, ref = self.comparison.pred, self.comparison.ref
        found = overlaps(pred.seen, ref.seen)
        return found.where(pred.classes[found.pred] == ref.classes[found.truth])

    @cached_property
    def matched(self) -> Match:
        """Pairs at IoU 0.5, those of ignored objects as well."""
        return best_first(self.found, IOU)

    @cached_property
    def verdicts(self) -> tuple[np.ndarray, np.ndarray]:
        """One word for each predicted and each reference object."""
        return verdicts(self.found, self.matched, (self.comparison.pred.ignored, self.comparison.ref.ignored))

    @cached_property
    def counted(self) -> Match:
        """Pairs at IoU 0.5 that count."""
        keep = self.verdicts[1][self.matched.truth] == HIT
        m = self.matched
        return Match(m.pred[keep], m.truth[keep], m.ious[keep], m.n_pred, m.n_truth)

    @cached_property
    def blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """Block of each predicted and each reference object; both of a pair are in that of the reference."""
        sides = self.comparison.pred, self.comparison.ref
        of_pred, of_ref = (self.lattice.of(shapely.get_coordinates(shapely.centroid(side.seen))) for side in sides)
        of_pred[self.matched.pred] = of_ref[self.matched.truth]
        return of_pred, of_ref


def object_sums(paired: Paired) -> np.ndarray:
    """(blocks, K, 5): hits, false ones, missed ones, hits above IoU 0.5 and the sum of their IoU, by class."""
    c, pairs = paired.comparison, paired.counted
    (of_pred, of_ref), (said_pred, said_ref) = paired.blocks, paired.verdicts
    sums = np.zeros((paired.lattice.size, len(c.classes), 5))
    place = of_ref[pairs.truth], c.ref.classes[pairs.truth]
    above = pairs.ious > IOU  # panoptic quality counts pairs above a half, not at it
    for column, values in ((0, np.ones(len(pairs.ious))), (3, above), (4, pairs.ious * above)):
        np.add.at(sums[..., column], place, values)
    for column, side, blocks, said in ((1, c.pred, of_pred, said_pred), (2, c.ref, of_ref, said_ref)):
        alone = ~np.isin(said, (HIT, IGNORED))
        np.add.at(sums[..., column], (blocks[alone], side.classes[alone]), 1)
    return sums


def pixel_sums(paired: Paired) -> np.ndarray:
    """(blocks, K + 1, K + 1): pixels by class, rows reference; a window counts to the block over its centre."""
    c, lattice = paired.comparison, paired.lattice
    crs, ground = crs_of(c.grid), c.ground
    pred, ref = ((to_crs(side.seen, ground.crs, crs), side.classes) for side in (c.pred, c.ref))
    area, ignore = (
        None if g is None else to_crs(np.array([g]), ground.crs, crs)[0] for g in (ground.area, ground.ignore)
    )
    grid = crop(c.grid, np.concatenate([pred[0], ref[0]]) if area is None else np.array([area]))
    block_px = lattice.side_m / c.pixel_m
    core = max(_MIN_CORE_PX, round(block_px / math.ceil(block_px / _MAX_CORE_PX)))
    sums = np.zeros((lattice.size, len(c.classes) + 1, len(c.classes) + 1))
    windows, tables = zip(*pixels.confusion(pred, ref, len(c.classes), grid, area, ignore, core), strict=True)
    np.add.at(sums, lattice.of(_centres(windows, paired)), np.array(tables))
    return sums


def outline_sums(paired: Paired) -> np.ndarray:
    """(blocks, 4) metres of outline: predicted within the tolerance, predicted, reference within it, reference."""
    c = paired.comparison
    inside = c.ground.shrunk(c.tolerance_m)
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
    """(blocks, 6) over pairs that nothing cuts: number, boundary IoU, PoLiS, Hausdorff, corners of either."""
    c, pairs = paired.comparison, paired.counted
    whole = ~(c.pred.cut[pairs.pred] | c.ref.cut[pairs.truth])
    pred, ref = c.pred.whole[pairs.pred[whole]], c.ref.whole[pairs.truth[whole]]
    values = (
        np.ones(len(pred)), boundary_iou(pred, ref, c.tolerance_m), polis(pred, ref),
        hausdorff(pred, ref, c.tolerance_m / 2), corners(pred), corners(ref),
    )  # fmt: skip
    return paired.lattice.sums(paired.blocks[1][pairs.truth[whole]], np.stack(values, axis=-1))


def segmentation_sums(paired: Paired) -> np.ndarray:
    """(blocks, 3): number of segments, over- and under-segmentation."""
    c = paired.comparison
    counts = ~(c.pred.ignored[paired.found.pred] | c.ref.ignored[paired.found.truth])
    truth, over, under = segmentation(paired.found.where(counts), c.pred.seen, c.ref.seen)
    return paired.lattice.sums(paired.blocks[1][truth], np.stack([np.ones(len(truth)), over, under], axis=-1))


def reliability_sums(paired: Paired) -> np.ndarray | None:
    """(blocks, bins, 3), see `scores.reliability`; None where scores are not from 0 to 1."""
    side, said = paired.comparison.pred, paired.verdicts[0]
    if side.scores is None or not len(side) or side.scores.min() < 0 or side.scores.max() > 1:
        return None
    counts = said != IGNORED
    own = side.scores[counts], said[counts] == HIT, paired.blocks[0][counts]
    return scores.reliability(*own, paired.lattice.size)


def rankings(paired: Paired) -> list[Ranking] | None:
    """One a class; None without scores."""
    pred, ref = paired.comparison.pred, paired.comparison.ref
    if pred.scores is None:
        return None
    sizes = len(paired.comparison.classes), paired.lattice.size
    both = (pred.ignored, ref.ignored), (pred.classes, ref.classes), paired.blocks
    return rank(paired.found, pred.scores, *both, *sizes)


def _centres(windows: Sequence[GeoBox], paired: Paired) -> np.ndarray:
    """Centres of windows in the metric CRS, (n, 2)."""
    centres = shapely.points([window.affine @ (window.width / 2, window.height / 2) for window in windows])
    return np.asarray(shapely.get_coordinates(to_crs(centres, crs_of(windows[0]), paired.comparison.ground.crs)))

"""All figures of a comparison of polygons: pixels, objects, outlines and scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from hybridseg.evaluation import block_sums
from hybridseg.evaluation.block_sums import Paired
from hybridseg.evaluation.comparison import Comparison, Side
from hybridseg.metrics import pixels
from hybridseg.metrics.bootstrap import (
    Bootstrap,
    Formula,
    Sample,
    column_ratio,
    mean_over_classes,
    ratio,
    two_sided_f1,
)
from hybridseg.metrics.objects import HIT, IGNORED, MERGED, SPLIT
from hybridseg.metrics.scores import (
    IOUS,
    RECALLS,
    Ranking,
    calibration_error,
    mean_average_precision,
    reliability_curve,
)

SIZES_M2 = (0, 10, 100, 1_000, 10_000, 100_000, np.inf)
"""Edges of the size bins: decades, as fields, houses and panels have no common scale."""

_AP_ROUNDS = 200


def precision(objects: np.ndarray) -> np.ndarray:
    """Precision from sums (..., 5) of `block_sums.object_sums`; 0 for a map without objects where there are any."""
    hits, false, missed = objects[..., 0], objects[..., 1], objects[..., 2]
    return np.where((hits + false == 0) & (missed > 0), 0, ratio(hits, hits + false))


def recall(objects: np.ndarray) -> np.ndarray:
    """Recall from sums (..., 5)."""
    return ratio(objects[..., 0], objects[..., 0] + objects[..., 2])


def f1(objects: np.ndarray) -> np.ndarray:
    """F1 from sums (..., 5)."""
    return ratio(2 * objects[..., 0], 2 * objects[..., 0] + objects[..., 1] + objects[..., 2])


def panoptic(objects: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Panoptic, segmentation and recognition quality from sums (..., 5).

    Kirillov et al. 2019 (Panoptic segmentation). A class without any hit has a segmentation quality of 0, as in the
    authors' tool.
    """
    both = 2 * objects[..., 0] + objects[..., 1] + objects[..., 2]  # predicted and reference objects
    hits, iou = objects[..., 3], objects[..., 4]
    segmentation = np.where((hits == 0) & (both > 0), 0, ratio(iou, hits))
    return ratio(2 * iou, both), segmentation, ratio(2 * hits, both)


_PIXELS: dict[str, Formula] = {
    "pixel_iou": lambda matrix: mean_over_classes(pixels.iou(matrix)),
    "pixel_f1": lambda matrix: mean_over_classes(pixels.f1(matrix)),
}
_OBJECTS: dict[str, Formula] = {
    "precision": lambda objects: precision(objects.sum(axis=-2)),
    "recall": lambda objects: recall(objects.sum(axis=-2)),
    "f1": lambda objects: f1(objects.sum(axis=-2)),
    "pq": lambda objects: mean_over_classes(panoptic(objects)[0]),
    "sq": lambda objects: mean_over_classes(panoptic(objects)[1]),
    "rq": lambda objects: mean_over_classes(panoptic(objects)[2]),
}
_SEGMENTS: dict[str, Formula] = {
    "over_segmentation": column_ratio(part=1, whole=0),
    "under_segmentation": column_ratio(part=2, whole=0),
}
_OUTLINES: dict[str, Formula] = {
    "boundary_precision": column_ratio(part=0, whole=1),
    "boundary_recall": column_ratio(part=2, whole=3),
    "boundary_f1": two_sided_f1,
}
_SHAPES: dict[str, Formula] = {
    "boundary_iou": column_ratio(part=1, whole=0),
    "polis_m": column_ratio(part=2, whole=0),
    "hausdorff_m": column_ratio(part=3, whole=0),
    "vertex_ratio": column_ratio(part=4, whole=5),
}
_SCORES: dict[str, Formula] = {"ece": calibration_error}


@dataclass(frozen=True)
class PolygonSums:
    """What each block of ground holds, for all figures of polygons.

    Attributes:
        paired: the comparison.
        objects: `block_sums.object_sums`.
        matrices: `block_sums.pixel_sums`.
        segments: `block_sums.segmentation_sums`.
        outlines: `block_sums.outline_sums`.
        shapes: `block_sums.shape_sums`.
        calibration: `block_sums.reliability_sums`.
        rankings: `block_sums.rankings`.
    """

    paired: Paired
    objects: np.ndarray
    matrices: np.ndarray
    segments: np.ndarray
    outlines: np.ndarray
    shapes: np.ndarray
    calibration: np.ndarray | None
    rankings: list[Ranking] | None

    @classmethod
    def of(cls, paired: Paired) -> PolygonSums:
        """Count and measure everything once."""
        return cls(
            paired,
            objects=block_sums.object_sums(paired),
            matrices=block_sums.pixel_sums(paired),
            segments=block_sums.segmentation_sums(paired),
            outlines=block_sums.outline_sums(paired),
            shapes=block_sums.shape_sums(paired),
            calibration=block_sums.reliability_sums(paired),
            rankings=block_sums.rankings(paired),
        )

    @property
    def occupied(self) -> np.ndarray:
        """Which blocks hold any object or pixel of one, (blocks,) bool."""
        foreground = self.matrices.sum(axis=(1, 2)) > self.matrices[:, 0, 0]
        return np.asarray(self.objects[..., :3].any(axis=(1, 2)) | foreground)

    def samples(self, bootstrap: Bootstrap) -> dict[str, Sample]:
        """Return every headline figure by name."""
        groups = [
            (self.matrices, _PIXELS), (self.objects, _OBJECTS), (self.segments, _SEGMENTS), (self.outlines, _OUTLINES),
            (self.shapes, _SHAPES),
        ]  # fmt: skip
        groups += [] if self.calibration is None else [(self.calibration, _SCORES)]
        samples = {name: bootstrap(sums, formula) for sums, group in groups for name, formula in group.items()}
        if self.rankings is None:
            return samples
        average = partial(mean_average_precision, self.rankings)
        return samples | {
            "ap50": bootstrap.weighted(lambda weights: float(average(weights, levels=1)[0]), _AP_ROUNDS),
            "ap50_95": bootstrap.weighted(lambda weights: float(average(weights).mean()), _AP_ROUNDS),
        }

    def details(self) -> dict[str, Any]:
        """Return the other fields of `report.Report` that depend on the kind of objects."""
        c, matrix = self.paired.comparison, self.matrices.sum(axis=0)
        return {
            "per_class": _per_class(c, self.objects.sum(axis=0), matrix, self.rankings),
            "per_size": _per_size(self.paired),
            "confusion": {"classes": ("none", *c.classes), "pixels": matrix.astype(int)},
            "curves": _curves(self.paired, self.rankings, self.calibration),
            "verdicts": _verdict_table(self.paired),
            "counts": _counts(self.paired),
        }


def _per_class(
    c: Comparison, objects: np.ndarray, matrix: np.ndarray, rankings: list[Ranking] | None
) -> dict[str, dict[str, float]]:
    quality, segmentation, recognition = panoptic(objects)
    columns = {
        "reference": objects[:, 0] + objects[:, 2], "predicted": objects[:, 0] + objects[:, 1], "hits": objects[:, 0],
        "precision": precision(objects), "recall": recall(objects), "f1": f1(objects),
        "pq": quality, "sq": segmentation, "rq": recognition,
        "pixel_iou": pixels.iou(matrix), "pixel_f1": pixels.f1(matrix),
    }  # fmt: skip
    if rankings is not None:
        average = np.array([ranking.average_precision() for ranking in rankings])
        columns |= {"ap50": average[:, 0], "ap50_95": average.mean(axis=1)}
    return {name: {key: float(v[i]) for key, v in columns.items()} for i, name in enumerate(c.classes)}


def _per_size(paired: Paired) -> tuple[dict[str, float], ...]:
    c, (of_pred, of_ref) = paired.comparison, paired.verdicts
    bin_pred, bin_ref = (np.digitize(shapely.area(side.seen), SIZES_M2) - 1 for side in (c.pred, c.ref))
    rows = []
    for number, (low, high) in enumerate(pairwise(SIZES_M2)):
        ious = paired.hits.ious[bin_ref[paired.hits.truth] == number]
        false = ((bin_pred == number) & ~np.isin(of_pred, (HIT, IGNORED))).sum()
        missed = ((bin_ref == number) & ~np.isin(of_ref, (HIT, IGNORED))).sum()
        sums = np.array([len(ious), false, missed], float)
        row = {"low_m2": low, "high_m2": high, "reference": sums[0] + sums[2], "hits": sums[0], "false": sums[1]}
        row |= {"precision": precision(sums), "recall": recall(sums), "f1": f1(sums)}
        rows.append({k: float(v) for k, v in row.items()} | {"mean_iou": float(ious.mean()) if len(ious) else np.nan})
    return tuple(row for row in rows if row["reference"] + row["false"])


def _curves(paired: Paired, rankings: list[Ranking] | None, calibration: np.ndarray | None) -> dict[str, Any]:
    curves: dict[str, Any] = {"by_iou": {"iou": IOUS, "f1": [_f1_at(paired, iou) for iou in IOUS]}}
    if rankings is not None:
        precisions = {name: r.precisions() for name, r in zip(paired.comparison.classes, rankings, strict=True)}
        curves["by_iou"]["ap"] = mean_average_precision(rankings)
        curves["precision_recall"] = {"recall": RECALLS, "precision": precisions}
    if calibration is not None:
        score, hits, number = reliability_curve(calibration.sum(axis=0))
        curves["reliability"] = {"score": score, "share_of_hits": hits, "objects": number}
    return curves


def _f1_at(paired: Paired, iou: float) -> float:
    """Return F1 at a stricter IoU: pairs are taken best first, so those above it are a subset of those at 0.5."""
    both = sum((verdicts != IGNORED).sum() for verdicts in paired.verdicts)
    return float(ratio(2 * (paired.hits.ious >= iou).sum(), both))


def _counts(paired: Paired) -> dict[str, int]:
    c, (of_pred, of_ref) = paired.comparison, paired.verdicts
    return {
        "predicted": int((of_pred != IGNORED).sum()),
        "reference": int((of_ref != IGNORED).sum()),
        "hits": len(paired.hits.ious),
        "ignored_predicted": int((of_pred == IGNORED).sum()) + c.pred.skipped,
        "ignored_reference": int((of_ref == IGNORED).sum()) + c.ref.skipped,
        "split": int((of_ref == SPLIT).sum()),
        "merged": int((of_ref == MERGED).sum()),
    }


def _verdict_table(paired: Paired) -> gpd.GeoDataFrame:
    """Return both sides as one layer, a row an object, with its verdict; columns as in `report.Report`."""
    c, pairs, m = paired.comparison, paired.overlaps, paired.matched
    partner = np.full(len(c.pred), -1), np.full(len(c.ref), -1)
    partner[0][m.pred], partner[1][m.truth] = c.ref.rows[m.truth], c.pred.rows[m.pred]
    best = np.zeros(len(c.pred)), np.zeros(len(c.ref))
    np.maximum.at(best[0], pairs.pred, pairs.ious)
    np.maximum.at(best[1], pairs.truth, pairs.ious)
    sides = zip(("pred", "ref"), (c.pred, c.ref), paired.verdicts, best, partner, strict=True)
    tables = [_side_table(c, *columns) for columns in sides]
    return gpd.GeoDataFrame(pd.concat([t for t in tables if len(t)], ignore_index=True), crs=c.area.crs)


def _side_table(
    c: Comparison, name: str, side: Side, verdicts: np.ndarray, best_iou: np.ndarray, partner: np.ndarray
) -> gpd.GeoDataFrame:
    columns = {
        "side": name, "row": side.rows, "class": np.array(c.classes, dtype=object)[side.classes],
        "score": np.full(len(side), np.nan) if side.scores is None else side.scores,
        "verdict": verdicts.astype(object), "best_iou": best_iou, "match": partner, "area_m2": shapely.area(side.seen),
    }  # fmt: skip
    return gpd.GeoDataFrame(columns, geometry=side.seen, crs=c.area.crs, index=range(len(side)))

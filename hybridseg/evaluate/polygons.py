"""All figures of a comparison of polygons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from hybridseg.evaluate import sums
from hybridseg.evaluate.align.compare import Comparison, Side
from hybridseg.evaluate.measure import pixels, scores
from hybridseg.evaluate.measure.bootstrap import Bootstrap, Sample, over_classes, ratio
from hybridseg.evaluate.measure.ranking import IOUS, RECALLS, Ranking, mean_average_precision
from hybridseg.evaluate.measure.verdicts import HIT, IGNORED, MERGED, SPLIT
from hybridseg.evaluate.sums import Paired

SIZES_M2 = (0, 10, 100, 1_000, 10_000, 100_000, np.inf)
"""Edges of the size bins: decades, as fields, houses and panels have no common scale."""

_AP_ROUNDS = 200


Values = Callable[[np.ndarray], np.ndarray]
"""A figure: from sums (..., any shape) to values (...)."""


def precision(objects: np.ndarray) -> np.ndarray:
    """From sums (..., 5) of `sums.object_sums`; 0 for a map without objects where there are some to find."""
    hits, wrong, missed = objects[..., 0], objects[..., 1], objects[..., 2]
    return np.where((hits + wrong == 0) & (missed > 0), 0, ratio(hits, hits + wrong))


def recall(objects: np.ndarray) -> np.ndarray:
    """From sums (..., 5)."""
    return ratio(objects[..., 0], objects[..., 0] + objects[..., 2])


def f1(objects: np.ndarray) -> np.ndarray:
    """From sums (..., 5)."""
    return ratio(2 * objects[..., 0], 2 * objects[..., 0] + objects[..., 1] + objects[..., 2])


def panoptic(objects: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(quality, of segmentation, of recognition) from sums (..., 5): Kirillov et al. 2019 (Panoptic segmentation).

    A class without any hit has a segmentation quality of 0, as in the authors' tool.
    """
    both = 2 * objects[..., 0] + objects[..., 1] + objects[..., 2]  # predicted and reference objects
    hits, iou = objects[..., 3], objects[..., 4]
    segmentation = np.where((hits == 0) & (both > 0), 0, ratio(iou, hits))
    return ratio(2 * iou, both), segmentation, ratio(2 * hits, both)


def harmonic(sums_: np.ndarray) -> np.ndarray:
    """F1 from sums (..., 4): part and whole of one side, part and whole of the other; nan where both are nothing."""
    one, two = (np.nan_to_num(ratio(sums_[..., i], sums_[..., i + 1])) for i in (0, 2))
    return np.where(sums_[..., 1] + sums_[..., 3] > 0, np.nan_to_num(ratio(2 * one * two, one + two)), np.nan)


def share_of(sums_: np.ndarray, part: int, whole: int) -> np.ndarray:
    """One of the sums (..., k) by another."""
    return ratio(sums_[..., part], sums_[..., whole])


_PIXELS: dict[str, Values] = {
    "pixel_iou": lambda table: over_classes(pixels.iou(table)),
    "pixel_f1": lambda table: over_classes(pixels.f1(table)),
}
_OBJECTS: dict[str, Values] = {
    "precision": lambda objects: precision(objects.sum(axis=-2)),
    "recall": lambda objects: recall(objects.sum(axis=-2)),
    "f1": lambda objects: f1(objects.sum(axis=-2)),
    "pq": lambda objects: over_classes(panoptic(objects)[0]),
    "sq": lambda objects: over_classes(panoptic(objects)[1]),
    "rq": lambda objects: over_classes(panoptic(objects)[2]),
}
_SEGMENTS: dict[str, Values] = {
    "over_segmentation": partial(share_of, part=1, whole=0),
    "under_segmentation": partial(share_of, part=2, whole=0),
}
_OUTLINES: dict[str, Values] = {
    "boundary_precision": partial(share_of, part=0, whole=1),
    "boundary_recall": partial(share_of, part=2, whole=3),
    "boundary_f1": harmonic,
}
_SHAPES: dict[str, Values] = {
    "boundary_iou": partial(share_of, part=1, whole=0),
    "polis_m": partial(share_of, part=2, whole=0),
    "hausdorff_m": partial(share_of, part=3, whole=0),
    "vertex_ratio": partial(share_of, part=4, whole=5),
}
_SCORES: dict[str, Values] = {"ece": scores.calibration_error}


@dataclass(frozen=True)
class Tally:
    """What each block of ground holds, for all figures; see the functions of `sums` for the arrays."""

    paired: Paired
    objects: np.ndarray
    painted: np.ndarray
    segments: np.ndarray
    outlines: np.ndarray
    shapes: np.ndarray
    calibration: np.ndarray | None
    rankings: list[Ranking] | None

    @classmethod
    def of(cls, paired: Paired) -> Tally:
        """Count and measure everything once."""
        return cls(
            paired, sums.object_sums(paired), sums.pixel_sums(paired), sums.segmentation_sums(paired),
            sums.outline_sums(paired), sums.shape_sums(paired), sums.reliability_sums(paired), sums.rankings(paired),
        )  # fmt: skip

    @property
    def holds(self) -> np.ndarray:
        """Which blocks hold anything, (blocks,) bool."""
        foreground = self.painted.sum(axis=(1, 2)) > self.painted[:, 0, 0]
        return np.asarray(self.objects[..., :3].any(axis=(1, 2)) | foreground)

    def samples(self, bootstrap: Bootstrap) -> dict[str, Sample]:
        """Every headline figure."""
        groups = [
            (self.painted, _PIXELS), (self.objects, _OBJECTS), (self.segments, _SEGMENTS), (self.outlines, _OUTLINES),
            (self.shapes, _SHAPES),
        ]  # fmt: skip
        groups += [] if self.calibration is None else [(self.calibration, _SCORES)]
        found = {name: bootstrap(held, of) for held, group in groups for name, of in group.items()}
        if self.rankings is None:
            return found
        curve = partial(mean_average_precision, self.rankings)
        return found | {
            "ap50": bootstrap.weighted(lambda weights: float(curve(weights, levels=1)[0]), _AP_ROUNDS),
            "ap50_95": bootstrap.weighted(lambda weights: float(curve(weights).mean()), _AP_ROUNDS),
        }

    def details(self) -> dict[str, Any]:
        """The fields of `report.Report` that depend on the kind, but for the headline figures."""
        c, table = self.paired.comparison, self.painted.sum(axis=0)
        return {
            "per_class": _per_class(c, self.objects.sum(axis=0), table, self.rankings),
            "per_size": _per_size(self.paired),
            "confusion": {"classes": ("none", *c.classes), "pixels": table.astype(int)},
            "curves": _curves(self.paired, self.rankings, self.calibration),
            "verdicts": verdict_table(self.paired),
            "counts": _counts(self.paired),
        }


def _per_class(
    c: Comparison, objects: np.ndarray, table: np.ndarray, rankings: list[Ranking] | None
) -> dict[str, dict[str, float]]:
    quality, segmentation, recognition = panoptic(objects)
    columns = {
        "reference": objects[:, 0] + objects[:, 2], "predicted": objects[:, 0] + objects[:, 1], "hits": objects[:, 0],
        "precision": precision(objects), "recall": recall(objects), "f1": f1(objects),
        "pq": quality, "sq": segmentation, "rq": recognition,
        "pixel_iou": pixels.iou(table), "pixel_f1": pixels.f1(table),
    }  # fmt: skip
    if rankings is not None:
        average = np.array([ranking.average_precision() for ranking in rankings])
        columns |= {"ap50": average[:, 0], "ap50_95": average.mean(axis=1)}
    return {name: {key: float(v[i]) for key, v in columns.items()} for i, name in enumerate(c.classes)}


def _per_size(paired: Paired) -> tuple[dict[str, float], ...]:
    c, (said_pred, said_ref) = paired.comparison, paired.verdicts
    of_pred, of_ref = (np.digitize(shapely.area(side.seen), SIZES_M2) - 1 for side in (c.pred, c.ref))
    rows = []
    for place, (low, high) in enumerate(pairwise(SIZES_M2)):
        hits = paired.counted.ious[of_ref[paired.counted.truth] == place]
        wrong = ((of_pred == place) & ~np.isin(said_pred, (HIT, IGNORED))).sum()
        missed = ((of_ref == place) & ~np.isin(said_ref, (HIT, IGNORED))).sum()
        held = np.array([len(hits), wrong, missed], float)
        row = {"low_m2": low, "high_m2": high, "reference": held[0] + held[2], "hits": held[0], "false": held[1]}
        row |= {"precision": precision(held), "recall": recall(held), "f1": f1(held)}
        rows.append({k: float(v) for k, v in row.items()} | {"mean_iou": float(hits.mean()) if len(hits) else np.nan})
    return tuple(row for row in rows if row["reference"] + row["false"])


def _curves(paired: Paired, rankings: list[Ranking] | None, calibration: np.ndarray | None) -> dict[str, Any]:
    found: dict[str, Any] = {"by_iou": {"iou": IOUS, "f1": [_f1_at(paired, iou) for iou in IOUS]}}
    if rankings is not None:
        names = paired.comparison.classes
        found["by_iou"]["ap"] = mean_average_precision(rankings)
        found["precision_recall"] = {
            "recall": RECALLS, "precision": {name: r.precisions() for name, r in zip(names, rankings, strict=True)},
        }  # fmt: skip
    if calibration is not None:
        score, share, number = scores.curve(calibration.sum(axis=0))
        found["reliability"] = {"score": score, "share_of_hits": share, "objects": number}
    return found


def _f1_at(paired: Paired, iou: float) -> float:
    """F1 at a stricter IoU: best first, so stricter pairs are the head of those at 0.5."""
    counted = paired.counted.ious
    both = sum((said != IGNORED).sum() for said in paired.verdicts)
    return float(ratio(2 * (counted >= iou).sum(), both))


def _counts(paired: Paired) -> dict[str, int]:
    c, (said_pred, said_ref) = paired.comparison, paired.verdicts
    return {
        "predicted": int((said_pred != IGNORED).sum()),
        "reference": int((said_ref != IGNORED).sum()),
        "hits": len(paired.counted.ious),
        "ignored_predicted": int((said_pred == IGNORED).sum()) + c.pred.skipped,
        "ignored_reference": int((said_ref == IGNORED).sum()) + c.ref.skipped,
        "split": int((said_ref == SPLIT).sum()),
        "merged": int((said_ref == MERGED).sum()),
    }


def verdict_table(paired: Paired) -> gpd.GeoDataFrame:
    """Both sides as one layer, a row an object, with its verdict; columns as in `report.Report`."""
    c, found, m = paired.comparison, paired.found, paired.matched
    partner = np.full(len(c.pred), -1), np.full(len(c.ref), -1)
    partner[0][m.pred], partner[1][m.truth] = c.ref.rows[m.truth], c.pred.rows[m.pred]
    best = np.zeros(len(c.pred)), np.zeros(len(c.ref))
    np.maximum.at(best[0], found.pred, found.ious)
    np.maximum.at(best[1], found.truth, found.ious)
    sides = zip(("pred", "ref"), (c.pred, c.ref), paired.verdicts, best, partner, strict=True)
    tables = [_side_table(c, *fields) for fields in sides]
    return gpd.GeoDataFrame(pd.concat([t for t in tables if len(t)], ignore_index=True), crs=c.ground.crs)


def _side_table(
    c: Comparison, name: str, side: Side, verdict: np.ndarray, best_iou: np.ndarray, partner: np.ndarray
) -> gpd.GeoDataFrame:
    columns = {
        "side": name, "row": side.rows, "class": np.array(c.classes, dtype=object)[side.classes],
        "score": np.full(len(side), np.nan) if side.scores is None else side.scores, "verdict": verdict.astype(object),
        "best_iou": best_iou, "match": partner, "area_m2": shapely.area(side.seen),
    }  # fmt: skip
    return gpd.GeoDataFrame(columns, geometry=side.seen, crs=c.ground.crs, index=range(len(side)))

"""All figures of a comparison of lines: length near the other network, and paths preserved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from hybridseg.evaluation.comparison import Comparison
from hybridseg.metrics.bootstrap import Blocks, Bootstrap, Formula, Sample, column_ratio, two_sided_f1
from hybridseg.metrics.lines import AUTHORS_SNAP_M, compare_paths, near_lengths, noded, segments
from hybridseg.metrics.objects import FALSE, HIT, MISSED

_PIECES_PER_BLOCK = 8
_BUFFERS: dict[str, Formula] = {
    "buffer_precision": column_ratio(part=0, whole=1),
    "buffer_recall": column_ratio(part=2, whole=3),
    "buffer_f1": two_sided_f1,
}
_PATHS: dict[str, Formula] = {
    "apls": two_sided_f1,
    "apls_reference": column_ratio(part=0, whole=1),
    "apls_prediction": column_ratio(part=2, whole=3),
}


@dataclass(frozen=True)
class Pieces:
    """A network in short straight pieces.

    Attributes:
        lines: (k,) LineStrings.
        near: (k,) float64, metres of each within the tolerance of the other network.
        length: (k,) float64, metres of each.
    """

    lines: np.ndarray
    near: np.ndarray
    length: np.ndarray

    def sums(self, blocks: Blocks) -> np.ndarray:
        """Return (blocks, 2): metres near the other network, metres."""
        middles = shapely.get_coordinates(shapely.line_interpolate_point(self.lines, 0.5, normalized=True))
        return blocks.sums(blocks.of(middles), np.stack([self.near, self.length], axis=-1))


@dataclass(frozen=True)
class LineSums:
    """What each block of ground holds of two networks.

    Classes are not compared: a road that the map gives another class still leads to the same place.

    Attributes:
        comparison: both sides.
        pred: pieces of the prediction.
        ref: pieces of the reference.
        lengths: (blocks, 4) metres near and in all, of prediction and reference.
        paths: (blocks, 4) sum of scores and number of the paths that start there, of reference and prediction.
    """

    comparison: Comparison
    pred: Pieces
    ref: Pieces
    lengths: np.ndarray
    paths: np.ndarray

    @classmethod
    def of(cls, c: Comparison, blocks: Blocks, seed: int) -> LineSums:
        """Measure everything once; `seed` is that of the sample of paths in large networks."""
        pred, ref = _pieces(c, blocks)
        networks = noded(c.ref.seen), noded(c.pred.seen)
        snap_m = max(c.tolerance_m, AUTHORS_SNAP_M)
        both = [compare_paths(*pair, snap_m=snap_m, seed=seed) for pair in (networks, networks[::-1])]
        lengths = np.concatenate([pred.sums(blocks), ref.sums(blocks)], axis=-1)
        # scores and number of paths, by the block in which they start
        sums = [blocks.sums(blocks.of(paths.start), np.stack([paths.kept, paths.number], axis=-1)) for paths in both]
        return cls(c, pred, ref, lengths, np.concatenate(sums, axis=-1))

    @property
    def occupied(self) -> np.ndarray:
        """Which blocks hold any line, (blocks,) bool."""
        return np.any(self.lengths > 0, axis=1) | np.any(self.paths > 0, axis=1)

    def samples(self, bootstrap: Bootstrap) -> dict[str, Sample]:
        """Return every headline figure by name."""
        groups = [(self.paths, _PATHS), (self.lengths, _BUFFERS)]
        return {name: bootstrap(sums, formula) for sums, group in groups for name, formula in group.items()}

    def details(self) -> dict[str, Any]:
        """Return the other fields of `report.Report` that depend on the kind of objects."""
        c = self.comparison
        return {
            "per_class": {},
            "per_size": (),
            "confusion": None,
            "curves": {},
            "verdicts": _verdict_table(c, self.pred, self.ref),
            "counts": {
                "predicted": len(c.pred), "reference": len(c.ref), "predicted_m": round(self.pred.length.sum()),
                "reference_m": round(self.ref.length.sum()), "paths": int(self.paths[:, [1, 3]].sum()),
            },
        }  # fmt: skip


def _pieces(c: Comparison, blocks: Blocks) -> tuple[Pieces, Pieces]:
    """Return both networks with the length of each piece that lies within the tolerance of the other network.

    Wiedemann et al. 1998 (Empirical evaluation of automatically extracted road axes): the share of the prediction is
    their correctness, that of the reference their completeness. Duplicates count once.
    """
    longest, inside = blocks.side_m / _PIECES_PER_BLOCK, c.area.shrunk(c.tolerance_m)
    pred, ref = (segments(noded(side.whole), longest) for side in (c.pred, c.ref))
    return (
        Pieces(pred, *near_lengths(pred, ref, c.tolerance_m, inside)),
        Pieces(ref, *near_lengths(ref, pred, c.tolerance_m, inside)),
    )


def _verdict_table(c: Comparison, pred: Pieces, ref: Pieces) -> gpd.GeoDataFrame:
    """Return the stretches of both networks that lie near the other one, and those that do not."""
    rows = []
    for side, pieces, otherwise in (("pred", pred, FALSE), ("ref", ref, MISSED)):
        measured = pieces.length > 0
        near = pieces.near >= pieces.length / 2
        for verdict, chosen in ((HIT, near & measured), (otherwise, ~near & measured)):
            merged = shapely.get_parts(shapely.line_merge(shapely.multilinestrings(pieces.lines[chosen])))
            columns = {"side": side, "verdict": verdict, "length_m": shapely.length(merged)}
            rows.append(gpd.GeoDataFrame(columns, geometry=merged, crs=c.area.crs))
    return gpd.GeoDataFrame(pd.concat([r for r in rows if len(r)] or rows[:1], ignore_index=True), crs=c.area.crs)

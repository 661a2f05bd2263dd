"""All figures of a comparison of lines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from hybridseg.evaluate.align.compare import Comparison
from hybridseg.evaluate.measure.bootstrap import Bootstrap, Lattice, Sample
from hybridseg.evaluate.measure.near import near_lengths
from hybridseg.evaluate.measure.roads import Paths, compare_paths, noded, segments
from hybridseg.evaluate.measure.verdicts import FALSE, HIT, MISSED
from hybridseg.evaluate.polygons import Values, harmonic, share_of

_PIECES_A_BLOCK = 8
_BUFFERS: dict[str, Values] = {
    "buffer_precision": partial(share_of, part=0, whole=1),
    "buffer_recall": partial(share_of, part=2, whole=3),
    "buffer_f1": harmonic,
}
_PATHS: dict[str, Values] = {
    "apls": harmonic,
    "apls_reference": partial(share_of, part=0, whole=1),
    "apls_prediction": partial(share_of, part=2, whole=3),
}


@dataclass(frozen=True)
class Pieces:
    """A network in short straight pieces: (k,) lines, metres of each within the tolerance of the other, and in all."""

    lines: np.ndarray
    near: np.ndarray
    length: np.ndarray

    def sums(self, lattice: Lattice) -> np.ndarray:
        """(blocks, 2): metres near, metres."""
        middles = shapely.get_coordinates(shapely.line_interpolate_point(self.lines, 0.5, normalized=True))
        return lattice.sums(lattice.of(middles), np.stack([self.near, self.length], axis=-1))


@dataclass(frozen=True)
class Tally:
    """What each block of ground holds of two networks.

    Classes are not told apart: a way that the map gives another class still leads there.

    pred, ref: their pieces; lengths: (blocks, 4) metres near and in all, of each side; paths: (blocks, 4) scores and
    number of the paths that start there, of each side.
    """

    comparison: Comparison
    pred: Pieces
    ref: Pieces
    lengths: np.ndarray
    paths: np.ndarray

    @classmethod
    def of(cls, c: Comparison, lattice: Lattice, seed: int) -> Tally:
        """Measure everything once; `seed` is of the sample of paths in large networks."""
        pred, ref = buffered(c, lattice)
        networks = noded(c.ref.seen), noded(c.pred.seen)
        ways = [compare_paths(*pair, snap_m=c.tolerance_m, seed=seed) for pair in (networks, networks[::-1])]
        return cls(
            c, pred, ref,
            np.concatenate([pred.sums(lattice), ref.sums(lattice)], axis=-1),
            np.concatenate([_path_sums(way, lattice) for way in ways], axis=-1),
        )  # fmt: skip

    @property
    def holds(self) -> np.ndarray:
        """Which blocks hold anything, (blocks,) bool."""
        return np.any(self.lengths > 0, axis=1) | np.any(self.paths > 0, axis=1)

    def samples(self, bootstrap: Bootstrap) -> dict[str, Sample]:
        """Every headline figure."""
        groups = [(self.paths, _PATHS), (self.lengths, _BUFFERS)]
        return {name: bootstrap(held, of) for held, group in groups for name, of in group.items()}

    def details(self) -> dict[str, Any]:
        """The fields of `report.Report` that depend on the kind, but for the headline figures."""
        c = self.comparison
        return {
            "per_class": {},
            "per_size": (),
            "confusion": None,
            "curves": {},
            "verdicts": _table(c, self.pred, self.ref),
            "counts": {
                "predicted": len(c.pred), "reference": len(c.ref), "predicted_m": round(self.pred.length.sum()),
                "reference_m": round(self.ref.length.sum()), "paths": int(self.paths[:, [1, 3]].sum()),
            },
        }  # fmt: skip


def buffered(c: Comparison, lattice: Lattice) -> tuple[Pieces, Pieces]:
    """Both networks, and how much of each lies within the tolerance of the other.

    Wiedemann et al. 1998 (Empirical evaluation of automatically extracted road axes): the share of the prediction is
    their correctness, that of the reference their completeness. Doubles count once.
    """
    longest, inside = lattice.side_m / _PIECES_A_BLOCK, c.ground.shrunk(c.tolerance_m)
    pred, ref = (segments(noded(side.whole), longest) for side in (c.pred, c.ref))
    return (
        Pieces(pred, *near_lengths(pred, ref, c.tolerance_m, inside)),
        Pieces(ref, *near_lengths(ref, pred, c.tolerance_m, inside)),
    )


def _path_sums(paths: Paths, lattice: Lattice) -> np.ndarray:
    """(blocks, 2): sum of scores and number of paths, by the block they start in."""
    return lattice.sums(lattice.of(paths.start), np.stack([paths.kept, paths.number], axis=-1))


def _table(c: Comparison, pred: Pieces, ref: Pieces) -> gpd.GeoDataFrame:
    """Stretches of both networks that are there in the other, and that are not."""
    rows = []
    for side, pieces, otherwise in (("pred", pred, FALSE), ("ref", ref, MISSED)):
        measured = pieces.length > 0
        there = pieces.near >= pieces.length / 2
        for verdict, chosen in ((HIT, there & measured), (otherwise, ~there & measured)):
            merged = shapely.get_parts(shapely.line_merge(shapely.multilinestrings(pieces.lines[chosen])))
            columns = {"side": side, "verdict": verdict, "length_m": shapely.length(merged)}
            rows.append(gpd.GeoDataFrame(columns, geometry=merged, crs=c.ground.crs))
    return gpd.GeoDataFrame(pd.concat([r for r in rows if len(r)] or rows[:1], ignore_index=True), crs=c.ground.crs)

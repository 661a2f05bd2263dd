"""The verb `evaluate`: a map against a reference, whoever made them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hybridseg.errors import EvaluateError
from hybridseg.evaluate import networks, polygons
from hybridseg.evaluate.align.compare import Comparison, compare
from hybridseg.evaluate.align.layers import Vectors
from hybridseg.evaluate.align.rasters import RasterKind
from hybridseg.evaluate.measure.bootstrap import FEW_BLOCKS, Bootstrap, Figure, Lattice, Sample
from hybridseg.evaluate.report import UNITS, Report, Rival
from hybridseg.evaluate.sums import Paired


def evaluate(
    pred: Vectors,
    ref: Vectors,
    *,
    scene: str | Path | None = None,
    aoi: Vectors | None = None,
    ignore: Vectors | None = None,
    label_column: str | None = None,
    rename: Mapping[str, str] | None = None,
    raster: RasterKind = "auto",
    tolerance_m: float | None = None,
    rival: Vectors | None = None,
    seed: int = 0,
) -> Report:
    """Compare a map with a reference.

    Polygons are compared as pixels, as objects and as outlines, lines as roads; the reference decides which. All is
    measured in metres in a CRS chosen for the reference, whatever those of the files. The AOI, the scene's extent and
    the extent of a raster reference cut both layers; what is in ignore regions, or where a raster reference has no
    data, is cut out of both, and objects with more than half of themselves there count for nothing.

    Args:
        pred: the map: any vector file that GDAL reads, GeoParquet, or a GeoDataFrame.
        ref: the reference: the same, or a raster of classes or instances (0 is none, nodata is unknown).
        scene: the raster that was mapped; its pixels are counted, and nothing beyond it is.
        aoi: polygons; nothing outside counts.
        ignore: polygons; nothing inside counts.
        label_column: holds the classes; default: `class` or `label`. Where a side has none, all rows are one class.
        rename: classes of either side to be called otherwise, such as the codes of a raster: {"1": "building"}.
        raster: what values of a raster reference are; "auto" looks at them and says so in the notes.
        tolerance_m: within this distance outlines and roads agree, and as wide is the band of boundary IoU; default:
            2 pixels of the scene or raster, else a twentieth of the side of the median reference object; for lines
            3 pixels, else 5 m.
        rival: another map of the same ground: what `pred` gains over it, with intervals.
        seed: of the intervals, and of the sample of paths in large networks.

    Raises:
        EvaluateError: a file cannot be read, or the two have nothing to compare: no object, no ground or no class in
            common; or a setting is out of range.
        NoGeoreference: a file's place on the ground is unknown.
    """
    if seed < 0:
        raise EvaluateError(f"the seed is {seed}; give 0 or more")
    maps = [pred] if rival is None else [pred, rival]
    found = [compare(m, ref, scene, aoi, ignore, label_column, rename, raster, tolerance_m) for m in maps]
    c = found[0]
    # one lattice for both, so that what they are resampled by is the same
    corners = np.array([one.bounds for one in found])
    lattice = Lattice.over([*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0)], c.object_m)
    tallies = [_tally(one, lattice, seed) for one in found]
    bootstrap = Bootstrap.of(np.logical_or.reduce([tally.holds for tally in tallies]), seed=seed)
    samples = [tally.samples(bootstrap) for tally in tallies]
    details = tallies[0].details()
    counts = details.pop("counts") | {"blocks": bootstrap.blocks}
    return Report(
        **details,
        figures=_figures(samples[0]),
        counts=counts,
        crs=c.ground.crs.to_string(),
        notes=(*c.notes, f"intervals from blocks of {lattice.side_m:.3g} m"),
        warnings=(*_warnings(found, _text(rival)), *_few(bootstrap.blocks)),
        settings={
            "pred": _text(pred), "ref": _text(ref), "scene": _text(scene), "aoi": _text(aoi), "ignore": _text(ignore),
            "label_column": label_column, "rename": rename, "raster": raster, "tolerance_m": c.tolerance_m,
            "seed": seed,
        },
        rival=None if rival is None else _rival(rival, *samples),
    )  # fmt: skip


def _tally(c: Comparison, lattice: Lattice, seed: int) -> polygons.Tally | networks.Tally:
    return polygons.Tally.of(Paired(c, lattice)) if c.kind == "polygons" else networks.Tally.of(c, lattice, seed)


def _figures(samples: Mapping[str, Sample]) -> dict[str, Figure]:
    return {name: samples[name].figure for name in UNITS if name in samples}


def _rival(rival: Vectors, own: Mapping[str, Sample], others: Mapping[str, Sample]) -> Rival:
    gains = {name: own[name] - others[name] for name in own if name in others}
    return Rival(_text(rival) or "", _figures(others), _figures(gains))


def _warnings(found: list[Comparison], rival: str | None) -> tuple[str, ...]:
    """Of the map, and of the rival what the map's do not say already."""
    own, *others = ((*one.warnings, *_left_out(one)) for one in found)
    return (*own, *(f"{rival}: {warning}" for warnings in others for warning in warnings if warning not in own))


def _left_out(c: Comparison) -> tuple[str, ...]:
    scores = c.pred.scores
    if c.kind == "lines" or not len(c.pred):
        return ()
    if scores is None:
        return ("the prediction has no scores: average precision and calibration are left out",)
    if scores.min() < 0 or scores.max() > 1:
        return (f"scores run from {scores.min():.3g} to {scores.max():.3g}, not from 0 to 1: calibration is left out",)
    return ()


def _few(blocks: int) -> tuple[str, ...]:
    if blocks >= FEW_BLOCKS:
        return ()
    what = "there are no intervals" if blocks < 2 else "the intervals say little"
    return (f"only {blocks} blocks of ground hold objects: {what}",)


def _text(source: Vectors | None) -> str | None:
    return str(source) if isinstance(source, str | Path) else None if source is None else "GeoDataFrame"

"""Compare a map with a reference, whoever made them: `evaluate` is the verb, `report.Report` its result.

`comparison` brings both sides (`layers`, `rasters`) into one CRS, onto one `area`, with the same classes. `block_sums`
measures each block of the area with `hybridseg.metrics`, `polygons` and `lines` compute figures from the sums, `page`
and `picture` draw the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError

from hybridseg.errors import OutputError
from hybridseg.evaluation.block_sums import Paired
from hybridseg.evaluation.comparison import Comparison, LayerInput, Request, build_comparison, input_text
from hybridseg.evaluation.layers import Touching
from hybridseg.evaluation.lines import LineSums
from hybridseg.evaluation.page import page
from hybridseg.evaluation.polygons import PolygonSums
from hybridseg.evaluation.rasters import RasterKind
from hybridseg.evaluation.report import UNITS, Report, Rival
from hybridseg.files import check_output, replacing
from hybridseg.metrics.bootstrap import FEW_BLOCKS, Blocks, Bootstrap, Figure, Sample

__all__ = ["evaluate"]


def evaluate(
    pred: LayerInput,
    ref: LayerInput,
    scene: str | Path | None = None,
    aoi: LayerInput | None = None,
    ignore: LayerInput | None = None,
    label_column: str | None = None,
    raster: RasterKind = "auto",
    touching: Touching = "apart",
    rename: Mapping[str, str] | None = None,
    tolerance_m: float | None = None,
    compare: LayerInput | None = None,
    html: str | Path | None = None,
    layer: str | Path | None = None,
    seed: int = 0,
) -> Report:
    """Compare a map with a reference, whoever made them.

    Polygons are compared as pixels, as objects and as outlines, lines as roads; the reference decides which. Everything
    is measured in metres in a CRS chosen for the reference, whatever those of the files. The AOI, the scene's extent
    and the extent of a raster reference cut both layers. Ignore regions, and pixels of a raster reference without data,
    are cut out of both; an object with more than half of itself there is neither right nor wrong.

    Args:
        pred: the map: any vector file, or a GeoDataFrame.
        ref: the reference: the same, or a raster of classes or instances (0 for none, nodata for unknown).
        scene: the raster that was mapped: its pixels are counted, and nothing beyond it is.
        aoi: polygons outside which nothing counts.
        ignore: polygons inside which nothing counts.
        label_column: column that holds the classes; default: class or label. Without one all rows are one class.
        raster: what the values of a raster reference are; auto looks at them, and a note tells the outcome.
        touching: whether objects of one class that touch are compared apart, or joined into one on both sides, as a
            reference from a mask has them.
        rename: new names of classes of either side, such as the codes of a raster: '{"1": "building"}'.
        tolerance_m: distance within which outlines and roads agree, and width of the band of boundary IoU; default: 2
            pixels of the scene or raster, else a twentieth of the side of the median object; of roads 3 pixels or 5 m.
        compare: another map of the same ground, as in `--compare A B REF`: what B gains over A, with intervals.
        html: report to write, one file to open in a browser, with the map and the worst objects; see also `scene`.
        layer: GeoPackage to write with the verdict on each object, to open over the scene.
        seed: of the intervals, and of the sample of paths in large road networks.

    Raises:
        EvaluateError: the two have nothing to compare: no object, no ground or no class in common; or a setting is out
            of range.
        LayerError: a vector layer cannot be read.
        NoGeoreference: the place of a file on the ground is unknown.
        OutputError: an output cannot be written, or would replace an input.
    """
    inputs = [path for path in (pred, ref, scene, aoi, ignore, compare) if isinstance(path, str | Path)]
    if layer is not None:
        check_output(layer, (".gpkg",), inputs)
    if html is not None:
        check_output(html, (".html",), inputs)
    report = _measure(
        Request(
            pred, ref, scene, aoi, ignore, label_column=label_column, rename=rename, raster=raster,
            touching=touching, tolerance_m=tolerance_m, compare=compare, seed=seed,
        )
    )  # fmt: skip
    with ExitStack() as outputs:  # both are made before either takes its place
        if layer is not None:
            _write_layer(report.verdicts, outputs.enter_context(replacing(Path(layer))), layer)
        if html is not None:
            outputs.enter_context(replacing(Path(html))).write_text(page(report, scene), encoding="utf-8")
    return report


def _measure(request: Request) -> Report:
    """Return the report on a request, and on the rival that it names."""
    requests = [request] if request.compare is None else [request, replace(request, pred=request.compare)]
    comparisons = [build_comparison(one) for one in requests]
    c = comparisons[0]
    # The same blocks for both maps, so that the same draws apply to both.
    corners = np.array([one.extent for one in comparisons])
    blocks = Blocks.over([*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0)], c.object_m)
    sums = [_block_sums(one, blocks, request.seed) for one in comparisons]
    occupied = np.logical_or.reduce([one.occupied for one in sums])
    bootstrap, held = Bootstrap.of(occupied, seed=request.seed), int(occupied.sum())
    samples = [one.samples(bootstrap) for one in sums]
    details = sums[0].details()
    counts = details.pop("counts") | {"blocks": held}
    return Report(
        **details,
        figures=_figures(samples[0]),
        counts=counts,
        crs=c.area.crs.to_string(),
        notes=(*c.notes, *([f"intervals from blocks of {blocks.side_m:.3g} m"] if held > 1 else [])),
        warnings=(*_warnings(request, comparisons), *_few_blocks(held, blocks.side_m)),
        settings=request.to_dict() | {"tolerance_m": c.tolerance_m},
        rival=None if request.compare is None else _rival(input_text(request.compare), *samples),
    )


def _block_sums(c: Comparison, blocks: Blocks, seed: int) -> PolygonSums | LineSums:
    return PolygonSums.of(Paired(c, blocks)) if c.kind == "polygons" else LineSums.of(c, blocks, seed)


def _figures(samples: Mapping[str, Sample]) -> dict[str, Figure]:
    return {name: samples[name].figure for name in UNITS if name in samples}


def _rival(name: str, own: Mapping[str, Sample], others: Mapping[str, Sample]) -> Rival:
    differences = {figure: own[figure] - others[figure] for figure in own if figure in others}
    return Rival(name, _figures(others), _figures(differences))


def _warnings(request: Request, comparisons: list[Comparison]) -> tuple[str, ...]:
    """Return the warnings on the map, and those on the rival that differ."""
    own, *others = ((*c.warnings, *_scores_left_out(c)) for c in comparisons)
    rival = "" if request.compare is None else input_text(request.compare)
    return (*own, *(f"{rival}: {warning}" for warnings in others for warning in warnings if warning not in own))


def _scores_left_out(c: Comparison) -> tuple[str, ...]:
    scores = c.pred.scores
    if c.kind == "lines" or not len(c.pred):
        return ()
    if scores is None:
        return ("the prediction has no scores: average precision and calibration are left out",)
    if scores.min() < 0 or scores.max() > 1:
        return (f"scores run from {scores.min():.3g} to {scores.max():.3g}, not from 0 to 1: calibration is left out",)
    return ()


def _few_blocks(number: int, side_m: float) -> tuple[str, ...]:
    if number >= FEW_BLOCKS:
        return ()
    if number < 2:
        return (f"all objects lie in one block of {side_m:.3g} m: there are no intervals",) if number else ()
    return (f"only {number} blocks of ground hold objects: the intervals say little",)


def _write_layer(verdicts: gpd.GeoDataFrame, beside: Path, layer: str | Path) -> None:
    try:
        pyogrio.write_dataframe(verdicts, beside, layer="verdicts", driver="GPKG")
    except (DataSourceError, DataLayerError) as error:
        reason = str(error).split(":")[0]  # SQL comes after it
        raise OutputError(f"{layer} cannot be written ({reason}): make room or choose another disk") from error

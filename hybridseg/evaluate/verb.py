"""The verb `evaluate` as the command line has it: files in, a verdict out."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import geopandas as gpd
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError

from hybridseg.errors import OutputError
from hybridseg.evaluate.report import UNITS, Report, Rival
from hybridseg.evaluate.run import evaluate as compare_layers
from hybridseg.files import check_output, replacing


def evaluate(
    pred: str,
    ref: str,
    scene: str | None = None,
    aoi: str | None = None,
    ignore: str | None = None,
    label_column: str | None = None,
    raster: Literal["auto", "classes", "instances"] = "auto",
    rename: dict[str, str] | None = None,
    tolerance_m: float | None = None,
    compare: str | None = None,
    html: Path | None = None,
    layer: Path | None = None,
    seed: int = 0,
) -> Report:
    """Compare a map with a reference, whoever made them.

    Args:
        pred: the map: any vector file.
        ref: the reference: any vector file, or a raster of classes or instances.
        scene: the raster that was mapped: its pixels are counted, and nothing beyond it is.
        aoi: polygons outside which nothing counts.
        ignore: polygons inside which nothing counts.
        label_column: column that holds the classes; default: class or label.
        raster: what the values of a raster reference are.
        rename: classes of either side to be called otherwise, such as the codes of a raster: '{"1": "building"}'.
        tolerance_m: distance within which outlines and roads agree; default: 2 pixels, of roads 3.
        compare: another map of the same ground, as in `--compare A B REF`: what B gains over A, with intervals.
        html: report to write, one file to open in a browser, with the map and the worst objects; see also `scene`.
        layer: GeoPackage to write with the verdict on each object, to open over the scene.
        seed: of the intervals.
    """
    inputs = [source for source in (pred, ref, scene, aoi, ignore, compare) if source is not None]
    if layer is not None:
        check_output(layer, (".gpkg",), inputs)
    if html is not None:
        check_output(html, (".html",), inputs)
    report = compare_layers(
        pred,
        ref,
        scene=scene,
        aoi=aoi,
        ignore=ignore,
        label_column=label_column,
        rename=rename,
        raster=raster,
        tolerance_m=tolerance_m,
        rival=compare,
        seed=seed,
    )
    with ExitStack() as outputs:  # both are made before either takes its place
        if layer is not None:
            _write_layer(report.verdicts, outputs.enter_context(replacing(layer)), layer)
        if html is not None:
            from hybridseg.evaluate.show.html import page  # matplotlib comes with it: `hybridseg --help` must not wait

            outputs.enter_context(replacing(html)).write_text(page(report, scene), encoding="utf-8")
    return report


def _write_layer(verdicts: gpd.GeoDataFrame, beside: Path, layer: Path) -> None:
    try:
        pyogrio.write_dataframe(verdicts, beside, layer="verdicts", driver="GPKG")
    except (DataSourceError, DataLayerError) as error:
        reason = str(error).split(":")[0]  # SQL comes after it
        raise OutputError(f"{layer} cannot be written ({reason}): make room or choose another disk") from error


def lines(report: Report) -> list[tuple[str, str]]:
    """(what, how much) for a person to read: each figure with its 95 % interval."""
    rows = []
    for name, figure in report.figures.items():
        if figure.value is not None:
            between = "" if figure.low is None else f"  ({figure.low:.3f} to {figure.high:.3f})"
            rows.append((name, f"{figure.value:.3f}{between}  {UNITS[name]}"))
            rows += [("", text) for text in _gained(report.rival, name)]
    rows += [("objects", ", ".join(f"{count:,} {name}" for name, count in report.counts.items()))]
    rows += [("note", note) for note in report.notes]
    return rows + [("WARNING", warning) for warning in report.warnings]


def _gained(rival: Rival | None, name: str) -> list[str]:
    """What the map gains over a rival in one figure."""
    if rival is None or name not in rival.differences:
        return []
    gain, other = rival.differences[name], rival.figures[name]
    if gain.value is None:
        return []
    between = "" if gain.low is None else f"  ({gain.low:+.3f} to {gain.high:+.3f})"
    return [f"{gain.value:+.3f}{between}  against {other.value:.3f} of {rival.name}  {rival.verdict(name)}".rstrip()]

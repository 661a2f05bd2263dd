"""A report as one HTML file that needs no network: figures, curves, a map, and the worst objects."""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import matplotlib as mpl
import numpy as np
import shapely
from cycler import cycler
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Plot

from hybridseg.errors import EmptySource
from hybridseg.evaluation.comparison import ANY
from hybridseg.evaluation.picture import Backdrop, Layer, backdrop, plain, render
from hybridseg.evaluation.report import UNITS, Report, interval
from hybridseg.metrics.objects import FALSE, HIT, IGNORED, MERGED, MISSED, SPLIT

HEADLINES = {
    "f1": "objects found and right",
    "pixel_iou": "ground shared with the reference",
    "boundary_f1": "outlines where they belong",
    "ap50": "ranking by score",
    "apls": "routes that stay the same",
    "buffer_f1": "length where it belongs",
}
COLORS = {HIT: "#4cc9f0", FALSE: "#ff4d6d", MISSED: "#ffd166", SPLIT: "#c77dff", MERGED: "#c77dff"}
"""By verdict; distinct to most colour-blind people, and on roofs, trees and soil."""
MOST_OBJECTS = 12

_MAP_PX, _THUMB_PX = 1600, 320
_MARGIN = 0.02
_SMALLEST_VIEW_M = 6.0
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": "#3e4c59",
    "xtick.color": "#616e7c",
    "ytick.color": "#616e7c",
    "axes.prop_cycle": cycler(color=["#2a6f97", "#d1495b", "#edae49", "#66a182", "#8d6a9f"]),
    "svg.fonttype": "none",
    "svg.hashsalt": "hybridseg",  # the same report gives the same file
}


class _Row(NamedTuple):
    """A line of the table of figures, as text; `bar` is (low, value, high) of figures from 0 to 1."""

    name: str
    value: str
    between: str
    unit: str
    bar: tuple[float | None, float, float | None] | None
    other: str
    gain: str
    verdict: str


class Worst(NamedTuple):
    """One object to look at.

    Attributes:
        caption: its class, size, and IoU or score.
        verdict: on it.
        around: the ground around it, a square in the report's CRS.
    """

    caption: str
    verdict: str
    around: gpd.GeoSeries


def page(report: Report, scene: str | Path | None = None) -> str:
    """Return a report as an HTML page.

    Args:
        report: result of `evaluate`.
        scene: raster to show under outlines; grey ground without.
    """
    rows = [_row(report, name, figure.value) for name, figure in report.figures.items() if figure.value is not None]
    outlines = outline_layers(report.verdicts)
    bare = [layer._replace(label="") for layer in outlines]
    environment = Environment(
        loader=PackageLoader("hybridseg.evaluation", ""), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html.jinja").render(
        title=f"{_file(report, 'pred')} against {_file(report, 'ref')}",
        rival=None if report.rival is None else Path(report.rival.name).name,
        headlines=[(HEADLINES[row.name], row) for row in rows if row.name in HEADLINES],
        rows=rows,
        report=report,
        per_class=_table(report.per_class),
        charts=[(title, Markup(svg)) for title, svg in _charts(report.curves)],
        map=_jpeg(_map_view(report.verdicts), scene, outlines, _MAP_PX),
        worst=[(one, _jpeg(one.around, scene, bare, _THUMB_PX)) for one in worst_objects(report.verdicts)],
        colors=COLORS,
        settings={key: value for key, value in report.settings.items() if value is not None},
    )


def worst_objects(verdicts: gpd.GeoDataFrame) -> list[Worst]:
    """Return the `MOST_OBJECTS` with the largest wrong area, the worst first; of lines the longest wrong stretches.

    The wrong area of a reference object is its area times one minus its best IoU; that of a false object is its area.

    Args:
        verdicts: as `report.Report` holds them.
    """
    lines = "length_m" in verdicts
    false = (verdicts["side"] == "pred") & (verdicts["verdict"] == FALSE)
    chosen = verdicts[((verdicts["side"] == "ref") & (verdicts["verdict"] != IGNORED)) | false]
    if lines:
        wrong = np.where(chosen["verdict"] == HIT, 0, chosen["length_m"])
    else:
        wrong = chosen["area_m2"] * np.where(chosen["verdict"] == FALSE, 1, 1 - chosen["best_iou"])
    chosen = chosen.assign(wrong=wrong).query("wrong > 0").nlargest(MOST_OBJECTS, "wrong")
    return [Worst(_caption(row, lines), row["verdict"], _view(row.geometry, verdicts)) for _, row in chosen.iterrows()]


def outline_layers(verdicts: gpd.GeoDataFrame) -> list[Layer]:
    """Return the outlines of both sides to draw: the map's by verdict, the reference's white, or yellow if missed."""
    pred, ref = (verdicts[verdicts["side"] == side] for side in ("pred", "ref"))
    missed = ref["verdict"] == MISSED
    layers = [Layer(ref[~missed], "#ffffff", "reference", dashed=True), Layer(ref[missed], COLORS[MISSED], "missed")]
    for name, words in (("hit", (HIT,)), ("split or merged", (SPLIT, MERGED)), ("false", (FALSE,))):
        own = pred[pred["verdict"].isin(words)]
        if len(own) or name != "split or merged":
            layers.append(Layer(own, COLORS[words[0]], name))
    return layers


def _row(report: Report, name: str, value: float) -> _Row:
    rival, figure = report.rival, report.figures[name]
    bar = (figure.low, value, figure.high) if figure.low is not None and UNITS[name].startswith("0 to 1") else None
    other = gain = verdict = ""
    if rival is not None and name in rival.differences and rival.differences[name].value is not None:
        difference = rival.differences[name]
        other, verdict = f"{rival.figures[name].value:.3f}", rival.verdict(name)
        gain = f"{difference.value:+.3f} {interval(difference, '+').strip()}".rstrip()
    return _Row(name, f"{value:.3f}", interval(figure).strip(" ()"), UNITS[name], bar, other, gain, verdict)


def _table(per_class: Mapping[str, Mapping[str, float | None]]) -> tuple[list[str], list[list[str]]] | None:
    """Return the header and the cells of the figures by class."""
    if not per_class:
        return None
    names = list(next(iter(per_class.values())))
    return ["class", *names], [[label, *(_cell(row[name]) for name in names)] for label, row in per_class.items()]


def _cell(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) > 1 else f"{value:.3f}"


def _file(report: Report, side: str) -> str:
    return Path(report.settings[side]).name


def _caption(row: gpd.GeoSeries, lines: bool) -> str:
    if lines:
        return f"{row['length_m']:,.0f} m"
    parts = [*([] if row["class"] == ANY else [row["class"]]), f"{row['area_m2']:,.0f} m²"]
    if row["verdict"] != FALSE:
        parts.append(f"best IoU {row['best_iou']:.2f}")
    elif np.isfinite(row["score"]):
        parts.append(f"score {row['score']:.2f}")
    return ", ".join(parts)


def _view(geometry: shapely.Geometry, verdicts: gpd.GeoDataFrame) -> gpd.GeoSeries:
    """Return a square with the object in its middle half."""
    left, bottom, right, top = geometry.bounds
    half = max(right - left, top - bottom, _SMALLEST_VIEW_M)
    x, y = (left + right) / 2, (bottom + top) / 2
    return gpd.GeoSeries([shapely.box(x - half, y - half, x + half, y + half)], crs=verdicts.crs)


def _map_view(verdicts: gpd.GeoDataFrame) -> gpd.GeoSeries:
    """Return the extent of all objects and a margin."""
    left, bottom, right, top = verdicts.total_bounds
    margin = _MARGIN * max(right - left, top - bottom)
    return gpd.GeoSeries([shapely.box(left - margin, bottom - margin, right + margin, top + margin)], crs=verdicts.crs)


def _jpeg(view: gpd.GeoSeries, scene: str | Path | None, layers: list[Layer], max_px: int) -> str:
    """Return a picture of the ground in view, outlines over it, as a data URL."""
    image = render(_ground(view, scene, max_px), layers, "jpeg")
    return f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"


def _ground(view: gpd.GeoSeries, scene: str | Path | None, max_px: int) -> Backdrop:
    if scene is not None:
        try:
            return backdrop(scene, max_px, around=view)
        except EmptySource:  # an object on ground that the scene does not show
            pass
    return plain(view, max_px)


def _charts(curves: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (title, SVG) of each curve that a report has."""
    known: dict[str, tuple[str, Callable[[Axes, Any], None]]] = {
        "precision_recall": ("Precision over recall, IoU 0.5", _precision_recall),
        "reliability": ("What a score is worth", _reliability),
        "by_iou": ("Stricter outlines", _by_iou),
    }
    return [(title, _svg(draw, curves[name])) for name, (title, draw) in known.items() if name in curves]


def _svg(draw: Callable[[Axes, Any], None], curve: Any) -> str:
    with mpl.rc_context(_STYLE):
        plot = Plot(figsize=(3.6, 2.9), layout="constrained")
        FigureCanvasSVG(plot)
        axes = plot.add_subplot()
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(color="#e4e7eb", linewidth=0.7)
        draw(axes, curve)
        file = io.StringIO()
        with warnings.catch_warnings():  # text stays text in the SVG, and a browser has the fonts that are missing here
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            plot.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    svg = file.getvalue()
    return svg[svg.index("<svg") :]


def _precision_recall(axes: Axes, curve: Mapping[str, Any]) -> None:
    for name, precision in curve["precision"].items():
        axes.plot(curve["recall"], precision, label=name)
    axes.set(xlabel="recall", ylabel="precision")
    axes.legend(frameon=False, loc="lower left")


def _reliability(axes: Axes, curve: Mapping[str, Any]) -> None:
    number = np.asarray(curve["objects"], float)
    middles = (np.arange(len(number)) + 0.5) / len(number)
    axes.bar(middles, number / max(number.sum(), 1), 0.9 / len(number), color="#cbd2d9", label="share of objects")
    axes.plot([0, 1], [0, 1], color="#9aa5b1", linewidth=0.8, linestyle="--")
    score, hits = (np.asarray(curve[name])[number > 0] for name in ("score", "share_of_hits"))
    axes.plot(score, hits, "o-", label="share of hits")
    axes.set(xlabel="score")
    axes.legend(frameon=False, loc="upper left")


def _by_iou(axes: Axes, curve: Mapping[str, Any]) -> None:
    for name in ("f1", "ap"):
        if name in curve:
            axes.plot(curve["iou"], curve[name], "o-", markersize=3, label=name.upper())
    axes.set(xlabel="least IoU of a hit", xlim=(0.48, 0.97))
    axes.legend(frameon=False, loc="upper right")

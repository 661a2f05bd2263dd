"""A report as one HTML file that needs no network: figures, curves, the map, and the worst objects."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import shapely
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hybridseg.errors import EmptySource
from hybridseg.evaluate.measure.bootstrap import Figure
from hybridseg.evaluate.report import UNITS, Report
from hybridseg.evaluate.show import worst
from hybridseg.evaluate.show.charts import charts
from hybridseg.evaluate.show.picture import Backdrop, Layer, backdrop, plain, render

HEADLINES = {
    "f1": "objects found and right",
    "pixel_iou": "ground shared with the reference",
    "boundary_f1": "outlines where they belong",
    "ap50": "ranking by score",
    "apls": "routes that stay the same",
    "buffer_f1": "length where it belongs",
}
_MAP_PX, _THUMB_PX = 1600, 320
_MARGIN = 0.02


class _Row(NamedTuple):
    """A line of the table of figures, as text."""

    name: str
    value: str
    between: str
    unit: str
    bar: tuple[float, float, float] | None
    other: str
    gain: str
    verdict: str


def page(report: Report, scene: str | Path | None = None) -> str:
    """The report as an HTML page.

    Args:
        report: what `evaluate` found.
        scene: raster to show under outlines; grey ground without.
    """
    rows = [_row(report, name, figure) for name, figure in report.figures.items() if figure.value is not None]
    places = worst.worst(report.verdicts)
    drawn = worst.layers(report.verdicts)
    bare = [layer._replace(label="") for layer in drawn]
    environment = Environment(
        loader=PackageLoader("hybridseg.evaluate.show", ""), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("report.html.jinja").render(
        title=f"{_name(report, 'pred')} against {_name(report, 'ref')}",
        rival=None if report.rival is None else Path(report.rival.name).name,
        headlines=[(HEADLINES[row.name], row) for row in rows if row.name in HEADLINES],
        rows=rows,
        report=report,
        per_class=_table(report.per_class),
        charts=[(title, Markup(svg)) for title, svg in charts(report.curves)],
        map=_map(report.verdicts, scene, drawn),
        worst=[(place, _thumbnail(place.around, scene, bare)) for place in places],
        colors=worst.COLORS,
        settings={key: value for key, value in report.settings.items() if value is not None},
    )


def _row(report: Report, name: str, figure: Figure) -> _Row:
    rival, bar, between = report.rival, None, ""
    if figure.value is not None and figure.low is not None and figure.high is not None:
        between = f"{figure.low:.3f} to {figure.high:.3f}"
        bar = (figure.low, figure.value, figure.high) if UNITS[name].startswith("0 to 1") else None
    other = gain = verdict = ""
    if rival is not None and name in rival.differences and rival.differences[name].value is not None:
        difference = rival.differences[name]
        other, verdict = f"{rival.figures[name].value:.3f}", rival.verdict(name)
        gain = f"{difference.value:+.3f}" + (
            "" if difference.low is None else f" ({difference.low:+.3f} to {difference.high:+.3f})"
        )
    return _Row(name, f"{figure.value:.3f}", between, UNITS[name], bar, other, gain, verdict)


def _table(per_class: Any) -> tuple[list[str], list[list[str]]] | None:
    """Header and cells of the figures by class."""
    if not per_class:
        return None
    names = list(next(iter(per_class.values())))
    return ["class", *names], [[label, *(_cell(row[name]) for name in names)] for label, row in per_class.items()]


def _cell(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) > 1 else f"{value:.3f}"


def _name(report: Report, side: str) -> str:
    return Path(report.settings[side]).name


def _map(verdicts: gpd.GeoDataFrame, scene: str | Path | None, layers: list[Layer]) -> str:
    left, bottom, right, top = verdicts.total_bounds
    margin = _MARGIN * max(right - left, top - bottom)
    frame = shapely.box(left - margin, bottom - margin, right + margin, top + margin)
    return _jpeg(_under(gpd.GeoSeries([frame], crs=verdicts.crs), scene, _MAP_PX), layers)


def _thumbnail(around: gpd.GeoSeries, scene: str | Path | None, layers: list[Layer]) -> str:
    return _jpeg(_under(around, scene, _THUMB_PX), layers)


def _under(part: gpd.GeoSeries, scene: str | Path | None, max_px: int) -> Backdrop:
    if scene is not None:
        try:
            return backdrop(scene, max_px, bounds=part)
        except EmptySource:  # an object on ground that the scene does not show
            pass
    return plain(part, max_px)


def _jpeg(under: Backdrop, layers: list[Layer]) -> str:
    """As a data URL."""
    return f"data:image/jpeg;base64,{base64.b64encode(render(under, layers, 'jpeg')).decode()}"

"""The report: one HTML file that needs no network, with charts, small multiples, and pictures of all dates."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import shapely
from jinja2 import Environment, PackageLoader, StrictUndefined
from odc.geo.geobox import GeoBox

from hybridseg.evaluation.picture import Backdrop, Layer, render
from hybridseg.files import check_output, replacing
from hybridseg.read.scene import Scene
from hybridseg.read.tiles import zoomed
from hybridseg.tracking.change import TOGETHER, Change, History
from hybridseg.tracking.follow import PRESENT, UNKNOWN
from hybridseg.tracking.layers import COLOURS
from hybridseg.tracking.result import TrackSummary
from hybridseg.tracking.series import Series
from hybridseg.types import Window

M2_PER_KM2 = 1e6
MAP_PX = 1000
CROPS_PX = 528
"""Width of an object's pictures in one row, or in two."""
MOST_OBJECTS, MOST_CROPS = 8, 10
"""Objects shown one by one, those that changed most; dates shown of each, spread evenly."""
_MARGIN = 0.35
"""Ground shown around an object, as a share of its side."""
_HIGH, _PAD = 200, 34
_WIDE, _NARROW = 640, 320
"""Width of a chart of all objects, and of one object's."""
_LABEL = 56
"""Room that a date takes below a chart."""


class Chart(NamedTuple):
    """A curve as SVG: points of the line, of the band of error around it, labels of both axes.

    wide: its width.
    points: (x, y) of each date that tells. band: outline of the band. dates: (x, text). top: largest value, as text.
    """

    wide: int
    points: list[tuple[float, float]]
    band: str
    dates: list[tuple[float, str]]
    top: str


class Shown(NamedTuple):
    """An object by itself; its pictures are `side_px` wide."""

    name: str
    became: str
    change: str
    chart: Chart
    side_px: int
    crops: list[tuple[str, str]]


def write_page(made: History, series: Series, summary: TrackSummary, path: Path) -> None:
    """Write the report.

    Args:
        made: what became of the objects.
        series: the scenes.
        summary: of the run.
        path: ends in .html.

    Raises:
        OutputError: it cannot be written there.
    """
    check_output(path, [".html"])
    days = [str(frame.day) for frame in series.frames]
    rows = made.observations.assign(day=made.observations["date"].astype(str))
    environment = Environment(
        loader=PackageLoader("hybridseg.tracking", ""), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    text = environment.get_template("page.html.jinja").render(
        title=f"{summary.theme}, {summary.dates[0]} to {summary.dates[-1]}",
        summary=summary,
        cards=[(one.label, cards_of(one)) for one in summary.overall],
        totals=[(one.label, _total(rows[rows["class"] == one.label], summary.dates)) for one in summary.overall],
        steps=[(day, _view(frame.scene, rows[rows["day"] == day], made.objects, _whole(frame.scene), MAP_PX))
               for day, frame in zip(days, series.frames, strict=True)],
        shown=[_shown(rows, one, made.objects, series) for _, one in _most_changed(made.objects).iterrows()],
        colours=COLOURS,
        high=_HIGH,
    )  # fmt: skip
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def cards_of(one: Change) -> list[tuple[str, str, str]]:
    """What changed from the first date to the last: (what, how much, how sure)."""
    large = max(one.gain_m2, one.loss_m2) >= M2_PER_KM2

    def area(m2: float, sign: str = "") -> str:
        return f"{m2 / M2_PER_KM2:{sign},.3f} km²" if large else f"{m2:{sign},.0f} m²"

    def sure(m2: float, sd_m2: float) -> str:
        return f"{'less than its ' if abs(m2) < sd_m2 else ''}standard error {area(sd_m2)}"

    return [
        ("net, first to last", area(one.net_m2, "+"), sure(one.net_m2, one.net_sd_m2)),
        ("gained", area(one.gain_m2), sure(one.gain_m2, one.gross_sd_m2)),
        ("lost", area(one.loss_m2), sure(one.loss_m2, one.gross_sd_m2)),
        ("appeared, vanished", f"{one.appeared:,}, {one.vanished:,}", f"{one.unknown:,} unknown"),
    ]


def _most_changed(objects: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The objects with the largest gain and loss."""
    moved = (objects["gain_m2"] + objects["loss_m2"]).astype(float)
    return objects.loc[moved[moved > 0].nlargest(MOST_OBJECTS).index]


def _total(rows: gpd.GeoDataFrame, days: Sequence[str]) -> Chart:
    """Area of all objects by date; a part of their errors is the same for all, as in the net change."""
    values, errors = [], []
    for day in days:
        there = rows[(rows["day"] == day) & (rows["status"] == PRESENT)]
        values.append(float(there["area_m2"].sum()))
        sd = there["area_sd_m2"]
        errors.append(float(np.hypot(np.sqrt((sd**2).sum()), TOGETHER * sd.sum())))
    return _chart(days, values, errors, _WIDE)


def _shown(rows: gpd.GeoDataFrame, one: Any, objects: gpd.GeoDataFrame, series: Series) -> Shown:
    mine = rows[rows["track_id"] == one["track_id"]].sort_values("day")
    told = mine[mine["status"] != UNKNOWN]
    chart = _chart(list(told["day"]), told["area_m2"].tolist(), told["area_sd_m2"].fillna(0).tolist(), _NARROW)
    around = mine.geometry.dropna().total_bounds
    at = np.unique(np.linspace(0, len(series.frames) - 1, MOST_CROPS).round().astype(int)).tolist()
    side_px = CROPS_PX // min(max(len(at), 2), 5)
    crops = []
    for frame in (series.frames[k] for k in at):
        day = str(frame.day)
        crops.append(
            (day, _view(frame.scene, mine[mine["day"] == day], objects, _around(frame.scene, around), side_px))
        )
    change = f"{one['change_m2']:+,.0f} m² (error {one['change_sd_m2']:,.0f})"
    return Shown(str(one["track_id"]), str(one["became"]), change, chart, side_px, crops)


def _chart(days: Sequence[str], values: Sequence[float], errors: Sequence[float], wide: int) -> Chart:
    """A curve over dates at their distances in time."""
    at = np.array(days, "datetime64[D]").astype(float)
    x = _PAD + (at - at[0]) / max(at[-1] - at[0], 1) * (wide - 2 * _PAD)
    value, error = np.array(values), np.array(errors)
    top = max(float((value + error).max()), 1e-9)

    def y(v: np.ndarray) -> np.ndarray:
        return _HIGH - _PAD - np.maximum(v, 0) / top * (_HIGH - 2 * _PAD)

    upper, lower = y(value + error), y(value - error)
    outline = [*zip(x, upper, strict=True), *zip(x[::-1], lower[::-1], strict=True)]
    band = " ".join(f"{a:.1f},{b:.1f}" for a, b in outline)
    points = [(round(a, 1), round(b, 1)) for a, b in zip(x.tolist(), y(value).tolist(), strict=True)]
    labels = [(round(float(x[k]), 1), days[k][:7]) for k in with_room(x.tolist())]
    return Chart(wide, points, band, labels, f"{top:,.0f} m²")


def with_room(x: Sequence[float]) -> list[int]:
    """Dates whose labels do not run into each other; the first and the last always."""
    shown = [0]
    for k in range(1, len(x) - 1):
        if min(x[k] - x[shown[-1]], x[-1] - x[k]) >= _LABEL:
            shown.append(k)
    return [*shown, len(x) - 1] if len(x) > 1 else shown


def _view(scene: Scene, here: gpd.GeoDataFrame, objects: gpd.GeoDataFrame, window: Window, side_px: int) -> str:
    """A part of a scene with the objects of its date, in the colour of what became of each; as data of a JPEG."""
    zoom = side_px / max(window.width, window.height)
    shape = (max(1, round(window.height * zoom)), max(1, round(window.width * zoom)))
    grid: GeoBox = zoomed(scene.geobox, window, shape)
    chip = scene.read_grid(grid)
    image = np.where(chip.valid, chip.pixels, 110).transpose(1, 2, 0)
    under = Backdrop(np.ascontiguousarray(image), scene.crs.proj, grid.affine, Window(0, 0, shape[1], shape[0]))
    became = objects.set_index("track_id")["became"]
    there = here[here["status"] == PRESENT]
    there = there[there.intersects(shapely.box(*grid.boundingbox.bbox))]
    kinds = there["track_id"].map(became)
    layers = [Layer(there[kinds == kind], colour, "") for kind, colour in COLOURS.items() if (kinds == kind).any()]
    return "data:image/jpeg;base64," + base64.b64encode(render(under, layers, "jpeg")).decode()


def _whole(scene: Scene) -> Window:
    return Window(0, 0, scene.geobox.width, scene.geobox.height)


def _around(scene: Scene, bounds: np.ndarray) -> Window:
    """A square window around bounds in the scene's CRS."""
    to_px = ~scene.geobox.affine
    corners = np.array([to_px @ (x, y) for x in bounds[0::2] for y in bounds[1::2]])
    low, high = corners.min(axis=0), corners.max(axis=0)
    side = max(8, int(np.ceil((high - low).max() * (1 + 2 * _MARGIN))))
    col, row = np.floor((low + high) / 2 - side / 2).astype(int).tolist()
    return Window(col, row, side, side)

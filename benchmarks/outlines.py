"""How outlines are drawn: right angles, corners and what they cost, traced and as the themes shape them.

python -m benchmarks.outlines [DATA [THEME ...]] [--keep FOLDER]      writes benchmarks/results/outlines.json and .md

Places that trained no weight, and the demo's town. With --keep, heatmaps and masks stay in FOLDER, so that another
shape is measured without the networks; remove it when code of theirs has changed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from benchmarks.accuracy import RESULTS
from benchmarks.places import Place, places
from hybridseg import Survey, load_theme, open_scene
from hybridseg.demo import SEED
from hybridseg.evaluation import evaluate
from hybridseg.metrics.summary import summarise
from hybridseg.run.store import Folder, Memory
from hybridseg.shape.measure import by_metric_crs
from hybridseg.theme import Theme
from townscape import render_town

THEMES = ("buildings", "solar", "fields")
DRAWN = ("Banepa, val column", "Kampala west", "Town of the demo", "Denmark, Sentinel-2")
"""Places whose reference is drawn by hand; that of the others is a raster, whose corners are pixels' corners."""
TOLERANCES_PX = (2.0, 2.5)
"""Traced outlines and references that are rasters lie on one grid, where a tolerance of 2 px takes all that is within
2.5 px of an outline that does not."""
STRAIGHT_DEG, RIGHT_DEG = 1.0, 5.0
"""A vertex that turns less is no corner; one that turns by 90 degrees, give or take so much, is a right angle."""
FIGURES = ("right", "corners", "times", "vertices", "f1", "mean_iou", "area_iou", "boundary_f1", "boundary_f1_25")
GAINS = ("f1", "pixel_iou", "boundary_f1")
_HEAD = f"""Made by `python -m benchmarks.outlines`.

* right: share of outlines with right angles only (within {RIGHT_DEG:g} degrees); traced ones have one at each pixel.
* corners: vertices that turn by more than {STRAIGHT_DEG:g} degree, median; times: the same in medians of the reference.
* vertices: all of them, median, those included where a neighbour's corner lies on a straight wall.
* f1, mean_iou, area_iou, boundary_f1 (2 px): as in accuracy.md. boundary_f1_25: the same at 2.5 px. Traced outlines and
  references that are rasters lie on one grid: there a tolerance of 2 px takes all that is within 2.5 px of an outline
  that does not, so at 2 px traced outlines have an advantage that is none, and at 2.5 px they have not.
* gains: the figure less that of the traced outlines, with the 95 % interval of the difference (`hybridseg evaluate
  --compare`, blocks of ground drawn 1,000 times, the same for both); boundary F1 at 2.5 px. No interval: one block.

Outlines within two pixels of the border of the reference's ground, where they are cut, have no part in the first four.
References that are rasters are simplified by one pixel before their corners are counted; how many of them are
right-angled cannot be known."""


def main(data: Path, themes: list[str], keep: Path | None) -> None:
    """Measure and write the tables; rows of themes not asked for stay as they were."""
    path, rows = RESULTS / "outlines.json", list[dict[str, Any]]()
    if path.exists():
        rows = [row for row in json.loads(path.read_text()) if row["theme"] not in themes]
    with tempfile.TemporaryDirectory() as folder:
        for place in _places(data, Path(folder)):
            if place.theme in themes:
                rows += _measured(place, keep)
    rows.sort(key=lambda row: THEMES.index(row["theme"]))
    path.write_text(json.dumps(rows, indent=1) + "\n")
    (RESULTS / "outlines.md").write_text(f"{_HEAD}\n\n{table(rows)}\n")


def _places(data: Path, work: Path) -> Iterator[Place]:
    yield from (place for place in places(data, work) if place.theme in THEMES and not place.trained)
    scene, truth = render_town(1024, 0.3, SEED).write(work)
    town = open_scene(scene)
    area = shapely.box(*town.geobox.extent.boundingbox.bbox)
    yield Place(town, gpd.read_file(truth)[["geometry"]], area, None, "Town of the demo", "buildings")


def _measured(place: Place, keep: Path | None) -> list[dict[str, Any]]:
    """Rows of one place: the reference, and each way of shaping."""
    theme = load_theme(place.theme)
    survey = Survey.open(place.scene, theme, ground=place.extent, store=Memory() if keep is None else Folder(keep))
    refined = survey.refine(survey.prompts())
    truth = place.truth.set_geometry(_simplified(place))
    inner = shapely.buffer(place.area, -2 * abs(place.scene.geobox.affine.a))
    own: dict[str, Any] = {"shape": "reference", **_geometry(truth, inner)}
    if place.name not in DRAWN:
        del own["right"]
    found = [own]
    for how, shaped in _ways(theme).items():
        # nothing is remembered: the key of a shaped layer does not know of changed code
        features = replace(survey, theme=shaped, store=Memory()).features(refined).rows
        found.append({"shape": how, **_geometry(features, inner), **_scores(place, features)})
        found[-1]["times"] = found[-1]["corners"] / own["corners"]
        if how == "traced":
            traced = features
        else:
            found[-1] |= _gains(place, features, traced)
    for row in found:
        print(place.name, row, flush=True)
    return [{"theme": place.theme, "place": place.name, **row} for row in found]


def _ways(theme: Theme) -> dict[str, Theme]:
    ways = {how: theme.shaped(how) for how in ("traced", "smooth")}
    if ways["smooth"].shape != theme.shape:
        ways["regular"] = theme
    return ways


def _scores(place: Place, features: gpd.GeoDataFrame) -> dict[str, float]:
    at = [summarise(features, place.truth, place.area, px * place.scene.gsd_m).to_dict() for px in TOLERANCES_PX]
    same = {name: at[0][name] for name in ("f1", "mean_iou", "area_iou", "boundary_f1")}
    return {**same, "boundary_f1_25": at[1]["boundary_f1"]}


def _gains(place: Place, features: gpd.GeoDataFrame, traced: gpd.GeoDataFrame) -> dict[str, list[float | None]]:
    """What outlines gain over the traced ones: value, low and high of each figure."""
    area = gpd.GeoDataFrame(geometry=[place.area], crs=place.truth.crs)
    tolerance_m = TOLERANCES_PX[-1] * place.scene.gsd_m
    layers = [layer[["geometry"]].to_crs(place.truth.crs) for layer in (features, traced)]
    rival = evaluate(layers[0], place.truth, aoi=area, tolerance_m=tolerance_m, compare=layers[1]).rival
    assert rival is not None
    return {f"{name}_gain": list(astuple(rival.differences[name])) for name in GAINS}


def _geometry(layer: gpd.GeoDataFrame, area: shapely.Geometry) -> dict[str, float]:
    """Share of right-angled outlines, median of corners and of vertices, of those that lie inside an area."""
    whole = layer.geometry[layer.within(area)]
    turns = [turn for crs, rows in by_metric_crs(whole) for turn in map(turns_deg, whole.iloc[rows].to_crs(crs))]
    corners = [turn[turn > STRAIGHT_DEG] for turn in turns]
    square = [len(turn) >= 4 and bool((np.abs(turn - 90) <= RIGHT_DEG).all()) for turn in corners]
    return {
        "outlines": len(turns),
        "right": float(np.mean(square)),
        "corners": float(np.median([len(turn) for turn in corners])),
        "vertices": float(np.median([len(turn) for turn in turns])),
    }


def turns_deg(polygon: shapely.Geometry) -> np.ndarray:
    """By how much each vertex of a polygon turns, without a sign, over all of its rings."""
    found = []
    for ring in shapely.get_rings(shapely.get_parts(polygon)):
        z = shapely.get_coordinates(ring)[:-1] @ np.array([1, 1j])
        step = np.roll(z, -1) - z
        step = step[step != 0]
        found.append(np.abs(np.angle(step * np.roll(step, 1).conj(), deg=True)))
    return np.concatenate(found)


def _simplified(place: Place) -> gpd.GeoSeries:
    if place.name in DRAWN:
        return place.truth.geometry
    return place.truth.geometry.simplify(abs(place.scene.geobox.affine.a))


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    head = ("theme", "place", "shape", "outlines", *FIGURES, *(f"{name}_gain" for name in GAINS))
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row.get(name, "") for name in head]
        shown = [_shown(cell) for cell in cells]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def _shown(cell: Any) -> str:
    match cell:
        case float():
            return f"{cell:.3g}"
        case [float(value), low, high]:
            return f"{value:+.3f}" + ("" if low is None else f" ({low:+.3f} to {high:+.3f})")
    return str(cell)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path("../shared/data"))
    parser.add_argument("themes", nargs="*", metavar="THEME", help="default: all of them")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    main(given.data, given.themes or list(THEMES), given.keep)

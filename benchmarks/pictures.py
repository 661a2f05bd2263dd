"""Pictures of good and bad for docs/models.md: the best and the worst window of places that trained no weight.

    python -m benchmarks.pictures shared/data docs/models [MODEL ...]

Only imagery whose licence lets it be shown: see `CREDITS`, which docs/models.md repeats below each picture.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from PIL import Image, ImageColor

from benchmarks.places import GAP_PX, Place, _scene, _Tiles
from hybridseg.evaluation.picture import against_truth, draw_features
from hybridseg.metrics.objects import match
from hybridseg.read.tiles import tile
from hybridseg.run.survey import Survey
from hybridseg.theme import load_theme
from hybridseg.types import Window

SIDE_PX = 360
MOST_BYTES = 150_000
LINES = ("#ffffff", "#ff4d6d", "#ffd166")
"""Colours of truth, refined and coarse outlines, see `against_truth`."""
OAM = "OpenAerialMap, CC-BY 4.0, labels OpenStreetMap, ODbL"
CREDITS = {
    "buildings-lite0": f"{OAM}: Kampala and Dhaka",
    "sam2-lite": f"{OAM}: Kampala",
    "solar-lite0": "USGS orthoimagery, public domain, labels Bradbury et al. 2016",
    "roads-lite0": "USGS orthoimagery, public domain, labels hybridseg",
    "land-lite0": "NAIP, public domain, labels superlinear-ai/agoro-field-boundary-detector, MIT",
}


@dataclass(frozen=True)
class Shot:
    """A place, the sides of the windows to look through (px of the scene), and the fewest objects in one."""

    place: Callable[[Path, _Tiles], Place]
    window_px: int
    least: int = 3


def _kampala(data: Path, _: _Tiles) -> Place:
    return _scene(data, "Kampala west", "buildings", "kampala_west_z20.tif", "kampala_west_buildings.geojson")


def _some(tiles: _Tiles, name: str, theme: str, dataset: str, gsd_m: float, most: int) -> Place:
    """The first tiles of a data set's val part."""
    left = iter(range(most))
    wanted = lambda row: row["dataset"] == dataset and row["gsd_m"] in ("", str(gsd_m)) and next(left, -1) >= 0  # noqa: E731
    return tiles(name, theme, wanted, gsd_m)


def _california_roads(_: Path, tiles: _Tiles) -> Place:
    mine = lambda row: row["dataset"] == "california_pv"  # noqa: E731
    return tiles("California", "roads", mine, 0.3, code=2, labels="roads")


SHOTS: dict[str, list[Shot]] = {
    "buildings-lite0": [
        Shot(_kampala, 256),
        Shot(lambda _, t: _some(t, "Dhaka", "buildings", "dhaka_oam", 0.27, 4), 256),
    ],
    "sam2-lite": [Shot(_kampala, 128)],
    "solar-lite0": [Shot(lambda _, t: _some(t, "California", "solar", "california_pv", 0.3, 8), 224, least=1)],
    "roads-lite0": [Shot(_california_roads, 224, least=1)],
    "land-lite0": [Shot(lambda _, t: _some(t, "NAIP", "fields", "naip_fields", 1.0, 4), 1024)],
}


def main(data: Path, out: Path, models: list[str]) -> None:
    """Draw a picture a model: the best window left, the worst right."""
    out.mkdir(parents=True, exist_ok=True)
    for model in models or list(SHOTS):
        with tempfile.TemporaryDirectory() as work:
            rated = [one for shot in SHOTS[model] for one in _rated(shot, data, Path(work), model)]
            best, worst = (choose(rated, key=lambda one: one[:2]) for choose in (max, min))
            print(f"{model}: F1 {best[0]:.2f} ({best[2]}), {worst[0]:.2f} ({worst[2]}); {CREDITS[model]}")
            _side_by_side([best[3](Path(work) / "best.png"), worst[3](Path(work) / "worst.png")], out / f"{model}.png")


def _rated(shot: Shot, data: Path, work: Path, model: str) -> list[tuple[float, float, str, Callable[[Path], Path]]]:
    """F1 of each window of a place with enough objects, how much ground these cover, the place, and what draws it."""
    place = shot.place(data, _Tiles(data, work))
    theme = load_theme(place.theme)
    theme = theme if model == "sam2-lite" else theme.model_copy(update={"refiner": "none"})
    survey = Survey.open(place.scene, theme, device="cpu")
    found = survey.features(survey.refine(survey.prompts())).rows
    path, truth = place.scene.path, place.truth.to_crs(found.crs)  # type: ignore[attr-defined]
    box, rated = place.scene.geobox, []
    step_px = shot.window_px if model == "sam2-lite" or "Kampala" in place.name else shot.window_px + GAP_PX
    for window in tile((box.height, box.width), step_px):
        window = Window(window.col, window.row, min(window.width, shot.window_px), min(window.height, shot.window_px))
        corners = [box.affine * (window.col, window.row), box.affine * window.stop]
        area = shapely.box(*np.min(corners, axis=0), *np.max(corners, axis=0))
        mine, real = (layer[layer.representative_point().within(area)] for layer in (found, truth))
        if len(real) >= shot.least:
            hits = len(match(mine.geometry.reset_index(drop=True), real.geometry.reset_index(drop=True)).truth)
            f1, ground = 2 * hits / (len(mine) + len(real)), float(real.area.sum())
            rated.append((f1, ground, place.name, _drawer(path, found, truth, window)))
    return rated


def _drawer(path: str, found: gpd.GeoDataFrame, truth: gpd.GeoDataFrame, window: Window) -> Callable[[Path], Path]:
    def draw(to: Path) -> Path:
        draw_features(path, against_truth(found, truth), to, SIDE_PX * 4 // 3, window)
        return to

    return draw


def _palette(image: Image.Image, colours: int) -> Image.Image:
    """A palette for an image, in which the colours of the lines are: few pixels have them, so none would be theirs."""
    lines = [ImageColor.getrgb(color) for color in LINES]
    made = image.quantize(colours - len(lines)).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*made[: 3 * (colours - len(lines))], *(value for line in lines for value in line)])
    return palette


def _side_by_side(parts: list[Path], out: Path) -> None:
    images = [Image.open(part).convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS) for part in parts]
    whole = Image.new("RGB", (2 * SIDE_PX + 8, SIDE_PX), "white")
    for k, image in enumerate(images):
        whole.paste(image, (k * (SIDE_PX + 8), 0))
    for colours in (128, 64, 32, 16):
        whole.quantize(palette=_palette(whole, colours), dither=Image.Dither.NONE).save(out, optimize=True)
        if out.stat().st_size < MOST_BYTES:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])

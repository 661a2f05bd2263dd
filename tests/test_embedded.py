"""The embedded models on rendered and on real scenes: their finds depend on neither tiling nor extent."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image

from hybridseg.metrics.objects import area_iou, match
from hybridseg.read.opening import open_scene
from hybridseg.read.scene import Scene
from hybridseg.run.survey import Survey
from hybridseg.theme import load_theme
from hybridseg.types import Extent
from townscape import render_town

TILINGS = [(512, 96), (352, 160)]


def found(survey: Survey, extent: Extent | None = None, tiling: tuple[int, int] = (1024, 0)) -> gpd.GeoDataFrame:
    result = replace(survey, core_px=tiling[0], offset_px=tiling[1], ground=extent).run()
    assert not result.summary.failures
    return result.features


def same(one: gpd.GeoDataFrame, two: gpd.GeoDataFrame, least: int) -> None:
    assert len(one) == len(two) >= least
    assert len(match(one.geometry, two.geometry, iou=0.98).ious) == len(one)
    assert sorted(one["id"]) == sorted(two["id"])


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> tuple[Survey, gpd.GeoDataFrame, gpd.GeoDataFrame]:
    scene, truth = render_town(640, 0.3, seed=7).write(tmp_path_factory.mktemp("town"))
    survey = Survey.open(open_scene(scene), load_theme("buildings"))
    return survey, gpd.read_file(truth), found(survey)


def test_finds_the_rendered_buildings(town):
    _, truth, features = town
    paired = match(features.geometry, truth.geometry)
    assert paired.f1 > 0.6
    assert paired.mean_iou > 0.75


@pytest.mark.parametrize("tiling", TILINGS)
def test_tiling_does_not_matter_on_the_town(town, tiling: tuple[int, int]):
    survey, _, features = town
    same(features, found(survey, tiling=tiling), least=10)


# --- all five themes --------------------------------------------------------------------------------------------------


RENDERED = Path(__file__).parent / "data"


def in_place(image: np.ndarray, gsd_m: float) -> Scene:
    """An image without georeference, (H, W, 3), put somewhere in a UTM zone."""
    affine = Affine(gsd_m, 0, 500_000, 0, -gsd_m, 5_000_000)
    return open_scene(image.transpose(2, 0, 1), geobox=GeoBox(image.shape[:2], affine, "EPSG:32631"))


def banepa(data: Path) -> Scene:
    with rasterio.open(data / "scenes" / "banepa_z19.tif") as file:
        image = file.read((1, 2, 3), window=((1000, 2000), (1536, 2436)))
    return in_place(image.transpose(1, 2, 0), 0.149)


def denmark(data: Path) -> Scene:
    with rasterio.open(data / "scenes" / "denmark_s2_fields.tif") as file:
        height, width = file.shape
        part = file.read((1, 2, 3), window=((0, height // 2), (0, width // 2)))
    return in_place(part.transpose(1, 2, 0), 10.0)


def dakota(data: Path) -> Scene:
    path = sorted((data / "timeseries" / "naip_north_dakota").glob("*.tif"))[0]
    with rasterio.open(path) as file:
        return in_place(file.read((1, 2, 3))[:, 100:500, 100:500].transpose(1, 2, 0), 5.0)


def panels(data: Path) -> Scene:
    """Sixteen tiles in four rows: each stands for itself, objects are cut at its edges, which all runs share."""
    paths = sorted((data / "california_pv").rglob("*.jpg"))[:16]
    tiles = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    return in_place(np.concatenate([np.concatenate(tiles[i : i + 4], 1) for i in (0, 4, 8, 12)], 0), 0.3)


def streets(data: Path) -> Scene:
    path = sorted((data / "massachusetts_roads").rglob("*.jpg"))[0]
    return in_place(np.asarray(Image.open(path).convert("RGB")), 1.0)


REAL = {"buildings": banepa, "fields": denmark, "roads": streets, "solar": panels, "water": dakota}
COUNTED = {"buildings": 10, "fields": 8, "solar": 3}
"""Objects that the half of each scene holds at least."""
COVERED = ("roads", "water")


@pytest.fixture(params=["rendered", "real"])
def place(request: pytest.FixtureRequest) -> Path | None:
    """The folder of real imagery, or None for the rendered scenes, which everybody has."""
    return request.getfixturevalue("shared") if request.param == "real" else None


@cache
def whole(theme: str, place: Path | None) -> tuple[Survey, gpd.GeoDataFrame]:
    if place is not None:
        scene = REAL[theme](place)
    elif theme == "buildings":
        town = render_town(448, 0.3, seed=5, density=0.7)
        scene = open_scene(town.image, geobox=town.geobox)
    else:
        scene = open_scene(RENDERED / f"{theme}.tif")
    survey = Survey.open(scene, load_theme(theme))
    return survey, found(survey)


def half_of(scene: Scene) -> tuple[Extent, shapely.Polygon]:
    left, bottom, right, top = scene.geobox.boundingbox.bbox
    half = (left, bottom, right, (bottom + top) / 2)
    return half, shapely.box(*half)


@pytest.mark.parametrize("theme", COUNTED)
def test_extent_does_not_matter_to_objects(theme: str, place: Path | None):
    survey, features = whole(theme, place)
    half, inside = half_of(survey.scene)
    part = found(survey, half)
    same(features[features.within(inside)], part[part.within(inside)], COUNTED[theme])


@pytest.mark.parametrize("theme", COVERED)
def test_extent_does_not_matter_to_ground_that_is_covered(theme: str, place: Path | None):
    survey, features = whole(theme, place)
    half, inside = half_of(survey.scene)
    part = found(survey, half)
    assert part.within(inside.buffer(1e-6)).all()
    assert area_iou(part.geometry, features.clip(inside).geometry) > 0.98
    # what lies whole inside the extent is the same object
    apart = features[features.within(inside)]
    assert len(apart)
    same(apart, part[part["id"].isin(apart["id"])], 1)


@pytest.mark.parametrize("theme", [*COUNTED, *COVERED])
def test_tiling_does_not_matter(theme: str, place: Path | None):
    survey, features = whole(theme, place)
    same(features, found(survey, tiling=(352, 160)), 1)

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from hybridseg.run.model import calibrated
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridseg.errors import ThemeError
from hybridseg.finetune.classes import parse_classes
from hybridseg.finetune.labels import read_ground
from hybridseg.finetune.samples import FocusedSamples, targets_of, validation_batches
from hybridseg.finetune.score import calibrate
from hybridseg.finetune.split import SplitBlocks
from hybridseg.read.raster import RasterScene
from hybridseg.train.classifier import pool
from tests.rasters import EAST, NORTH, default_image, utm_affine, write

CRS = "EPSG:32633"


def box(col: float, row: float, width: float, height: float) -> shapely.Polygon:
    """In pixels of 1 m from the scene's corner."""
    return shapely.box(EAST + col, NORTH - row - height, EAST + col + width, NORTH - row)


@pytest.fixture
def source(tmp_path: Path) -> RasterScene:
    return RasterScene.open(write(tmp_path / "a.tif", default_image(), utm_affine(1.0), photometric="rgb"))


def layer(path: Path, geometry: list, **columns: list) -> str:
    gpd.GeoDataFrame(columns, geometry=geometry, crs=CRS).to_file(path, driver="GPKG")
    return str(path)


def test_polygons_by_class_land_on_their_pixels(source: RasterScene, tmp_path: Path):
    drawn = layer(tmp_path / "l.gpkg", [box(10, 10, 20, 10), box(60, 40, 8, 8), box(90, 60, 9, 9)], kind=[1, 2, 7])
    ground = read_ground(source, drawn, {"building": "1", "road": "2"}, 1.0, 32, column="kind")
    areas = {name: int((ids > 0).sum()) for name, ids in ground.scene.objects.items()}
    # the grid is anchored in the CRS: pixels may fall half a pixel aside
    assert areas["building"] == pytest.approx(200, abs=31)
    assert areas["road"] == pytest.approx(64, abs=17)
    assert ground.scene.valid.sum() == pytest.approx(96 * 128, rel=0.03)
    assert list(ground.truth["class"]) == ["building", "road"]


def test_outside_the_complete_area_only_what_is_drawn_is_known(source: RasterScene, tmp_path: Path):
    drawn = layer(tmp_path / "l.gpkg", [box(10, 10, 20, 10), box(100, 60, 10, 10)])
    area = layer(tmp_path / "aoi.gpkg", [box(0, 0, 50, 50)])
    ground = read_ground(source, drawn, {"building": None}, 1.0, 32, complete_within=area)
    assert ground.scene.valid.sum() == pytest.approx(50 * 50 + 100, rel=0.05)
    assert ground.known.area == pytest.approx(2500)


def test_lines_get_their_width(source: RasterScene, tmp_path: Path):
    line = shapely.LineString([(EAST + 10, NORTH - 20), (EAST + 60, NORTH - 20)])
    drawn = layer(tmp_path / "l.gpkg", [line], wide=[6.0])
    for width in ("6", "wide"):
        ground = read_ground(source, drawn, {"road": None}, 1.0, 32, width=width)
        assert ground.truth.area.sum() == pytest.approx(300, rel=0.01)
    with pytest.raises(ThemeError, match="--width"):
        read_ground(source, drawn, {"road": None}, 1.0, 32)
    with pytest.raises(ThemeError, match="no column 'broad'"):
        read_ground(source, drawn, {"road": None}, 1.0, 32, width="broad")


def test_a_raster_of_codes_is_unknown_where_it_has_no_data(source: RasterScene, tmp_path: Path):
    codes = np.full((1, 96, 128), 2, np.uint8)
    codes[0, 20:30, 20:40], codes[0, :, :10] = 1, 255
    path = write(tmp_path / "codes.tif", codes, utm_affine(1.0), nodata=255)
    ground = read_ground(source, str(path), {"building": "1", "field": "2"}, 1.0, 32)
    assert (ground.scene.objects["building"] > 0).sum() == pytest.approx(200, abs=31)
    assert (~ground.scene.valid).sum() == pytest.approx(ground.scene.valid.size - 96 * 118, rel=0.05)
    assert ground.known.area == pytest.approx(96 * 118, rel=0.03)
    with pytest.raises(ThemeError, match="raster of codes"):
        read_ground(source, str(path), {"building": "house"}, 1.0, 32)


@pytest.mark.parametrize(
    ("columns", "classes", "column", "message"),
    [
        ({"kind": ["a"]}, {"road": "b"}, "kind", "holds a"),
        ({"kind": ["a"]}, {"road": "b"}, "type", "no column 'type'; there are kind"),
        ({"kind": ["a"]}, {"road": "a", "field": "b"}, None, "--column"),
    ],
)
def test_what_labels_lack_is_named(source: RasterScene, tmp_path: Path, columns, classes, column, message: str):
    drawn = layer(tmp_path / "l.gpkg", [box(10, 10, 20, 10)], **columns)
    with pytest.raises(ThemeError, match=message):
        read_ground(source, drawn, classes, 1.0, 32, column=column)


def test_labels_beside_the_scene_or_missing_are_refused(source: RasterScene, tmp_path: Path):
    with pytest.raises(ThemeError, match="has no object on"):
        read_ground(source, layer(tmp_path / "l.gpkg", [box(5000, 0, 9, 9)]), {"building": None}, 1.0, 32)
    with pytest.raises(ThemeError, match="does not exist"):
        read_ground(source, str(tmp_path / "gone.gpkg"), {"building": None}, 1.0, 32)


def test_names_of_classes():
    assert parse_classes(None, ["building"], None) == {"building": None}
    assert parse_classes(None, ["building", "road"], "kind") == {"building": "building", "road": "road"}
    assert parse_classes("road=2, building=1", ["building", "road"], None) == {"building": "1", "road": "2"}
    with pytest.raises(ThemeError, match="building=1,road=2"):
        parse_classes(None, ["building", "road"], None)
    with pytest.raises(ThemeError, match="the themes' classes are building"):
        parse_classes("house=1", ["building"], None)


def scattered(seed: int, count: int, side: int = 400) -> np.ndarray:
    ids = np.zeros((side, side), int)
    for k, (r, c) in enumerate(np.random.default_rng(seed).integers(0, side - 12, (count, 2))):
        ids[r : r + 12, c : c + 12] = k + 1
    return ids


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(12, 80), st.integers(1, 40))
def test_training_and_validation_ground_are_apart_by_the_guard(seed: int, count: int, guard: int):
    from scipy import ndimage as ndi

    objects = scattered(seed, count)
    split = SplitBlocks(guard_px=guard, seed=seed)(objects, np.ones(objects.shape, bool))
    near = ndi.distance_transform_cdt(~split.validation, "chessboard")
    assert near[split.train].min() > min(guard, 80 // 4)
    held = len(np.unique(objects[split.validation])) / count
    assert 0.05 < held < 0.7


def test_validation_area_is_where_the_blocks_are():
    objects = scattered(0, 40)
    split = SplitBlocks()(objects, np.ones(objects.shape, bool))
    area = split.area(Affine(0.5, 0, 1000, 0, -0.5, 2000))
    assert area.area == pytest.approx(split.validation.sum() * 0.25)
    row, col = np.argwhere(split.validation)[0]
    assert area.covers(shapely.Point(1000 + 0.5 * (col + 0.5), 2000 - 0.5 * (row + 0.5)))


def test_objects_in_one_place_cannot_be_split():
    objects = np.zeros((400, 400), int)
    objects[10:20, 10:20] = 1
    with pytest.raises(ThemeError, match="at least two parts"):
        SplitBlocks()(objects, np.ones(objects.shape, bool))


def test_validation_crops_hold_every_validation_pixel_once_and_training_ones_none(source: RasterScene, tmp_path: Path):
    drawn = layer(tmp_path / "l.gpkg", [box(10, 10, 8, 8), box(100, 70, 8, 8), box(60, 30, 8, 8)])
    ground = read_ground(source, drawn, {"building": None}, 1.0, 32)
    split = SplitBlocks()(ground.scene.instances, ground.scene.valid)
    batches = validation_batches([ground.scene], [split], ["building"], 64, batch=2)
    assert sum(t[:, 0, 2].sum() for _, t in batches) == split.validation.sum()
    assert all(i.shape[1:] == (3, 64, 64) for i, _ in batches)
    targets = targets_of(ground.scene, ["building"], split.train)
    assert targets[0, 1].max() == 1


def test_focused_crops_hold_objects_that_random_ones_miss(source: RasterScene, tmp_path: Path):
    drawn = layer(tmp_path / "l.gpkg", [box(100, 80, 6, 6)])
    scene = read_ground(source, drawn, {"building": None}, 1.0, 32).scene
    samples = FocusedSamples([pool([scene], 1.0, zoom=(0.9, 1.1))], ["building"], size_px=32, focus=1.0)
    _, targets = next(samples.batches(6, seed=0))
    assert (targets[:, 0, 0].max((1, 2)) > 0.5).all()


def test_crops_look_at_labelled_ground_however_little_there_is(source: RasterScene, tmp_path: Path):
    drawn = layer(tmp_path / "l.gpkg", [box(100, 80, 6, 6)])
    within = layer(tmp_path / "w.gpkg", [box(92, 72, 20, 20)])
    scene = read_ground(source, drawn, {"building": None}, 1.0, 32, complete_within=within).scene
    assert scene.valid.mean() < 0.05
    samples = FocusedSamples([pool([scene], 1.0, zoom=(0.9, 1.1))], ["building"], size_px=32, focus=0.0)
    _, targets = next(samples.batches(6, seed=0))
    assert (targets[:, 0, 2].max((1, 2)) == 1).all()


def test_a_score_becomes_the_chance_of_a_match():
    rng = np.random.default_rng(0)
    for count in (60, 2000):
        score = rng.uniform(0, 1, count)
        matched = rng.uniform(0, 1, count) < score**2
        points = np.array(calibrate(score, matched))
        assert (np.diff(points[:, 0]) > 0).all()
        assert (np.diff(points[:, 1]) >= 0).all()
        assert (points[0, 0], points[-1, 0]) == (0, 1)
        assert np.interp(0.9, *points.T) == pytest.approx(0.81, abs=0.15)


def test_too_few_or_uniform_outcomes_calibrate_nothing_and_a_useless_score_says_the_share():
    assert calibrate(np.full(9, 0.5), np.arange(9) > 3) is None
    assert calibrate(np.linspace(0, 1, 50), np.ones(50, bool)) is None
    score = np.linspace(0, 1, 50)
    points = np.array(calibrate(score, score < 0.4))
    assert set(points[:, 1]) == {0.4}


def test_the_table_is_applied_to_its_class_alone():
    features = gpd.GeoDataFrame({"class": ["a", "b"], "score": [0.5, 0.5]}, geometry=[shapely.Point(0, 0)] * 2)
    assert calibrated(features, {"a": [[0, 0], [1, 0.5]]})["score"].tolist() == [0.25, 0.5]
    assert calibrated(features, {})["score"].tolist() == [0.5, 0.5]

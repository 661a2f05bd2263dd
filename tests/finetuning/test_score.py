"""Maps judged against labels, and scores as chances."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from hybridseg.finetuning.settle import calibrate, f1_interval, figures_of, judge
from hybridseg.labels.labelled import Labelled
from hybridseg.read.opening import open_scene
from hybridseg.run.progress import Quiet
from hybridseg.shape import AsTraced
from hybridseg.theme import load_theme
from hybridseg.what import Regions
from tests.doubles import Bright
from tests.rasters import make


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


def test_the_first_and_the_last_polygon_make_no_chance_of_0_or_1():
    score = np.linspace(0.6, 0.9, 400)
    matched = np.arange(400) % 2 == 1  # half are right; so is the last one, and the first is not
    assert np.array(calibrate(score, matched))[:, 1] == pytest.approx(0.5, abs=0.05)


def test_too_few_or_uniform_outcomes_calibrate_nothing_and_a_useless_score_says_the_share():
    assert calibrate(np.full(9, 0.5), np.arange(9) > 3) is None
    assert calibrate(np.linspace(0, 1, 50), np.ones(50, bool)) is None
    score = np.linspace(0, 1, 50)
    points = np.array(calibrate(score, score < 0.4))
    assert set(points[:, 1]) == {0.4}


def _lake(folder: Path) -> Labelled:
    """A lake 60 m long and 12 m wide, of which the extent shows a third."""
    image = np.full((3, 96, 256), 40, np.uint8)
    image[:, 30:70, 20:220] = 220
    scene = open_scene(make("utm", folder, image, 0.3))
    (left, top), (right, bottom) = scene.geobox.affine * (20, 30), scene.geobox.affine * (220, 70)
    x, low, _, high = scene.geobox.boundingbox.bbox
    shore = shapely.box(left, bottom, right, top)
    area = shapely.box(x, low, left + (right - left) / 3, high)
    truth = gpd.GeoDataFrame(geometry=[shore], crs=scene.crs)
    return Labelled(scene, truth, area, extent=area.bounds)


def test_regions_are_judged_by_the_truth_cut_as_the_map_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hybridseg.nn.models.load_classifier", lambda *_: Bright())
    lake = _lake(tmp_path)
    theme = load_theme("buildings").model_copy(update={"objects": Regions(), "shape": AsTraced(), "refiner": "none"})
    (judged,) = judge(theme, [lake], "cpu", Quiet())
    # against the whole lake the part inside has an IoU of a third, and would count as wrong
    assert judged.matched.tolist() == [True]
    assert judged.sums.sum(0).tolist() == [1, 1, 1, 1]
    assert judged.summary.objects.f1 == 1
    assert judged.summary.area_iou > 0.9
    assert figures_of([judged])["f1"] == 1
    whole = replace(lake, area=shapely.box(*lake.scene.geobox.boundingbox.bbox), extent=None)
    (judged,) = judge(theme, [whole], "cpu", Quiet())
    assert judged.matched.tolist() == [True]


def test_objects_count_as_wholes_in_a_figure_as_in_its_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hybridseg.nn.models.load_classifier", lambda *_: Bright())
    image = np.full((3, 128, 256), 40, np.uint8)
    squares = [(row, col) for row in (20, 80) for col in (20, 70, 120, 170)]
    for row, col in squares:
        image[:, row : row + 24, col : col + 24] = 220
    scene = open_scene(make("utm", tmp_path, image, 0.3))
    corners = [[scene.geobox.affine * (col + a, row + a) for a in (0, 24)] for row, col in squares]
    truth = gpd.GeoDataFrame(geometry=[shapely.box(*np.ravel(pair)) for pair in corners], crs=scene.crs)
    x, low, _, high = scene.geobox.boundingbox.bbox
    # it holds four of them, cuts a little of two more, and its labels lie 2 m off where it cuts
    area = shapely.box(x, low, (scene.geobox.affine * (123, 0))[0], high)
    truth.loc[[2, 6], "geometry"] = truth.geometry[[2, 6]].translate(-2)
    theme = load_theme("buildings").model_copy(update={"shape": AsTraced(), "refiner": "none"})
    judged = judge(theme, [Labelled(scene, truth, area)], "cpu", Quiet())
    figures = figures_of(judged)
    assert (figures["objects"], figures["found"], figures["f1"]) == (4, 4, 1)
    assert judged[0].summary.objects.f1 < 0.7
    # as many right as wrong in one of many blocks, all right in the others: the figure lies in its interval
    blocks = np.tile([4.0, 4, 4, 4], (20, 1))
    blocks[0] = [2, 4, 2, 4]
    many = [replace(judged[0], sums=blocks)]
    low, high = f1_interval(many)
    assert low < figures_of(many)["f1"] == 0.975 < high

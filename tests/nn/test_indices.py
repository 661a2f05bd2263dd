"""Spectral indices: what is arithmetic on bands, what is not, and that they classify as any network does."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from hybridseg.errors import BandsMissing, ThemeError, WeightsError
from hybridseg.heatmap import depth_of
from hybridseg.nn.classify.classifier import load_classifier
from hybridseg.nn.indices import parse_index
from hybridseg.read.opening import open_scene
from hybridseg.run.extract import extract
from hybridseg.run.survey import Survey
from hybridseg.run.themes import resolve_themes
from hybridseg.theme import load_theme
from hybridseg.types import Window
from tests.rasters import utm_affine, write

NAMED = "red=1,green=2,blue=3,nir=4"


def test_expressions_are_arithmetic_on_bands_in_order_of_use():
    index = parse_index("index:sqrt((green - nir)**2) / abs(-band5 * 2.5 + green)")
    assert index.bands == ("green", "nir", "band5")
    values = {"green": np.array([3.0]), "nir": np.array([5.0]), "band5": np.array([2.0])}
    assert index(values) == pytest.approx(2 / 2)
    assert parse_index("index:NDWI").bands == ("green", "nir")
    assert parse_index("index:ndvi").centre == 0.4


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "green.real", "(lambda: green)()", "[green for green in nir]",
        "green if 1 else nir", "eval('1')", "green > nir", "green @ nir", "'a' * 99999999", "2 ** 9999999999",
        "nir ** green", "9 ** 9 ** 9", "", "1 + 2", "(" * 100 + "nir" + ")" * 100 + "+1" * 200, "abs(green, nir)",
        "green +", "True", "1j * nir", "f'{green}'", "\0", "nir + 1/0", "nir + 9e99 ** 8", "nir * sqrt(0 - 1)",
        "nir * (0 - 8) ** 0.5",
    ],
)  # fmt: skip
def test_all_else_is_refused_in_one_line_and_never_run(text: str):
    with pytest.raises(WeightsError) as caught:
        parse_index(f"index:{text}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", ["", "a", "0.1,0", "1,2,3", "inf", "nan,20"])
def test_a_scale_is_centre_and_steepness(scale: str):
    assert (parse_index("index:ndwi@0.1").centre, parse_index("index:ndwi@0.1,-5").steepness) == (0.1, -5)
    with pytest.raises(WeightsError, match="centre and steepness"):
        parse_index(f"index:ndwi@{scale}")


def test_it_is_a_probability_on_its_scale_and_nothing_where_it_is_undefined():
    network = load_classifier("index:ndwi@0.2,10", "cpu", label="water")
    pixels = np.array([[6.0, 5.0, 0.0, 4.0], [4.0, 5.0, 0.0, 6.0]], np.float32)[:, None]
    extent, interior = network.predict(pixels)
    expected = 1 / (1 + np.exp(-10 * (np.array([0.2, 0.0, 0.0, -0.2]) - 0.2)))
    expected[2] = 0  # 0 / 0
    np.testing.assert_allclose(extent[0], expected, atol=1e-5)
    np.testing.assert_allclose(interior, depth_of(extent), atol=1e-5)
    assert network.spec.classes == ("water",)
    assert network.spec.stride == 1
    again = pickle.loads(pickle.dumps(network))
    assert (again.name, again.sha256, again.spec) == (network.name, network.sha256, network.spec)
    assert load_classifier("index:ndwi@0.3,10", "cpu", label="water").sha256 != network.sha256


def test_depth_grows_inwards_as_far_as_it_counts_and_parts_objects_at_necks():
    extent = np.zeros((60, 90), np.float32)
    extent[10:50, 10:40] = extent[10:50, 50:80] = extent[28:32, 40:50] = 0.9
    deep = depth_of(extent)
    assert deep[30, 25] > deep[30, 12] > deep[30, 10] > 0
    assert deep[30, 25] - deep[30, 45] > 0.2
    assert not deep[extent == 0].any()
    full = depth_of(np.ones((100, 100), np.float32))
    np.testing.assert_allclose(depth_of(np.pad(np.ones((100, 100), np.float32), 1))[50, 50], full[50, 50], atol=1e-6)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Red, green, blue and near infrared without names, 2 m: a lake that is darker in near infrared."""
    bands = np.full((4, 120, 160), 90, np.uint8)
    bands[3] = 140
    bands[3, 30:90, 40:120] = 30
    return write(tmp_path / "lake.tif", bands, utm_affine(2.0), photometric="minisblack")


def test_water_is_found_by_its_bands_where_they_are_named_and_the_summary_says_so(lake: Path):
    result = extract(lake, theme="water", bands=NAMED)
    assert len(result.features) == 1
    assert result.features["area_m2"].sum() == pytest.approx(60 * 80 * 4, rel=0.03)
    assert any("index:ndwi" in note and "--by-bands false" in note for note in result.summary.notes)
    assert "index:ndwi" in str(result.provenance)
    for other in ({"by_bands": False}, {"bands": "1,2,3"}):
        result = extract(lake, **{"theme": "water", "bands": NAMED, "refiner": "none", **other})
        assert result.summary.theme == "water"
        assert not result.summary.notes


@pytest.mark.parametrize("part", [None, (512_400, 5_240_100, 512_500, 5_240_200)])
def test_an_index_sees_the_pixels_of_the_scene_itself(lake: Path, part: tuple[float, float, float, float] | None):
    """A metre of a projected CRS is not quite a metre of ground; that is no reason to mix pixels."""
    scene = open_scene(lake, bands={"red": 1, "green": 2, "blue": 3, "nir": 4})
    assert scene.gsd_m != 2
    grid = Survey.open(scene, load_theme("water-ndwi"), ground=part).heatmap().geobox
    assert (grid.affine.a, grid.affine.e) == (2, -2)
    assert np.mod(np.array(~scene.geobox.affine * (grid.affine.c, grid.affine.f)), 1).tolist() == [0, 0]
    coarse = load_theme("water-ndwi").model_copy(update={"work_gsd_m": (4.0, 10.0)})
    assert Survey.open(scene, coarse).heatmap().geobox.affine.a == pytest.approx(4, rel=0.01)


@pytest.mark.parametrize("part", [None, (355_100.0, 3_056_900.0, 355_150.0, 3_056_950.0)])
def test_an_index_is_that_of_the_scenes_own_pixels(tmp_path: Path, part: tuple[float, ...] | None):
    bands = np.random.default_rng(0).integers(20, 200, (4, 90, 110)).astype(np.uint8)
    path = write(tmp_path / "noise.tif", bands, Affine(5, 0, 355_001.7, 0, -5, 3_057_003.1), photometric="minisblack")
    scene = open_scene(path, bands={"red": 1, "green": 2, "blue": 3, "nir": 4})
    heatmap = Survey.open(scene, load_theme("water-ndwi"), ground=part).heatmap()
    col, row = (round(value) for value in ~scene.geobox.affine * (heatmap.geobox.affine.c, heatmap.geobox.affine.f))
    on_scene = scene.geobox.affine @ Affine.translation(col, row)
    assert heatmap.geobox.affine.almost_equals(on_scene, 1e-6)
    extent, _, seen = heatmap.read(Window(-col, -row, 110, 90), "water")
    green, nir = bands[1].astype(float), bands[3].astype(float)
    expected = 1 / (1 + np.exp(-20 * (green - nir) / (green + nir)))
    assert seen.all() if part is None else seen.any()
    np.testing.assert_allclose(extent[seen], expected[seen], atol=0.005)


def test_descriptions_name_bands_too(lake: Path):
    with rasterio.open(lake, "r+") as raster:
        raster.descriptions = ("B04", "B03", "B02", "B08")
    assert open_scene(lake).band_names == ("red", "green", "blue", "nir")
    assert extract(lake, theme="water").summary.theme == "water-ndwi"


def test_what_has_not_the_bands_is_refused(lake: Path):
    with pytest.raises(BandsMissing, match=r"index:ndwi looks at green, nir; the bands of .* 1 unnamed.*--bands red=1"):
        extract(lake, theme="water-ndwi", bands="1,2,3")
    with pytest.raises(BandsMissing, match=r"band 9 was asked for, but .* has bands 1 to 4"):
        extract(lake, theme="water", bands="red=1,green=2,blue=3,nir=9")
    with pytest.raises(ThemeError, match="--theme"):
        extract(lake, model="index:ndwi", bands=NAMED)
    found = extract(lake, theme="water", model="index:(band2 - band4) / (band2 + band4)", bands="1,2,3", refiner="none")
    assert len(found.features) == 1


def test_themes_by_bands_are_of_the_same_class_and_keep_what_was_asked(lake: Path):
    scene = open_scene(lake, bands={"green": 2, "nir": 4, "red": 1, "blue": 3})
    (one,) = resolve_themes("water", refiner="sam2-lite", scene=scene)
    assert (one.name, one.refiner) == ("water-ndwi", "sam2-lite")
    (one,) = resolve_themes("water", model="land-lite0", scene=scene)
    assert (one.name, one.classifier) == ("water", "land-lite0")
    assert load_theme("water").by_bands == ("water-ndwi",)


def test_in_8_bits_the_scene_says_where_water_begins_or_the_index_is_left_alone(tmp_path: Path):
    rng, named = np.random.default_rng(0), {"red": 1, "green": 2, "blue": 3, "nir": 4}
    land = np.full((4, 120, 160), 100.0)
    land[3] = rng.uniform(70, 110, (120, 160))  # NDWI of dry ground from -0.05 to 0.18: 0 would part nothing
    lake = land.copy()
    lake[3, 30:90, 40:120] = 30
    found = []
    for name, bands in (("lake", lake), ("land", land)):
        path = write(tmp_path / f"{name}.tif", bands.astype(np.uint8), utm_affine(2.0), photometric="minisblack")
        found += resolve_themes("water", scene=open_scene(path, bands=named))
    assert [one.name for one in found] == ["water-ndwi", "water"]
    assert 0.18 < parse_index(found[0].classifier).centre < 0.54
    deep = write(tmp_path / "deep.tif", land.astype(np.uint16) * 40, utm_affine(2.0), photometric="minisblack")
    (measured,) = resolve_themes("water", scene=open_scene(deep, bands=named))
    assert measured.classifier == "index:ndwi"


def test_dates_on_which_the_index_parts_water_from_fields_are_told(shared: Path):
    """Looked at by eye: on the two dates left out, fields would have been taken for water."""
    named, taken = {"red": 1, "green": 2, "blue": 3, "nir": 4}, set()
    for path in sorted((shared / "timeseries" / "naip_north_dakota").glob("*.tif")):
        (one,) = resolve_themes("water", scene=open_scene(path, bands=named))
        taken |= {path.stem[-8:-4]} if one.name == "water-ndwi" else set()
    assert taken == {"2009", "2014", "2015", "2016", "2017", "2018", "2019", "2020"}
    stretched = shared / "timeseries" / "landsat_pucallpa" / "2010.tif"
    (one,) = resolve_themes("water", scene=open_scene(stretched, bands={"red": 3, "green": 4, "blue": 1, "nir": 2}))
    assert one.name == "water"

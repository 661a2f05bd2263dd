"""Bands as they are stored: the same ground in the same place as in RGB, in the raster's own numbers."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling

from hybridseg.errors import BandsMissing, SourceError
from hybridseg.read import stored as module
from hybridseg.read.raster import RasterScene
from hybridseg.read.stretch import check_scaling
from hybridseg.types import Chip, Window
from tests.rasters import HOLE, default_image, make, utm_affine, write


def stored(path: str | Path, bands: list[int]) -> npt.NDArray[np.float32]:
    with rasterio.open(path) as file:
        return file.read(bands).astype(np.float32)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> RasterScene:
    return RasterScene.open(make("thirteen_bands", tmp_path_factory.mktemp("many")))


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> RasterScene:
    return RasterScene.open(make("rotated", tmp_path_factory.mktemp("turned")))


def test_bands_come_as_stored_in_the_order_asked_for(many: RasterScene) -> None:
    bands = [13, 1, 4, 4, 9]
    raw = many.raw(bands)
    chip = raw.read_window(raw.window, (96, 128))
    assert chip.pixels.dtype == np.float32
    np.testing.assert_array_equal(chip.pixels, stored(many.path, bands))
    assert chip.geobox == many.geobox
    assert (raw.bands, raw.overviews, raw.dtype) == (tuple(bands), many.overviews, np.dtype(np.uint16))
    assert raw.raw([2]).read_window(raw.window, 8).pixels.shape == (1, 8, 8)


def test_it_is_a_value_and_tells_itself_from_the_stretched_one(many: RasterScene) -> None:
    raw = many.raw(many.bands)
    assert pickle.loads(pickle.dumps(raw)) == raw == many.raw(list(many.bands))
    assert hash(raw) == hash(many.raw(many.bands))
    assert raw.fingerprint != many.fingerprint
    assert raw.fingerprint != many.raw([1]).fingerprint
    np.testing.assert_array_equal(
        many.read_window(many.window, 64).pixels, RasterScene.open(many.path).read_window(many.window, 64).pixels
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.sampled_from(["many", "turned"]), ratio=st.sampled_from([0.31, 0.5, 1.0, 1.37, 3.3]), data=st.data())
def test_a_pixel_does_not_depend_on_the_window_it_is_read_in(
    which: str, ratio: float, data: st.DataObject, many: RasterScene, turned: RasterScene
) -> None:
    raw = many.raw(range(1, 14)) if which == "many" else turned.raw([3, 1])
    affine = raw.geobox.affine @ Affine.translation(-4.3, -2.7) @ Affine.scale(ratio)
    height, width = math.ceil(104 / ratio), math.ceil(136 / ratio)
    whole = raw.read_grid(GeoBox((height, width), affine, raw.crs))
    r0, c0 = data.draw(st.integers(0, height - 2)), data.draw(st.integers(0, width - 2))
    h, w = data.draw(st.integers(1, height - r0)), data.draw(st.integers(1, width - c0))
    part = raw.read_grid(GeoBox((h, w), affine @ Affine.translation(c0, r0), raw.crs))
    np.testing.assert_array_equal(part.valid, whole.valid[r0 : r0 + h, c0 : c0 + w])
    np.testing.assert_allclose(part.pixels, whole.pixels[:, r0 : r0 + h, c0 : c0 + w], rtol=1e-5, atol=0.02)


@pytest.mark.parametrize("ratio", [0.4, 1.7, 6.0])
def test_reading_in_pieces_changes_nothing(ratio: float, many: RasterScene, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, size = many.raw(range(1, 14)), (round(110 / ratio), round(140 / ratio))
    whole = raw.read_window(Window(-6, -7, 140, 110), size)
    monkeypatch.setattr(module, "READ_PX", 900)
    pieces = raw.read_window(Window(-6, -7, 140, 110), size)
    np.testing.assert_allclose(pieces.pixels, whole.pixels, rtol=1e-5, atol=0.02)
    np.testing.assert_array_equal(pieces.valid, whole.valid)


def test_zooming_out_takes_the_mean_and_in_the_line_between(tmp_path: Path) -> None:
    rows, cols = np.mgrid[:64, :64]
    bands = np.stack([100.0 * cols, 7.0 * rows, cols + rows, 0 * rows - 3.5]).astype(np.float32)
    raw = RasterScene.open(write(tmp_path / "a.tif", bands, utm_affine(1.0)), bands=(1,)).raw([1, 2, 3, 4])
    out = raw.read_window(raw.window, 16).pixels
    np.testing.assert_allclose(out, bands.reshape(4, 16, 4, 16, 4).mean((2, 4)), rtol=1e-5)
    zoomed = raw.read_window(Window(8, 8, 16, 16), 32).pixels
    np.testing.assert_allclose(zoomed[0, 0], 100 * (7.75 + np.arange(32) / 2), rtol=1e-5)


def test_holes_are_0_and_lend_nothing_to_their_neighbours(tmp_path: Path) -> None:
    bands = np.full((4, 96, 128), 5000, np.float64)
    bands[:, *HOLE] = -1e300
    bands[2, 40:50, 40:50] = np.nan  # a hole whatever the nodata value says
    bands[1, 60:70, 60:70] = -1e300  # of one band alone
    path = write(tmp_path / "a.tif", bands, utm_affine(0.3), nodata=-1e300)
    raw = RasterScene.open(path, bands=(1,)).raw([1, 2, 3, 4])
    chip = raw.read_window(raw.window, (96, 128))
    hole = np.zeros((96, 128), bool)
    hole[HOLE] = hole[40:50, 40:50] = True
    np.testing.assert_array_equal(chip.valid, ~hole)
    assert not chip.pixels[:, hole].any()
    assert (chip.pixels[[0, 2, 3]][:, ~hole] == 5000).all()
    assert not chip.pixels[1, 60:70, 60:70].any()
    coarse = raw.read_window(raw.window, (37, 50))
    np.testing.assert_allclose(coarse.pixels[0, coarse.valid], 5000, rtol=1e-5)
    away = raw.read_window(Window(500, 0, 32, 32), 16)
    assert away.pixels.shape == (4, 16, 16)
    assert not away.valid.any()


def test_palettes_are_left_out_and_overviews_used(tmp_path: Path) -> None:
    index = make("paletted", tmp_path)
    raw = RasterScene.open(index).raw([1])
    np.testing.assert_array_equal(raw.read_window(raw.window, (96, 128)).pixels, stored(index, [1]))
    noise = np.random.default_rng(5).integers(0, 9000, (5, 131, 250)).astype(np.uint16)
    path = write(tmp_path / "a.tif", noise, utm_affine(0.3))
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], Resampling.nearest)
    with rasterio.open(path, overview_level=1) as file:
        overview = file.read()
    raw = RasterScene.open(path, bands=(1,)).raw([1, 2, 3, 4, 5])
    np.testing.assert_array_equal(raw.read_window(raw.window, overview.shape[1:]).pixels, overview)


@pytest.mark.parametrize("bands", [[14], [0, 1], []])
def test_bands_that_are_not_there_are_refused(bands: list[int], many: RasterScene) -> None:
    with pytest.raises(BandsMissing, match="has bands 1 to 13"):
        many.raw(bands)


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", default_image(), utm_affine(0.3))
    source = RasterScene.open(path)
    write(path, default_image().astype(np.complex64), utm_affine(0.3))
    with pytest.raises(SourceError, match="complex"):
        source.raw([1])


def test_alpha_is_no_band_of_data(many: RasterScene, tmp_path: Path) -> None:
    assert many.data_bands == tuple(range(1, 14))
    assert RasterScene.open(make("rgba", tmp_path)).data_bands == (1, 2, 3)


def test_a_chip_is_rgb_in_8_bits_or_any_bands_in_floats(many: RasterScene) -> None:
    box, valid = many.geobox[:4, :6], np.ones((4, 6), bool)
    Chip(np.zeros((3, 4, 6), np.uint8), valid, box)
    Chip(np.zeros((7, 4, 6), np.float32), valid, box)
    for shape, dtype in [((4, 4, 6), np.uint8), ((3, 4, 6), np.float64), ((0, 4, 6), np.float32), ((4, 6), np.float32)]:
        with pytest.raises(ValueError, match="uint8 or"):
            Chip(np.zeros(shape, dtype), valid, box)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (default_image(), "holds uint8"),
        (default_image().astype(np.float32) / 255, "reach 0.918 only.*multiply them by 10000"),
        (default_image().astype(np.uint16) * 40, None),
        (default_image().astype(np.float32) * 40, None),
    ],
)
def test_values_that_are_no_reflectance_times_10000_are_told(values: np.ndarray, message: str, tmp_path: Path) -> None:
    raw = RasterScene.open(write(tmp_path / "a.tif", values, utm_affine(0.3))).raw([1, 2, 3])
    assert check_scaling(raw, "values that it divides by 255", "X wants them") is raw
    if message is None:
        assert check_scaling(raw, "reflectance x 10000", "X wants them") is raw
    else:
        with pytest.raises(BandsMissing, match=f"^X wants them; .*{message}"):
            check_scaling(raw, "reflectance x 10000", "X wants them")

"""Whatever the file, a source gives the same ground in the same place."""

from __future__ import annotations

import math
import pickle
from concurrent.futures import ThreadPoolExecutor
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

from hybridseg.errors import BandsMissing, NoGeoreference, SourceError
from hybridseg.read import stored
from hybridseg.read.raster import RasterScene
from hybridseg.types import Chip, Window
from tests.rasters import BAD, HOLE, HOLED, KINDS, cut, default_image, make, utm_affine, write

COLOURED_8_BIT = ("rgb", "rgba", "masked", "epsg4326", "utm", "web_mercator", "rotated")
PLACED = ("utm", "epsg4326", "web_mercator", "rotated", "south_up")


def matrix(affine: Affine) -> npt.NDArray[np.float64]:
    return np.array(tuple(affine)).reshape(3, 3)


def gradient(height: int = 50, width: int = 60) -> npt.NDArray[np.uint8]:
    """(3, H, W): 4 levels a column in red, 5 a row in green."""
    rows, cols = np.mgrid[:height, :width]
    return np.stack([4 * cols, 5 * rows, 0 * rows + 99]).astype(np.uint8)


def assert_gradient(chip: Chip, north_up: GeoBox, margin_px: float, levels: float = 0.51) -> None:
    """Every valid pixel has the colour that its place on the ground has in `gradient`, within `levels`.

    Half a level is rounding; means over broken pixels stray by up to an eighth of a pixel's 5 levels.
    """
    rows, cols = np.mgrid[: chip.geobox.height, : chip.geobox.width]
    centres = np.stack([cols.ravel() + 0.5, rows.ravel() + 0.5, np.ones(rows.size)])
    x, y, _ = np.linalg.inv(matrix(north_up.affine)) @ matrix(chip.geobox.affine) @ centres
    inside = (x > -0.01) & (y > -0.01) & (x < north_up.width + 0.01) & (y < north_up.height + 0.01)
    deep = (np.minimum(x, north_up.width - x) > margin_px) & (np.minimum(y, north_up.height - y) > margin_px)
    valid = chip.valid.ravel()
    assert deep.any()
    assert valid[deep].all()
    assert not valid[~inside].any()
    pixels = chip.pixels.reshape(3, -1)
    assert np.abs(pixels[0] - (4 * x - 2))[deep].max() <= levels
    assert np.abs(pixels[1] - (5 * y - 2.5))[deep].max() <= levels
    assert not pixels[:, ~valid].any()


def north_up_of(kind: str, source: RasterScene) -> GeoBox:
    """The grid on which the image has its first row at the top."""
    if kind != "south_up":
        return source.geobox
    flip = Affine.translation(0, source.geobox.height) @ Affine.scale(1, -1)
    return GeoBox(source.geobox.shape, source.geobox.affine @ flip, source.crs)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_opens_reads_and_pickles(kind: str, tmp_path: Path) -> None:
    source = RasterScene.open(make(kind, tmp_path))
    chip = source.read_window(source.window, (96, 128))
    assert chip.geobox == source.geobox
    assert source.gsd_m == pytest.approx(0.3, rel=0.01)
    assert chip.pixels.std() > 10
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source
    assert hash(copy) == hash(source)
    np.testing.assert_array_equal(copy.read_window(source.window, (96, 128)).pixels, chip.pixels)
    hole = np.zeros((96, 128), np.bool_)
    hole[HOLE] = kind in HOLED
    np.testing.assert_array_equal(chip.valid, ~hole)


@pytest.mark.parametrize("kind", COLOURED_8_BIT)
def test_8_bit_pixels_come_unchanged(kind: str, tmp_path: Path) -> None:
    image = np.random.default_rng(3).integers(0, 256, (3, 64, 80)).astype(np.uint8)
    source = RasterScene.open(make(kind, tmp_path, image))
    chip = source.read_window(source.window, (64, 80))
    np.testing.assert_array_equal(chip.pixels, np.where(chip.valid, image, 0))


@pytest.mark.parametrize("kind", ["thirteen_bands", "uint16", "int16", "float32"])
def test_deeper_pixels_differ_by_the_stretch_only(kind: str, tmp_path: Path) -> None:
    image = default_image()
    source = RasterScene.open(make(kind, tmp_path, image))
    chip = source.read_window(source.window, (96, 128))
    for band in range(3):
        shown, meant = chip.pixels[band][chip.valid], image[band][chip.valid]
        inner = (shown > 0) & (shown < 255)
        assert np.corrcoef(shown[inner], meant[inner])[0, 1] > 0.999
        assert 0.9 < inner.mean() < 0.97  # 2 % at either end


def test_the_stretch_is_of_the_whole_source(tmp_path: Path) -> None:
    source = RasterScene.open(make("uint16", tmp_path))
    whole = source.read_window(source.window, (96, 128))
    part = source.read_window(Window(30, 20, 40, 40), 40)
    np.testing.assert_array_equal(part.pixels, whole.pixels[:, 20:60, 30:70])


def test_palettes_become_colours(tmp_path: Path) -> None:
    image = default_image()
    source = RasterScene.open(make("paletted", tmp_path, image))
    index = image[0] // 16
    chip = source.read_window(source.window, (96, 128))
    np.testing.assert_array_equal(chip.pixels, np.stack([index * 16, 255 - index * 16, np.full_like(index, 128)]))


@pytest.mark.parametrize("kind", BAD)
def test_every_bad_kind_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    with pytest.raises(BAD[kind]) as caught:
        RasterScene.open(make(kind, tmp_path))
    assert type(caught.value) is BAD[kind]
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(("name", "what"), [("missing.tif", "does not exist"), (".", "is not a raster")])
def test_what_is_no_file_is_refused(name: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=what):
        RasterScene.open(tmp_path / name)


def test_a_world_file_needs_a_crs_said(tmp_path: Path) -> None:
    path = make("world_file", tmp_path)
    with pytest.raises(NoGeoreference, match="--source-crs EPSG:3857"):
        RasterScene.open(path)
    with pytest.raises(NoGeoreference, match="the CRS EPSG:999999 is unknown"):
        RasterScene.open(path, crs="EPSG:999999")
    source = RasterScene.open(path, crs="EPSG:32633")
    assert source.crs.epsg == 32633
    np.testing.assert_array_equal(source.read_window(source.window, (96, 128)).pixels, default_image())
    assert RasterScene.open(make("utm", tmp_path), crs="EPSG:3857").crs.epsg == 32633  # the file knows better


@pytest.mark.parametrize(("crs", "what"), [("EPSG:4326", "outside its CRS"), ('LOCAL_CS["yard"]', "is local")])
def test_a_crs_that_cannot_be_is_refused(crs: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(NoGeoreference, match=what):
        RasterScene.open(make("world_file", tmp_path), crs=crs)


def test_bands_can_be_chosen(tmp_path: Path) -> None:
    path, image = make("unnamed_bands", tmp_path), default_image()
    source = RasterScene.open(path, bands=(4, 3, 2))
    assert source.bands == (4, 3, 2)
    chip = source.read_window(source.window, (96, 128))
    assert np.corrcoef(chip.pixels[1].ravel(), image[1].ravel())[0, 1] > 0.99
    grey = RasterScene.open(path, bands=(4,)).read_window(source.window, (96, 128))
    np.testing.assert_array_equal(grey.pixels, np.broadcast_to(chip.pixels[0], (3, 96, 128)))


@pytest.mark.parametrize(
    ("bands", "what"), [((4, 3, 14), "band 14 .* bands 1 to 13"), ((0,), "band 0"), ((1, 2), "2 bands were asked for")]
)
def test_bands_that_are_not_there_are_refused(bands: tuple[int, ...], what: str, tmp_path: Path) -> None:
    with pytest.raises(BandsMissing, match=what):
        RasterScene.open(make("unnamed_bands", tmp_path), bands=bands)


def test_four_bands_need_a_choice_unless_colours_are_named(tmp_path: Path) -> None:
    with pytest.raises(BandsMissing, match=r"4 bands.*--bands 1,2,3"):
        RasterScene.open(make("four_bands", tmp_path))
    image = np.concatenate([default_image(), default_image(seed=1)[:1]])
    named = write(tmp_path / "rgbn.tif", image, utm_affine(0.3), photometric="rgb", alpha="no")
    assert RasterScene.open(named).bands == (1, 2, 3)


@pytest.mark.parametrize("kind", PLACED)
@pytest.mark.parametrize(
    ("window", "size"),
    [
        (Window(0, 0, 60, 50), (50, 60)),
        (Window(7, 5, 20, 20), 40),  # zoomed in
        (Window(7, 5, 20, 20), 33),
        (Window(8, 6, 40, 40), 20),  # zoomed out
        (Window(3, 6, 45, 36), (12, 15)),
        (Window(5, 4, 50, 40), (30, 37)),
        (Window(-9, -7, 30, 30), 30),  # partly outside
        (Window(40, 30, 40, 40), 80),
        (Window(-20, -20, 100, 100), 50),
        (Window(4, 4, 40, 20), (10, 80)),  # in along columns, out along rows
    ],
)
def test_windows_are_not_shifted(kind: str, window: Window, size: int | tuple[int, int], tmp_path: Path) -> None:
    source = RasterScene.open(make(kind, tmp_path, gradient()))
    chip = source.read_window(window, size)
    image_on = north_up_of(kind, source)
    zoom = max(window.width / chip.geobox.width, window.height / chip.geobox.height)
    whole = window.width % chip.geobox.width == 0 or zoom < 1
    assert_gradient(chip, image_on, margin_px=max(1.0, zoom), levels=0.51 if whole else 1.13)
    scale = matrix(source.geobox.affine) @ (window.col, window.row, 1)
    np.testing.assert_allclose(matrix(chip.geobox.affine) @ (0, 0, 1), scale)


@pytest.mark.parametrize("kind", PLACED)
@pytest.mark.parametrize("gsd_m", [0.11, 0.3, 0.45, 0.6, 1.1])
def test_grids_are_not_shifted(kind: str, gsd_m: float, tmp_path: Path) -> None:
    source = RasterScene.open(make(kind, tmp_path, gradient()))
    box, (mx, my) = source.geobox.extent.boundingbox, source.metres_per_unit
    px, py = gsd_m / mx, gsd_m / my
    affine = Affine(px, 0, box.left - 2.3 * px, 0, -py, box.top + 1.6 * py)
    shape = (math.ceil(box.span_y / py) + 4, math.ceil(box.span_x / px) + 4)
    chip = source.read_grid(GeoBox(shape, affine, source.crs))
    assert_gradient(
        chip, north_up_of(kind, source), margin_px=max(1.0, 1.5 * gsd_m / 0.3), levels=0.51 if gsd_m <= 0.3 else 1.13
    )


def test_a_grid_in_another_crs_is_refused(tmp_path: Path) -> None:
    source = RasterScene.open(make("utm", tmp_path))
    with pytest.raises(ValueError, match="must be in EPSG:32633"):
        source.read_grid(GeoBox((8, 8), source.geobox.affine, "EPSG:3857"))


def test_outside_is_not_valid(tmp_path: Path) -> None:
    source = RasterScene.open(make("rgb", tmp_path))
    away = source.read_window(Window(500, -300, 32, 32), 64)
    assert not away.valid.any()
    assert not away.pixels.any()
    edge = source.read_window(Window(-8, -16, 32, 32), 64)
    inside = np.zeros((64, 64), np.bool_)
    inside[32:, 16:] = True
    np.testing.assert_array_equal(edge.valid, inside)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["rgb", "uint16", "float32", "rotated", "epsg4326"]),
    ratio=st.sampled_from([0.31, 0.5, 1.0, 1.37, 2.0, 3.3, 5.0]),
    data=st.data(),
)
def test_a_pixel_does_not_depend_on_the_window_it_is_read_in(
    kind: str, ratio: float, data: st.DataObject, sources: dict[str, RasterScene]
) -> None:
    source = sources[kind]
    affine = source.geobox.affine @ Affine.translation(-4.3, -2.7) @ Affine.scale(ratio)
    height, width = math.ceil(104 / ratio), math.ceil(136 / ratio)
    whole = source.read_grid(GeoBox((height, width), affine, source.crs))
    r0, c0 = data.draw(st.integers(0, height - 2)), data.draw(st.integers(0, width - 2))
    h, w = data.draw(st.integers(1, height - r0)), data.draw(st.integers(1, width - c0))
    part = source.read_grid(GeoBox((h, w), affine @ Affine.translation(c0, r0), source.crs))
    np.testing.assert_array_equal(part.valid, whole.valid[r0 : r0 + h, c0 : c0 + w])
    off = np.abs(part.pixels.astype(int) - whole.pixels[:, r0 : r0 + h, c0 : c0 + w])
    assert off.max() <= 1
    assert off.sum() <= max(1, 1e-3 * off.size)  # float noise may tip a pixel to the next level


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RasterScene]:
    folder = tmp_path_factory.mktemp("sources")
    return {kind: RasterScene.open(make(kind, folder)) for kind in ("rgb", "uint16", "float32", "rotated", "epsg4326")}


@pytest.mark.parametrize("ratio", [0.4, 1.7, 6.0])
def test_reading_in_pieces_changes_nothing(
    ratio: float, sources: dict[str, RasterScene], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = sources["float32"]
    size = (round(110 / ratio), round(140 / ratio))
    whole = source.read_window(Window(-6, -7, 140, 110), size)
    monkeypatch.setattr(stored, "READ_PX", 900)
    pieces = source.read_window(Window(-6, -7, 140, 110), size)
    np.testing.assert_array_equal(pieces.pixels, whole.pixels)
    np.testing.assert_array_equal(pieces.valid, whole.valid)


@pytest.mark.parametrize("kind", HOLED)
@pytest.mark.parametrize("size", [(192, 256), (48, 64), (37, 50)])
def test_holes_do_not_bleed(kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    image = np.full((3, 96, 128), 200, np.uint8)
    image[:, 60:, 60:] = 100
    source = RasterScene.open(make(kind, tmp_path, image))
    chip = source.read_window(source.window, size)
    bright = chip.pixels[:, : size[0] // 2][:, chip.valid[: size[0] // 2]]
    assert (bright == bright[0, 0]).all()
    assert bright[0, 0] >= 200
    share = 1 - (HOLE[0].stop * HOLE[1].stop) / (96 * 128)
    assert chip.valid.mean() == pytest.approx(share, abs=0.005)


def test_not_a_number_is_a_hole_even_where_nodata_is_another(tmp_path: Path) -> None:
    bands = default_image().astype(np.float32)
    bands[0, 40:50, 40:50], bands[1, 60:64, 60:64] = np.nan, np.inf
    source = RasterScene.open(write(tmp_path / "a.tif", bands, utm_affine(0.3), nodata=-1))
    valid = source.read_window(source.window, (96, 128)).valid
    assert not valid[40:50, 40:50].any()
    assert not valid[60:64, 60:64].any()
    assert valid.sum() == 96 * 128 - 100 - 16


def test_one_band_at_nodata_is_no_hole(tmp_path: Path) -> None:
    image = default_image()
    image[0, 30:40], image[:, 50:60] = 0, 0
    source = RasterScene.open(write(tmp_path / "a.tif", image, utm_affine(0.3), nodata=0))
    valid = source.read_window(source.window, (96, 128)).valid
    assert valid[30:40].all()
    assert not valid[50:60].any()


def test_overviews_are_used(tmp_path: Path) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (3, 131, 250)).astype(np.uint8)
    path = write(tmp_path / "a.tif", noise, utm_affine(0.3), photometric="rgb")
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], Resampling.nearest)
    source = RasterScene.open(path)
    assert source.overviews == (2, 4)
    with rasterio.open(path, overview_level=1) as file:
        overview = file.read()  # of single pixels: no average of the raster comes near it
    chip = source.read_window(source.window, overview.shape[1:])
    np.testing.assert_array_equal(chip.pixels, overview)


@pytest.mark.parametrize("size", [(25, 31), (13, 15), (10, 12)])
def test_overviews_of_odd_size_do_not_shift(size: tuple[int, int], tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", gradient(49, 61), utm_affine(0.3), photometric="rgb")
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], Resampling.average)
    source = RasterScene.open(path)
    assert_gradient(source.read_window(source.window, size), source.geobox, margin_px=8, levels=2.6)


def test_overviews_know_the_mask(tmp_path: Path) -> None:
    path = make("masked", tmp_path)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], Resampling.average)
    source = RasterScene.open(path)
    valid = source.read_window(source.window, (24, 32)).valid
    assert not valid[:4, :6].any()
    assert valid.sum() == 24 * 32 - 24


@pytest.mark.parametrize("gsd_m", [0.05, 0.3, 10.0])
@pytest.mark.parametrize("kind", PLACED)
def test_the_gsd_is_of_the_ground(kind: str, gsd_m: float, tmp_path: Path) -> None:
    source = RasterScene.open(make(kind, tmp_path, gsd_m=gsd_m))
    assert source.gsd_m == pytest.approx(gsd_m, rel=0.005)
    mx, my = source.metres_per_unit
    a, b, _, d, e, _ = tuple(source.geobox.affine)[:6]
    nominal = math.sqrt(math.hypot(a * mx, d * my) * math.hypot(b * mx, e * my))
    assert nominal == pytest.approx(gsd_m, rel=0.01)


def test_feet_are_feet(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", default_image(), Affine(1, 0, 980_000, 0, -1, 200_000), "EPSG:2263")
    source = RasterScene.open(path)
    assert source.metres_per_unit == pytest.approx((0.3048006, 0.3048006))
    assert source.gsd_m == pytest.approx(0.3048, rel=1e-3)


@pytest.mark.parametrize(
    ("crs", "y", "mx", "my"),
    [
        ("EPSG:3857", 5_988_500, math.cos(math.radians(47)), math.cos(math.radians(47))),
        ("EPSG:3395", 5_950_000, math.cos(math.radians(47)), math.cos(math.radians(47))),
        ("EPSG:4087", 5_231_000, math.cos(math.radians(47)), 1),  # plate carree: true northwards
        ("EPSG:32633", 5_231_000, 1, 1),
        ("EPSG:25833+5783", 5_231_000, 1, 1),  # with heights
    ],
)
def test_metres_per_unit(crs: str, y: float, mx: float, my: float, tmp_path: Path) -> None:
    source = RasterScene.open(write(tmp_path / "a.tif", default_image(), Affine(1, 0, 500_000, 0, -1, y), crs))
    assert source.metres_per_unit == pytest.approx((mx, my), rel=0.003)


@pytest.mark.parametrize("kind", ["epsg4326", "web_mercator"])
def test_halves_of_a_scene_share_their_metre(kind: str, tmp_path: Path) -> None:
    path = make(kind, tmp_path, gsd_m=30)
    north = RasterScene.open(cut(path, tmp_path / "n.tif", 0, 0, 128, 48))
    south = RasterScene.open(cut(path, tmp_path / "s.tif", 0, 48, 128, 48))
    assert north.metres_per_unit == south.metres_per_unit == RasterScene.open(path).metres_per_unit


def test_the_fingerprint_tells_files_and_bands_apart(tmp_path: Path) -> None:
    path = make("rgb", tmp_path)
    first = RasterScene.open(path)
    assert RasterScene.open(path).fingerprint == first.fingerprint
    assert len(first.fingerprint) == 64
    assert RasterScene.open(path, bands=(3, 2, 1)).fingerprint != first.fingerprint
    changed = RasterScene.open(make("rgb", tmp_path, default_image(seed=9)))
    assert changed.fingerprint != first.fingerprint
    np.testing.assert_array_equal(changed.read_window(first.window, (96, 128)).pixels, default_image(seed=9))


def test_threads_read_the_same(sources: dict[str, RasterScene]) -> None:
    windows = [Window(col, row, 40, 40) for col in range(-10, 110, 15) for row in range(-10, 80, 15)]
    alone = [sources["uint16"].read_window(window, 56) for window in windows]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda window: sources["uint16"].read_window(window, 56), windows))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_a_file_that_breaks_after_opening_is_a_source_error(tmp_path: Path) -> None:
    source = RasterScene.open(make("rgb", tmp_path))
    with ThreadPoolExecutor(1) as pool:  # a thread that has no handle of it yet
        Path(source.path).unlink()
        with pytest.raises(SourceError, match="cannot be read"):
            pool.submit(source.read_window, source.window, 32).result()

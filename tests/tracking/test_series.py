from __future__ import annotations

from datetime import date

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy import ndimage as ndi

from hybridseg import open_scene
from hybridseg.errors import SourceError
from hybridseg.run.store import Memory
from hybridseg.tracking.register import shift_between
from hybridseg.tracking.series import Series
from tests.tracking.places import CRS, LEFT, PIXEL_M, SIDE, TOP, ground, write

NOISE = 160
DAYS = [date(2009, 1, 1), date(2012, 1, 1)]


def opened(path):
    return open_scene(path, bands=[1, 2, 3])


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.4, -0.7), (-2.3, 1.15)])
def test_shifts_are_found_to_a_part_of_a_pixel(tmp_path, shift):
    first = opened(write(tmp_path / "a.tif", [(40, 40, 30, 50)]))
    other = opened(write(tmp_path / "b.tif", [(40, 40, 45, 50), (150, 170, 20, 20)], light=0.7))
    pixels = other.read_grid(first.geobox).pixels
    moved = np.stack([ndi.shift(band.astype(float), shift[::-1], order=3, mode="nearest") for band in pixels])
    scene = open_scene(np.clip(moved, 0, 255).astype(np.uint8), geobox=first.geobox)
    found = shift_between(first, scene, first.geobox)
    assert found.known
    assert (found.x_px, found.y_px) == pytest.approx(shift, abs=0.15)


def test_noise_tells_no_shift(tmp_path):
    first = opened(write(tmp_path / "a.tif", []))
    noise = np.random.default_rng(3).integers(0, 255, (3, SIDE, SIDE)).astype(np.uint8)
    assert not shift_between(first, open_scene(noise, geobox=first.geobox), first.geobox).known


def test_dates_whose_shift_cannot_be_told_are_one_note(tmp_path):
    rng = np.random.default_rng(3)
    grid = GeoBox((SIDE, SIDE), Affine(PIXEL_M, 0, LEFT, 0, -PIXEL_M, TOP), CRS)
    first, *noise = [open_scene(rng.integers(0, 255, (3, SIDE, SIDE)).astype(np.uint8), geobox=grid) for _ in range(3)]
    days = [*DAYS, date(2014, 7, 20)]
    (note,) = Series.open([first, *noise], days, Memory()).notes
    assert note.startswith("2012-01-01, 2014-07-20: how far off the first date cannot be told")
    assert not Series.open([first, *noise], days, Memory(), align=False).notes


def test_what_each_window_says_faintly_all_say_together(tmp_path):
    rng = np.random.default_rng(5)
    first = opened(write(tmp_path / "a.tif", []))
    pixels = [np.roll(ground(), shift, (2, 1))[:3] for shift in ((0, 0), (2, -1))]
    grid = first.geobox
    one, other = (
        open_scene(np.clip(image + ndi.gaussian_filter(rng.normal(0, NOISE, image.shape), (0, 1, 1)), 0, 255)
                   .astype(np.uint8), geobox=grid) for image in pixels
    )  # fmt: skip
    found = shift_between(one, other, grid)
    assert found.known
    assert (found.x_px, found.y_px) == pytest.approx((2, -1), abs=2 * found.sd_px)


def test_a_date_that_lies_off_is_moved_back(tmp_path):
    ponds = [(60, 60, 40, 40)]
    scenes = [opened(write(tmp_path / "a.tif", ponds)), opened(write(tmp_path / "b.tif", ponds, (3, -2)))]
    store = Memory()
    series = Series.open(scenes, DAYS, store)
    first, second = series.frames
    assert second.moved
    assert (second.shift.x_px, second.shift.y_px) == pytest.approx((3, -2), abs=0.1)
    inner = np.s_[:, 20:-20, 20:-20]
    a, b = (frame.scene.read_grid(series.grid).pixels[inner].astype(float) for frame in (first, second))
    assert np.abs(a - b).mean() < 3
    assert np.abs(a - scenes[1].read_grid(series.grid).pixels[inner]).mean() > 5


def test_another_crs_is_warped_to_the_first(tmp_path):
    from rasterio.warp import Resampling, calculate_default_transform, reproject

    path = write(tmp_path / "a.tif", [(60, 60, 40, 40)])
    with rasterio.open(path) as file:
        pixels, left = file.read(), file.bounds
    transform, width, height = calculate_default_transform(CRS, "EPSG:4326", SIDE, SIDE, *left)
    out = np.zeros((4, height, width), np.uint8)
    reproject(pixels, out, src_transform=file.transform, src_crs=CRS, dst_transform=transform, dst_crs="EPSG:4326",
              resampling=Resampling.cubic)  # fmt: skip
    profile = {"driver": "GTiff", "count": 4, "height": height, "width": width, "dtype": "uint8", "nodata": 0,
               "photometric": "minisblack", "alpha": "no"}  # fmt: skip
    with rasterio.open(tmp_path / "b.tif", "w", crs="EPSG:4326", transform=transform, **profile) as file:
        file.write(out)
    store = Memory()
    series = Series.open([opened(path), opened(tmp_path / "b.tif")], DAYS, store)
    chip = series.frames[1].scene.read_grid(series.grid)
    assert series.frames[1].scene.geobox == series.grid
    assert chip.valid[5:-5, 5:-5].all()
    assert np.abs(chip.pixels.astype(float) - pixels[:3])[:, 5:-5, 5:-5].mean() < 8


def test_ground_that_is_not_clear_is_masked(tmp_path):
    scenes = [opened(write(tmp_path / name, [(60, 60, 40, 40)])) for name in ("a.tif", "b.tif")]
    masks = []
    for number, side in enumerate((0, 100)):
        clear = np.ones((1, SIDE, SIDE), np.uint8)
        clear[:, :side, :side] = 0
        masks.append(tmp_path / f"clear{number}.tif")
        with rasterio.open(masks[-1], "w", driver="GTiff", count=1, height=SIDE, width=SIDE, dtype="uint8", crs=CRS,
                           transform=Affine(PIXEL_M, 0, LEFT, 0, -PIXEL_M, TOP)) as file:  # fmt: skip
            file.write(clear)
    store = Memory()
    series = Series.open(scenes, DAYS, store, masks)
    assert series.frames[0].scene.read_grid(series.grid).valid.all()
    valid = series.frames[1].scene.read_grid(series.grid).valid
    assert not valid[:100, :100].any()
    assert valid[100:].all()
    assert valid[:, 100:].all()


def test_scenes_of_two_places_are_refused(tmp_path):
    far = write(tmp_path / "b.tif", [], transform=Affine(PIXEL_M, 0, LEFT + 1e5, 0, -PIXEL_M, TOP))
    with pytest.raises(SourceError, match="does not overlap"):
        Series.open([opened(write(tmp_path / "a.tif", [])), opened(far)], DAYS, Memory())


def test_scenes_of_other_bands_are_refused(tmp_path):
    with rasterio.open(tmp_path / "grey.tif", "w", driver="GTiff", count=1, height=SIDE, width=SIDE, dtype="uint8",
                       crs=CRS, transform=Affine(PIXEL_M, 0, LEFT, 0, -PIXEL_M, TOP)) as file:  # fmt: skip
        file.write(ground()[:1].astype(np.uint8))
    with pytest.raises(SourceError, match=r"has 4 bands .* and .* has 1 bands"):
        Series.open([opened(write(tmp_path / "a.tif", [])), open_scene(tmp_path / "grey.tif")], DAYS, Memory())

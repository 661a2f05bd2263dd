"""Ground at the border without data that the raster does not declare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from scipy import ndimage

from hybridseg import Scene, open_scene
from hybridseg.types import Window
from tests.rasters import default_image, utm_affine, write

SIDE = 300


def turned(value: int, angle: float = 12.0, dtype: str = "uint8") -> tuple[np.ndarray, np.ndarray]:
    """An image turned within its rectangle, the corners filled with a value; and where the image is."""
    image = np.clip(default_image(SIDE, SIDE), 10, 245)
    inside = ndimage.rotate(np.ones((SIDE, SIDE)), angle, order=0, cval=0) > 0
    pixels = np.stack([ndimage.rotate(band, angle, order=0, cval=0) for band in image])
    pixels = pixels if dtype == "uint8" else pixels.astype(dtype) * 40
    return np.where(inside, pixels, np.array(value, dtype)), inside


def saved(path: Path, pixels: np.ndarray, **profile: object) -> Scene:
    photometric = "rgb" if len(pixels) == 3 else "minisblack"
    return open_scene(write(path, pixels, utm_affine(0.3), photometric=photometric, **profile))


def valid(scene: Scene) -> np.ndarray:
    return scene.read_window(scene.window, (scene.window.height, scene.window.width)).valid


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(255, "uint8"), (0, "uint8"), (65535, "uint16"), (0, "uint16"), (-9999, "int16"), (-9999, "float32")],
)
def test_a_collar_is_no_data_and_is_said(value: int, dtype: str, tmp_path: Path) -> None:
    pixels, inside = turned(value, dtype=dtype)
    scene = saved(tmp_path / "a.tif", pixels)
    np.testing.assert_array_equal(valid(scene), inside)
    share = 100 * (1 - inside.mean())
    (note,) = scene.notes
    assert f"has the value {value}" in note
    assert abs(float(note.split(" %")[0]) - share) < 1
    declared = open_scene(scene.path, nodata=value)  # type: ignore[attr-defined]
    np.testing.assert_allclose(scene.stretch.high, declared.stretch.high, rtol=0.01)  # type: ignore[attr-defined]
    assert declared.notes == ()
    kept = open_scene(scene.path, nodata="none")  # type: ignore[attr-defined]
    assert valid(kept).all()
    assert len({scene.fingerprint, declared.fingerprint, kept.fingerprint}) == 3
    assert not scene.raw([1]).read_window(Window(0, 0, 5, 5), 5).valid.any()


def test_white_roofs_stay(tmp_path: Path) -> None:
    """At the border, over a corner, and even beside a collar, as far as it does not hide them."""
    pixels = np.clip(default_image(SIDE, SIDE), 10, 245)
    pixels[:, 100:130, 140:180] = 255  # inside
    pixels[:, 0:30, 100:200] = 255  # at a side
    pixels[:, 0:100, 0:60] = 255  # over a corner
    scene = saved(tmp_path / "a.tif", pixels)
    assert valid(scene).all()
    assert scene.notes == ()
    framed, inside = turned(255)
    hall = (slice(None), slice(170, 200), slice(150, 200))
    framed[hall] = 255
    scene = saved(tmp_path / "b.tif", framed)
    assert scene.notes
    np.testing.assert_array_equal(valid(scene), inside)


def test_a_strip_along_one_side_is_a_collar(tmp_path: Path) -> None:
    pixels = np.clip(default_image(SIDE, SIDE), 10, 245)
    pixels[:, :, 260:] = 255
    scene = saved(tmp_path / "a.tif", pixels)
    found = valid(scene)
    assert found[:, :260].all()
    assert not found[:, 260:].any()
    assert "has the value 255" in scene.notes[0]


@pytest.mark.parametrize("kind", ["colours", "water in one band", "all white", "declared"])
def test_other_even_ground_is_no_collar(kind: str, tmp_path: Path) -> None:
    pixels, _ = turned(0)
    profile: dict[str, object] = {}
    if kind == "colours":  # of one value, but no extreme one
        pixels[:, ~pixels.any(axis=0)] = np.array([[20], [60], [90]], np.uint8)
    elif kind == "water in one band":
        pixels = pixels[:1]
    elif kind == "all white":
        pixels = np.full_like(pixels, 255)
    else:
        profile["nodata"] = 0
    assert saved(tmp_path / "a.tif", pixels, **profile).notes == ()


def test_every_window_and_overview_sees_the_same_collar(tmp_path: Path) -> None:
    pixels, inside = turned(255)
    path = write(tmp_path / "a.tif", np.tile(pixels, 1), utm_affine(0.3), photometric="rgb")
    scene = open_scene(path)
    for window in (Window(0, 0, 90, 80), Window(200, 130, 64, 64), Window(-10, 250, 120, 150)):
        chip = scene.read_window(window, (window.height, window.width))
        shown = window.clip(scene.window)
        np.testing.assert_array_equal(
            chip.valid[shown.slices(window)], inside[shown.row : shown.stop[1], shown.col : shown.stop[0]]
        )
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2], Resampling.nearest)
    half = open_scene(path).read_window(scene.window, (scene.window.height // 2, scene.window.width // 2)).valid
    small = inside[1::2, 1::2][: half.shape[0], : half.shape[1]]
    assert (half == small[: half.shape[0], : half.shape[1]]).mean() > 0.99
    mask = ndimage.binary_erosion(~inside, iterations=3)[1::2, 1::2][: half.shape[0], : half.shape[1]]
    assert not half[mask].any()


def test_a_collar_of_tiles_is_that_of_the_whole(tmp_path: Path) -> None:
    pixels, inside = turned(255)
    whole = saved(tmp_path / "a.tif", pixels)
    width = inside.shape[1]
    folder = tmp_path / "tiles"
    folder.mkdir()
    for col in (0, 130):
        piece = pixels[:, :, col : (130 if col == 0 else width)]
        write(folder / f"{col}.tif", piece, utm_affine(0.3) @ rasterio.Affine.translation(col, 0), photometric="rgb")
    np.testing.assert_array_equal(valid(open_scene(folder)), valid(whole))
    assert open_scene(folder).notes == whole.notes

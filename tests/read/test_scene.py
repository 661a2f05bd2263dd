"""Whatever imagery comes as, it is one scene: the same pixels, the same place, the same fingerprint for a copy."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT

from hybridseg.errors import BandsMissing, EmptySource, HybridsegError, NoGeoreference, SourceError
from hybridseg.read import array as array_module
from hybridseg.read import fingerprint
from hybridseg.read.array import ArrayScene
from hybridseg.read.opening import SceneOnGrid, open_scene
from hybridseg.read.raster import RasterScene
from hybridseg.read.scene import Scene
from hybridseg.types import Chip, Window
from tests.rasters import HOLE, KINDS, default_image, make, utm_affine, write

VIEWS = [(Window(0, 0, 128, 96), (96, 128)), (Window(-9, -7, 60, 50), 37), (Window(20, 10, 30, 30), 71)]


def assert_same(one: Scene, other: Scene) -> None:
    """Both give the same chips, stretched and raw."""
    assert (one.bands, one.data_bands, one.dtype, one.geobox) == (
        other.bands, other.data_bands, other.dtype, other.geobox,
    )  # fmt: skip
    assert (one.gsd_m, one.metres_per_unit, one.window) == (other.gsd_m, other.metres_per_unit, other.window)
    for window, size in VIEWS:
        pairs = [(one, other), (one.raw([1]), other.raw([1]))]
        for first, second in pairs:
            equal(first.read_window(window, size), second.read_window(window, size))
    turned = GeoBox((40, 50), one.geobox.affine @ Affine.translation(9, 9) @ Affine.rotation(33), one.crs)
    equal(one.read_grid(turned), other.read_grid(turned))


def equal(one: Chip, other: Chip) -> None:
    assert one.geobox == other.geobox
    np.testing.assert_array_equal(one.valid, other.valid)
    np.testing.assert_array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_a_dataset_in_memory_is_read_as_its_file_is(kind: str, tmp_path: Path) -> None:
    path = make(kind, tmp_path)
    with MemoryFile(path.read_bytes()) as memory, memory.open() as dataset:
        scene = open_scene(dataset)
    assert isinstance(scene, ArrayScene)
    assert isinstance(scene, Scene)
    assert_same(scene, open_scene(path))


@pytest.mark.parametrize("kind", KINDS)
def test_every_scene_pickles_and_is_a_value(kind: str, tmp_path: Path) -> None:
    path = make(kind, tmp_path)
    with MemoryFile(path.read_bytes()) as memory, memory.open() as dataset:
        scenes = [open_scene(dataset), open_scene(path)]
    for scene in [*scenes, SceneOnGrid(scenes[0], scenes[0].geobox.zoom_out(2))]:
        assert isinstance(scene, Scene)
        copy = pickle.loads(pickle.dumps(scene))
        assert copy == scene
        assert hash(copy) == hash(scene)
        assert copy.fingerprint == scene.fingerprint
        equal(copy.read_window(Window(3, 4, 40, 30), 17), scene.read_window(Window(3, 4, 40, 30), 17))
        assert open_scene(scene) is scene


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("size", [(96, 128), (700, 1900)])
def test_an_array_is_read_as_its_geotiff_is(dtype: str, size: tuple[int, int], tmp_path: Path) -> None:
    image = default_image(*size).astype(dtype) * (3 if dtype != "uint8" else 1)
    image[:, *HOLE] = 7
    geobox = GeoBox(size, utm_affine(0.3), "EPSG:32633")
    file = open_scene(write(tmp_path / "a.tif", image, utm_affine(0.3), nodata=7))
    assert file.stretch.identity == (dtype == "uint8")
    first = open_scene(image, geobox=geobox, nodata=7)
    last = open_scene(np.moveaxis(image, 0, -1), geobox=geobox, nodata=7)
    assert first == last
    assert first.stretch == file.stretch
    assert_same(first, file)
    assert first.name == "the array"


def test_validity_can_be_given(tmp_path: Path) -> None:
    geobox, image = GeoBox((96, 128), utm_affine(0.3), "EPSG:32633"), default_image()
    valid = np.ones((96, 128), np.bool_)
    valid[HOLE] = False
    scene = open_scene(image, geobox=geobox, valid=valid)
    equal(scene.read_window(scene.window, 50), open_scene(make("rgba", tmp_path)).read_window(scene.window, 50))
    assert scene.fingerprint != open_scene(image, geobox=geobox).fingerprint
    with pytest.raises(EmptySource, match=r"^the array holds no valid pixel"):
        open_scene(image, geobox=geobox, valid=np.zeros((96, 128), np.bool_))
    with pytest.raises(SourceError, match=r"valid must be \(96, 128\) bool, got \(96, 128\) uint8"):
        open_scene(image, geobox=geobox, valid=valid.astype(np.uint8))


def test_an_array_cannot_be_changed_through_its_scene() -> None:
    image = default_image()
    scene = open_scene(image, geobox=GeoBox((96, 128), utm_affine(0.3), "EPSG:32633"))
    with pytest.raises(ValueError, match="read-only"):
        scene.pixels[0, 0, 0] = 1  # type: ignore[attr-defined]
    image[0, 0, 0] = 1  # the owner still can


def test_grey_and_truth_values_are_scenes() -> None:
    geobox = GeoBox((96, 128), utm_affine(0.3), "EPSG:32633")
    grey = open_scene(default_image()[0], geobox=geobox)
    assert (grey.bands, grey.data_bands) == ((1,), (1,))
    assert (np.ptp(grey.read_window(grey.window, 96).pixels, axis=0) == 0).all()
    assert open_scene(default_image()[0] > 60, geobox=geobox).read_window(grey.window, 96).pixels.max() == 1


@pytest.mark.parametrize(
    ("array", "geobox", "error", "what"),
    [
        (default_image(), None, NoGeoreference, "needs a place: give geobox="),
        (default_image(), GeoBox((96, 127), utm_affine(1), "EPSG:32633"), SourceError, "has shape .* 127 columns"),
        (default_image()[0, 0], GeoBox((96, 128), utm_affine(1), "EPSG:32633"), SourceError, "has shape"),
        (default_image(), GeoBox((96, 128), utm_affine(1), None), NoGeoreference, "no CRS"),
        (default_image().astype(object), GeoBox((96, 128), utm_affine(1), "EPSG:32633"), SourceError, "holds object"),
        (default_image() * 1j, GeoBox((96, 128), utm_affine(1), "EPSG:32633"), SourceError, "complex"),
        (np.ones((7, 96, 128)), GeoBox((96, 128), utm_affine(1), "EPSG:32633"), BandsMissing, "has 7 bands"),
        (default_image(), GeoBox((96, 128), Affine(0, 0, 5, 0, 0, 5), "EPSG:32633"), NoGeoreference, "no size"),
    ],
)
def test_arrays_that_are_no_scene_are_refused(
    array: np.ndarray, geobox: GeoBox | None, error: type[HybridsegError], what: str
) -> None:
    with pytest.raises(error, match=what) as caught:
        open_scene(array, geobox=geobox)
    assert len(str(caught.value)) < 300


def test_a_geobox_without_crs_takes_the_one_said() -> None:
    scene = open_scene(default_image(), geobox=GeoBox((96, 128), utm_affine(1), None), crs="EPSG:32633")
    assert scene.crs.epsg == 32633


@pytest.mark.parametrize(
    "source",
    [None, 3, {"a": 1}, object(), memoryview(b"ab")],
    ids=["None", "int", "dict", "object", "memoryview"],
)
def test_other_things_are_one_line(source: Any) -> None:
    with pytest.raises(SourceError, match=r"^an? \w+ is no scene; give a path or URL") as caught:
        open_scene(source)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 220


def test_an_open_dataset_is_opened_again(tmp_path: Path) -> None:
    path = make("uint16", tmp_path)
    with rasterio.open(path) as dataset:
        scene = open_scene(dataset)
    assert scene == open_scene(path)
    with pytest.raises(SourceError, match="is closed"):
        open_scene(dataset)
    with rasterio.open(path, "r+") as writing, pytest.raises(SourceError, match="open for writing"):
        open_scene(writing)


def test_an_overview_and_a_warped_view_are_read_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make("rgb", tmp_path)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2])
    with rasterio.open(path, overview_level=0) as dataset:
        scene = open_scene(dataset)
        np.testing.assert_array_equal(scene.read_window(scene.window, (48, 64)).pixels, dataset.read())
    with rasterio.open(path) as dataset, WarpedVRT(dataset, crs="EPSG:3857") as warped:
        scene = open_scene(warped)
        assert scene.crs.epsg == 3857
        chip = scene.read_window(scene.window, warped.shape)
        np.testing.assert_array_equal(chip.valid, warped.dataset_mask() > 0)
        np.testing.assert_array_equal(chip.pixels, np.where(chip.valid, warped.read([1, 2, 3]), 0))
        monkeypatch.setattr(array_module, "LARGEST_BYTES", 1000)
        with pytest.raises(SourceError, match="save it as a GeoTIFF"):
            open_scene(warped)


def test_bands_are_chosen_where_a_scene_is_opened(tmp_path: Path) -> None:
    path = make("thirteen_bands", tmp_path)
    scene = open_scene(path)
    for more in ({"bands": (1, 2, 3)}, {"crs": "EPSG:3857"}, {"nodata": 0}):
        with pytest.raises(SourceError, match="is open already"):
            open_scene(scene, **more)
    with pytest.raises(SourceError, match="describe an array, but a str was given"):
        open_scene(str(path), geobox=scene.geobox)


def test_a_scene_on_a_grid_reads_the_grids_pixels(tmp_path: Path) -> None:
    scene = open_scene(make("uint16", tmp_path))
    grid = GeoBox((60, 70), scene.geobox.affine @ Affine.translation(-3.5, 2) @ Affine.scale(2), scene.crs)
    seen = SceneOnGrid(scene, grid)
    equal(seen.read_window(seen.window, (60, 70)), scene.read_grid(grid))
    assert seen.gsd_m == pytest.approx(0.6, rel=1e-3)
    assert (seen.crs, seen.name, seen.bands) == (scene.crs, scene.name, scene.bands)
    assert (seen.metres_per_unit, seen.data_bands, seen.dtype) == (
        scene.metres_per_unit, scene.data_bands, scene.dtype,
    )  # fmt: skip
    assert seen.raw([2]) == SceneOnGrid(scene.raw([2]), grid)
    assert seen.fingerprint not in (scene.fingerprint, SceneOnGrid(scene, scene.geobox).fingerprint)
    np.testing.assert_array_equal(seen.sample()[0], scene.sample()[0])


@pytest.mark.parametrize("kind", ["rgb", "int16"])
def test_a_value_can_be_declared_nodata(kind: str, tmp_path: Path) -> None:
    image = np.concatenate([default_image()] * 3, axis=2)
    image[:, 20:60, 30:60] = 255  # a white collar, where no pixel of the image is as bright
    path = make(kind, tmp_path, image)
    white = 255 if kind == "rgb" else 255 * 20 - 1000
    plain, scene = open_scene(path), open_scene(path, nodata=white)
    window = plain.window
    before, after = (one.read_window(window, (window.height, window.width)).valid for one in (plain, scene))
    assert before[20:60, 30:60].all()
    before[20:60, 30:60] = False
    np.testing.assert_array_equal(after, before)
    assert scene.fingerprint != plain.fingerprint
    raw = scene.raw([1]).read_window(Window(30, 20, 30, 40), (40, 30))
    assert not raw.valid.any()
    if kind == "int16":  # the collar has no part in the stretch
        assert scene.stretch.high[0] < white
        assert plain.stretch.high[0] == white


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    path = make("masked", tmp_path)
    scene = open_scene(path)
    copy = Path(shutil.copy(path, tmp_path / "copy.tif"))
    os.utime(copy, (1, 1))
    assert open_scene(copy).fingerprint == scene.fingerprint
    assert len(scene.fingerprint) == 64
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    copy.write_bytes(data)
    os.utime(copy, (1, 1))
    assert open_scene(copy).fingerprint != scene.fingerprint
    prints = [open_scene(path, bands=(3, 2, 1)), open_scene(path, nodata=0), scene.raw([1]), scene.raw([2]), scene]
    assert len({one.fingerprint for one in prints}) == 5


def test_the_fingerprint_knows_masks_overviews_and_tiles_beside_the_file(tmp_path: Path) -> None:
    path = make("rgb", tmp_path)
    before = open_scene(path).fingerprint
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as file:
        file.build_overviews([2])
    assert path.with_suffix(".tif.ovr").exists()
    assert open_scene(path).fingerprint != before
    path.with_suffix(".tif.ovr").unlink()
    assert open_scene(path).fingerprint == before
    path.with_suffix(".tif.aux.xml").write_text("<PAMDataset/>")  # statistics that QGIS leaves there
    assert open_scene(path).fingerprint == before

    vrt = tmp_path / "a.vrt"
    with rasterio.open(path) as file:
        rasterio.shutil.copy(file, vrt, driver="VRT")
    one = open_scene(vrt).fingerprint
    make("rgb", tmp_path, default_image(seed=8))
    assert open_scene(vrt).fingerprint != one


def test_of_large_files_blocks_are_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.tif", default_image(900, 1300), utm_affine(0.3), photometric="rgb")
    monkeypatch.setattr(fingerprint, "WHOLE_BYTES", 10_000)
    monkeypatch.setattr(fingerprint, "BLOCKS", 8)
    monkeypatch.setattr(fingerprint, "BLOCK_BYTES", 1000)
    before = open_scene(path).fingerprint
    assert open_scene(shutil.copy(path, tmp_path / "b.tif")).fingerprint == before
    data = bytearray(path.read_bytes())

    def changed(place: int) -> bool:
        other = bytearray(data)
        other[place] ^= 1
        path.write_bytes(other)
        return open_scene(path).fingerprint != before

    last_block = (len(data) - 1000) * 3 // 7
    assert changed(last_block)
    assert changed(len(data) - 1)
    assert not changed(last_block + 1001)  # as documented
    path.write_bytes(data + b"\0")
    assert open_scene(path).fingerprint != before


def test_a_file_replaced_under_its_path_is_read_anew(tmp_path: Path) -> None:
    path = make("rgb", tmp_path)
    scene = RasterScene.open(path)
    scene.read_window(scene.window, 96)
    other = make("rgb", tmp_path / "..", default_image(seed=9))
    os.replace(other, path)
    os.utime(path, (5, 5))
    chip = scene.read_window(scene.window, (96, 128))
    np.testing.assert_array_equal(chip.pixels, default_image(seed=9))

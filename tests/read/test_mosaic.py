"""Many rasters as one scene."""

from __future__ import annotations

import pickle
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.warp import calculate_default_transform, reproject

from hybridseg import Scene, open_scene
from hybridseg.errors import SourceError
from hybridseg.files import OutputError, check_not_input
from hybridseg.read.mosaic import MosaicScene
from hybridseg.read.opening import files_of
from hybridseg.types import Window
from tests.doubles import survey
from tests.rasters import default_image, utm_affine, write

HEIGHT, WIDTH = 240, 320
WINDOWS = [Window(0, 0, 320, 240), Window(90, 70, 60, 50), Window(-20, -20, 130, 130), Window(0, 0, 97, 81)]


def image(dtype: str = "uint8", seed: int = 3) -> np.ndarray:
    pixels = default_image(HEIGHT, WIDTH, seed)
    return pixels if dtype == "uint8" else pixels.astype(dtype) * 37 + 11


def cut(folder: Path, pixels: np.ndarray, cols: list[int], rows: list[int], **profile: object) -> list[Path]:
    """Write the pieces between these columns and rows, named so that the first in order is not the first in place."""
    folder.mkdir(exist_ok=True)
    paths = []
    for c0, c1 in pairwise(cols):
        for r0, r1 in pairwise(rows):
            affine = utm_affine(0.3) @ Affine.translation(c0, r0)
            name = folder / f"{900 - c0:03}-{900 - r0:03}.tif"
            paths.append(write(name, pixels[:, r0:r1, c0:c1], affine, photometric="rgb", **profile))
    return paths


def whole(path: Path, pixels: np.ndarray, **profile: object) -> Scene:
    return open_scene(write(path, pixels, utm_affine(0.3), photometric="rgb", **profile))


def assert_same(one: Scene, other: Scene) -> None:
    assert one.geobox.affine.almost_equals(other.geobox.affine, 1e-9)
    assert (one.bands, one.band_names, one.dtype) == (other.bands, other.band_names, other.dtype)
    for window in WINDOWS:
        for size in ((window.height, window.width), (41, 53), (200, 300)):
            a, b = one.read_window(window, size), other.read_window(window, size)
            np.testing.assert_array_equal(a.pixels, b.pixels)
            np.testing.assert_array_equal(a.valid, b.valid)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_tiles_read_as_the_one_raster_that_they_were(dtype: str, tmp_path: Path) -> None:
    pixels = image(dtype)
    one = whole(tmp_path / "whole.tif", pixels)
    cut(tmp_path / "tiles", pixels, [0, 100, 173, WIDTH], [0, 91, HEIGHT])
    tiles = open_scene(tmp_path / "tiles")
    assert isinstance(tiles, MosaicScene)
    assert tiles.stretch == one.stretch
    assert_same(one, tiles)
    assert_same(one.raw([2, 1]), tiles.raw([2, 1]))
    again = pickle.loads(pickle.dumps(tiles))
    assert again == tiles
    assert_same(one, again)


@pytest.mark.parametrize("mask", ["nodata", "alpha", "declared"])
def test_holes_of_tiles_are_those_of_the_raster(mask: str, tmp_path: Path) -> None:
    pixels = image()
    profile: dict[str, object] = {}
    if mask == "alpha":
        pixels = np.concatenate([pixels, np.full((1, HEIGHT, WIDTH), 255, np.uint8)])
        pixels[3, 60:120, 80:140] = 0
        profile["alpha"] = "yes"
    else:
        pixels[:, 60:120, 80:140] = 7
        profile = {"nodata": 7} if mask == "nodata" else {}
    said = 7 if mask == "declared" else None
    one = open_scene(whole(tmp_path / "whole.tif", pixels, **profile).path, nodata=said)  # type: ignore[attr-defined]
    tiles = open_scene(cut(tmp_path / "t", pixels, [0, 100, WIDTH], [0, 91, HEIGHT], **profile), nodata=said)
    assert not one.read_window(Window(85, 65, 50, 50), 50).valid.any()
    assert_same(one, tiles)


def test_overviews_are_used_where_they_are_those_of_the_whole(tmp_path: Path) -> None:
    pixels = np.tile(image(), (1, 2, 2))
    one = write(tmp_path / "whole.tif", pixels, utm_affine(0.3), photometric="rgb")
    tiles = cut(tmp_path / "t", pixels, [0, 160, 640], [0, 240, 480])
    for path in (one, *tiles):
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2, 4], Resampling.average)
    mosaic, raster = open_scene(tiles), open_scene(one)
    assert mosaic.overviews == raster.overviews == (2, 4)  # type: ignore[attr-defined]
    for size in ((240, 320), (100, 120)):
        a, b = (s.read_window(Window(0, 0, 640, 480), size).pixels for s in (mosaic, raster))
        np.testing.assert_array_equal(a, b)
    odd = cut(tmp_path / "odd", pixels, [0, 161, 640], [0, 480])
    with rasterio.open(odd[0], "r+") as file:
        file.build_overviews([2, 4], Resampling.average)
    assert open_scene(odd).overviews == ()  # type: ignore[attr-defined]


def test_the_first_that_has_data_shows_where_tiles_overlap(tmp_path: Path) -> None:
    dark, light = (np.full((3, 60, 80), value, np.uint8) for value in (60, 180))
    light[:, :, :20] = 0
    a = write(tmp_path / "a.tif", light, utm_affine(0.3), photometric="rgb", nodata=0)
    b = write(tmp_path / "b.tif", dark, utm_affine(0.3) @ Affine.translation(40, 0), photometric="rgb", nodata=0)
    row = {str(order): open_scene(order).read_window(Window(0, 0, 120, 60), (60, 120)).pixels[0, 30]
           for order in ([a, b], [b, a])}  # fmt: skip
    first, second = row.values()
    assert [int(first[x]) for x in (10, 30, 60, 100)] == [0, 180, 180, 60]
    assert [int(second[x]) for x in (10, 30, 60, 100)] == [0, 180, 60, 60]
    # light's own hole, over dark, is filled
    c = write(tmp_path / "c.tif", light, utm_affine(0.3) @ Affine.translation(40, 0), photometric="rgb", nodata=0)
    assert int(open_scene([c, b]).read_window(Window(10, 10, 1, 1), 1).pixels[0, 0, 0]) == 60


def test_objects_across_the_borders_of_tiles_are_whole(tmp_path: Path) -> None:
    pixels = np.full((3, 256, 256), 40, np.uint8)
    for y, x, h, w in [(30, 30, 40, 60), (30, 120, 50, 40), (120, 60, 40, 40), (180, 150, 60, 80)]:
        pixels[:, y : y + h, x : x + w] = 220
    write(tmp_path / "whole.tif", pixels, utm_affine(0.3), photometric="rgb")
    cut(tmp_path / "t", pixels, [0, 80, 131, 256], [0, 50, 140, 256])
    one, many = (survey(source).run().features for source in (tmp_path / "whole.tif", tmp_path / "t"))
    assert len(one) == 4
    assert list(one["id"]) == list(many["id"])
    assert one.geometry.to_wkb().tolist() == many.geometry.to_wkb().tolist()


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:3857", "EPSG:32632"])
def test_a_tile_on_another_grid_is_warped_onto_the_first(crs: str, tmp_path: Path) -> None:
    """Half of a smooth image comes in another CRS, or half a pixel off; what is read is the image all the same."""
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([60 + cols / 3, 60 + rows / 3, 100 + 40 * np.sin(cols / 40)]).astype(np.uint8)
    left, right = cut(tmp_path / "t", pixels, [0, 160, WIDTH], [0, HEIGHT])
    with rasterio.open(right) as source:
        target, width, height = calculate_default_transform(
            source.crs, crs, source.width, source.height, *source.bounds, resolution=None
        )
        if crs == "EPSG:32633":
            target = source.transform @ Affine.translation(-0.5, -0.5)
            width, height = source.width + 1, source.height + 1
        warped = np.zeros((3, height, width), np.uint8)
        reproject(source.read(), warped, src_transform=source.transform, src_crs=source.crs, dst_transform=target,
                  dst_crs=crs, resampling=Resampling.bilinear, dst_nodata=0)  # fmt: skip
    moved = write(tmp_path / "moved.tif", warped, target, crs, photometric="rgb", nodata=0)
    scene = open_scene([left, moved])
    col, row = (round(v) for v in ~scene.geobox.affine @ (utm_affine(0.3).c, utm_affine(0.3).f))
    inside = Window(col + 4, row + 4, WIDTH - 8, HEIGHT - 8)
    chip = scene.read_window(inside, (inside.height, inside.width))
    assert chip.valid.all()
    expected = pixels[:, 4:-4, 4:-4].astype(int)
    assert np.abs(chip.pixels.astype(int) - expected).max() <= 6
    for window in (Window(col + 150, row + 20, 40, 40), Window(col + 171, row + 33, 64, 17)):
        part = scene.read_window(window, (window.height, window.width)).pixels
        np.testing.assert_array_equal(part, chip.pixels[:, *window.slices(inside)])


def test_the_fingerprint_is_of_all_tiles_and_their_places(tmp_path: Path) -> None:
    pixels = image()
    tiles = cut(tmp_path / "t", pixels, [0, 100, WIDTH], [0, HEIGHT])
    again = cut(tmp_path / "u", pixels, [0, 100, WIDTH], [0, HEIGHT])
    assert open_scene(tiles).fingerprint == open_scene(again).fingerprint
    assert open_scene(tiles).fingerprint != open_scene(tiles[::-1]).fingerprint
    changed = pixels.copy()
    changed[0, 200, 300] += 1
    cut(tmp_path / "u", changed, [0, 100, WIDTH], [0, HEIGHT])
    assert open_scene(tiles).fingerprint != open_scene(again).fingerprint


def test_all_the_ways_to_name_tiles_give_one_scene(tmp_path: Path) -> None:
    tiles = sorted(cut(tmp_path / "t", image(), [0, 100, WIDTH], [0, 91, HEIGHT]))
    (tmp_path / "t" / "readme.md").write_text("not a raster")
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        for tile in tiles:
            archive.write(tile, f"inner/{tile.name}")
        archive.writestr("inner/notes.txt", "none")
    (tmp_path / "t.txt").write_text("# all\n" + "\n".join(f"t/{tile.name}" for tile in tiles) + "\n")
    expected = open_scene(tiles)
    sources = [
        tmp_path / "t", f"{tmp_path}/t/*.tif", f"{tmp_path}/**/*.tif", tmp_path / "t.zip", f"zip://{tmp_path}/t.zip",
        f"/vsizip/{tmp_path}/t.zip", tmp_path / "t.txt", [str(tile) for tile in tiles],
    ]  # fmt: skip
    for source in sources:
        assert_same(open_scene(source), expected)
    alone = open_scene(f"{tmp_path}/t/{tiles[0].name[:5]}*")
    assert alone.geobox == open_scene(tiles[0]).geobox
    assert open_scene(f"zip://{tmp_path}/t.zip!inner/{tiles[1].name}").geobox == open_scene(tiles[1]).geobox
    assert expected.name == f"{tiles[0]} and 3 more"


def test_a_vrt_of_tiles_is_the_same_scene(tmp_path: Path) -> None:
    pixels = image()
    tiles = cut(tmp_path / "t", pixels, [0, 100, WIDTH], [0, HEIGHT])
    bands = "".join(
        f"<VRTRasterBand dataType='Byte' band='{band}'><ColorInterp>{colour}</ColorInterp>"
        + "".join(
            f"<SimpleSource><SourceFilename relativeToVRT='1'>{tile.name}</SourceFilename><SourceBand>{band}"
            f"</SourceBand><SrcRect xOff='0' yOff='0' xSize='{w}' ySize='{HEIGHT}'/>"
            f"<DstRect xOff='{x}' yOff='0' xSize='{w}' ySize='{HEIGHT}'/></SimpleSource>"
            for tile, x, w in zip(tiles, (0, 100), (100, 220), strict=True)
        )
        + "</VRTRasterBand>"
        for band, colour in enumerate(("Red", "Green", "Blue"), 1)
    )
    place = ", ".join(map(str, utm_affine(0.3).to_gdal()))
    (tmp_path / "t" / "all.vrt").write_text(
        f"<VRTDataset rasterXSize='{WIDTH}' rasterYSize='{HEIGHT}'><SRS>EPSG:32633</SRS>"
        f"<GeoTransform>{place}</GeoTransform>{bands}</VRTDataset>"
    )
    assert_same(open_scene(tmp_path / "t" / "all.vrt"), whole(tmp_path / "whole.tif", pixels))


def test_what_cannot_be_one_scene_is_one_line(tmp_path: Path) -> None:
    pixels = image()
    a, _ = cut(tmp_path / "t", pixels, [0, 100, WIDTH], [0, HEIGHT])
    grey = write(tmp_path / "grey.tif", pixels[:1], utm_affine(0.3))
    other = write(tmp_path / "other.tif", pixels[1:2], utm_affine(0.3))
    deep = write(tmp_path / "deep.tif", image("uint16"), utm_affine(0.3), photometric="rgb")
    coarse = write(tmp_path / "coarse.tif", pixels, utm_affine(3.0), photometric="rgb")
    away = write(tmp_path / "away.tif", pixels, utm_affine(0.3) @ Affine.translation(50_000, 9_000), photometric="rgb")
    cases = [
        ([a, grey], "have 1 bands of uint8.* and 3 bands"),
        ([a, deep], "uint16"),
        ([a, coarse], "pixels of 3 m and 0.3 m"),
        ([a, away], "lie far apart"),
        ([grey, other], r"one band each and the same place.*gdalbuildvrt -separate"),
        ([], "an empty list"),
        ([a, 3], "holds a int; give their paths"),
        ([a, tmp_path / "gone.tif"], "gone.tif does not exist"),
        (tmp_path / "none", "does not exist"),
        (f"{tmp_path}/t/*.jp2", "holds no raster"),
    ]
    for source, words in cases:
        with pytest.raises(SourceError, match=words) as caught:
            open_scene(source)
        assert "\n" not in str(caught.value)
    (tmp_path / "bad.zip").write_bytes(b"PK")
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.md").write_text("a")
    for source, words in [("bad.zip", "not an archive"), ("empty", "it is empty"), ("texts", "it holds a.md")]:
        with pytest.raises(SourceError, match=words):
            open_scene(tmp_path / source)


def test_a_tile_that_is_damaged_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(10, 250, (3, HEIGHT, WIDTH)).astype(np.uint8)
    a, b = cut(tmp_path / "t", pixels, [0, 160, WIDTH], [0, HEIGHT], compress="deflate")
    scene = open_scene([a, b])
    data = b.read_bytes()
    b.write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match=rf"{b.name} .*damaged or cut short"):
        scene.read_window(scene.window, (HEIGHT, WIDTH))
    assert scene.read_window(Window(0, 0, 100, 100), 100).valid.all()


def test_no_tile_is_written_over(tmp_path: Path) -> None:
    tiles = cut(tmp_path / "t", image(), [0, 100, WIDTH], [0, HEIGHT])
    for source in (f"{tmp_path}/t/*.tif", tmp_path / "t", tiles, open_scene(tiles)):
        with pytest.raises(OutputError, match="one of the inputs"):
            check_not_input(tiles[1], files_of(source))

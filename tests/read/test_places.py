"""Places that cannot be, names that cannot be opened and bands that must be chosen: one line each, and soon."""

from __future__ import annotations

import random
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp

from hybridseg.errors import BandsMissing, HybridsegError, NoGeoreference, SourceError
from hybridseg.read.ground import work_grid
from hybridseg.read.opening import open_scene
from hybridseg.types import Window
from tests.rasters import EAST, NORTH, default_image, make, utm_affine, write

ROTATED_POLE = "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +datum=WGS84 +no_defs"
DEGREES = Affine(3e-6, 0, 5, 0, -3e-6, 5)
_GEOREFERENCE = (34735, 34736, 34737, 33550, 33922)
"""Tags of GeoKeys, pixel size and tie point."""


@pytest.mark.parametrize(
    ("crs", "affine", "gsd_m"),
    [
        (ROTATED_POLE, DEGREES, 0.332),
        ("EPSG:3031", utm_affine(0.3), 0.26), ("EPSG:4326", Affine(3e-6, 0, 179.9998, 0, -3e-6, 5), 0.332),
    ],
    ids=["rotated pole", "South Pole", "antimeridian"],
)  # fmt: skip
def test_unusual_places_are_places(crs: str, affine: Affine, gsd_m: float, tmp_path: Path) -> None:
    scene = open_scene(write(tmp_path / "a.tif", default_image(), affine, crs, photometric="rgb"))
    assert scene.gsd_m == pytest.approx(gsd_m, rel=0.02)
    grid = work_grid(scene, scene.gsd_m, 8)
    assert scene.read_grid(grid).valid.mean() > 0.5


@pytest.mark.parametrize(
    ("crs", "affine", "what"),
    [
        ('LOCAL_CS["yard",UNIT["metre",1]]', utm_affine(0.3), "its CRS is local"),
        ("EPSG:4978", utm_affine(0.3), "its CRS is local"),
        ("IAU_2015:30100", DEGREES, "not of the Earth"),
        ("IAU_2015:30110", Affine(0.3, 0, 900, 0, -0.3, 900), "not of the Earth"),
        ("EPSG:32633", Affine(0.3, 0, 1e8, 0, -0.3, 1e8), "outside its CRS"),
        ("+proj=ortho +lat_0=0 +lon_0=0", Affine(0.3, 0, 9e6, 0, -0.3, 9e6), "outside its CRS"),
        ("EPSG:4326", Affine(0.3, -1.0, EAST, 0, -0.3, 1e-9), "outside its CRS"),
        ("EPSG:32633", Affine(0, 0, 1, 0, 0, 1), "no size"),
        ("EPSG:32633", Affine(1, 1, 1, 1, 1, 1), "all but lines"),
        ("EPSG:32633", Affine(0.3, 0.3, EAST, 0.3, 0.3 + 1e-3, NORTH), "all but lines"),
        ("EPSG:32633", Affine(0.3, 0, EAST, 0, -1e-9, NORTH), "all but lines"),
        ("EPSG:32633", Affine(1e-9, 0, EAST, 0, -1e-9, NORTH), "too small for coordinates"),
        ("EPSG:3857", Affine(0.3, 0, 1e30, 0, -0.3, 1e30), "too small for coordinates"),
        ("EPSG:32633", Affine(float("nan"), 0, EAST, 0, -1, NORTH), "not finite"),
        ("EPSG:32633", Affine(float("inf"), 0, EAST, 0, -1, NORTH), "not finite"),
        ("EPSG:32633", Affine(1e300, 0, EAST, 0, -1e300, NORTH), "outside its CRS"),
    ],
)
@pytest.mark.timeout(20)
def test_places_that_cannot_be_are_one_line(crs: str, affine: Affine, what: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", default_image(), affine, crs, photometric="rgb")
    with pytest.raises(NoGeoreference, match=rf"a\.tif cannot be placed: .*{what}") as caught:
        open_scene(path)
    assert str(caught.value).isprintable()


def georeference_bytes(data: bytes) -> list[int]:
    """Where a small little-endian TIFF keeps its georeference."""
    start = struct.unpack("<I", data[4:8])[0]
    places: list[int] = []
    for number in range(struct.unpack("<H", data[start : start + 2])[0]):
        entry = start + 2 + 12 * number
        tag, kind, count, value = struct.unpack("<HHII", data[entry : entry + 12])
        if tag in _GEOREFERENCE:
            places += [*range(entry, entry + 12), *range(value, value + count * {3: 2, 12: 8, 2: 1}[kind])]
    return places


@pytest.mark.parametrize("kind", ["utm", "epsg4326", "web_mercator"])
def test_a_flipped_bit_in_the_georeference_is_one_line_or_another_place(kind: str, tmp_path: Path) -> None:
    data = make(kind, tmp_path).read_bytes()
    rng, places, refused = random.Random(kind), georeference_bytes(data), 0
    for _ in range(60):
        flipped = bytearray(data)
        for place in rng.choices(places, k=rng.choice([1, 1, 2, 5])):
            flipped[place] ^= 1 << rng.randrange(8)
        (tmp_path / "flipped.tif").write_bytes(flipped)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                scene = open_scene(tmp_path / "flipped.tif")
            except HybridsegError as error:
                refused += str(error).isprintable()
                continue
        assert 0 < scene.gsd_m < float("inf")
        assert work_grid(scene, scene.gsd_m, 8).shape
        assert scene.read_window(Window(0, 0, 64, 64), 8).valid.any()
    assert 8 < refused < 60


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a\udcff.tif", "is not UTF-8"), ("n" * 300 + ".tif", "File name too long"), ("a\0b.tif", "holds a NUL"),
        ("a\nb.tif", "does not exist"), ("zip://", "is not a raster"), ("/vsizip/x", "is not a raster"),
        ("file:///etc/hostname", "is not a raster"), ("/vsicurl/", "is not a raster"),
        ("", "is no path"), ("  ", "is no path"),
    ],
)  # fmt: skip
def test_names_that_cannot_be_opened_are_one_line(name: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=what) as caught:
        open_scene(f"{tmp_path}/{name}" if name.endswith(".tif") else name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.timeout(20)
def test_a_raster_of_three_long_rows_is_read_soon(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (3, 3, 65_000)).astype(np.uint8)
    path = write(
        tmp_path / "a.tif", image, utm_affine(0.3), photometric="rgb", tiled=False, blockxsize=None, blockysize=None
    )
    scene = open_scene(path)
    for col in range(0, 65_000, 512):
        scene.read_window(Window(col - 256, -500, 1024, 1024), 1024)
    whole = scene.read_window(scene.window, (3, 65_000))
    np.testing.assert_array_equal(whole.pixels, image)


def described(
    path: Path, names: list[str | None], interp: list[ColorInterp] | None = None, dtype: str = "uint16"
) -> Path:
    image = np.random.default_rng(0).integers(1, 250, (len(names), 40, 50)).astype(dtype)
    write(path, image, utm_affine(0.3), photometric="minisblack")
    with rasterio.open(path, "r+") as file:
        file.descriptions = names
        if interp:
            file.colorinterp = interp
    return path


@pytest.mark.parametrize(
    ("names", "bands"),
    [
        (["blue", "green", "red", "nir"], (3, 2, 1)),
        (["Blue band", "Green band", "Red band"], (3, 2, 1)),
        (
            ["Coastal", "Blue (B02)", "Green (B03)", "Red (B04)", "Red edge 1", "NIR", "Near infrared (red side)"],
            (4, 3, 2),
        ),
        (["red", "green", "blue", None], (1, 2, 3)),
        (["B02", "B03", "B04", "B08"], (3, 2, 1)),
        (["B2", "B3", "B4", "B8A"], (3, 2, 1)),
        (["B04 (665 nm)", "B03 (560 nm)", "B02 (490 nm)"], (1, 2, 3)),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_descriptions_name_the_bands(
    names: list[str | None], bands: tuple[int, ...], dtype: str, tmp_path: Path
) -> None:
    path = described(tmp_path / "a.tif", names, dtype=dtype)
    assert open_scene(path).bands == bands
    assert open_scene(path, bands=(2,)).bands == (2,)


def test_descriptions_go_before_colours_that_gdal_assumes(tmp_path: Path) -> None:
    assumed = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined]
    path = described(tmp_path / "a.tif", ["blue", "green", "red", "nir"], assumed)
    assert open_scene(path).bands == (3, 2, 1)
    assert open_scene(described(tmp_path / "b.tif", ["a", "b", "c", "d"], assumed)).bands == (1, 2, 3)


@pytest.mark.parametrize(
    ("names", "advice"),
    [
        (["B2", "B3", "B4", "B8"], r"--bands 3,2,1 \(B4, B3, B2: red, green, blue of Sentinel-2"),
        (["Band 8", "Band 4", "Band 3", "Band 2"], "--bands 2,3,4 "),
        (["red", "red", "green", "blue"], "called 1 red, 2 red, 3 green, 4 blue"),
        (["swir", None, "pan", "lwir"], "they are called 1 swir, 3 pan, 4 lwir"),
        ([None] * 4, "--bands 1,2,3 where they are red, green, blue.* 3,2,1 where they are blue, green, red"),
        ([None] * 8, "--bands 4,3,2"),
    ],
)
def test_the_advice_follows_the_descriptions(names: list[str | None], advice: str, tmp_path: Path) -> None:
    with pytest.raises(BandsMissing, match=advice):
        open_scene(described(tmp_path / "a.tif", names))


@pytest.mark.parametrize(
    ("names", "common"),
    [
        (["Blue", "Green", "Red", "Near Infrared"], ["blue", "green", "red", "nir"]),
        (["B02", "B8A", "B11", "B12"], ["blue", "nir", "swir16", "swir22"]),
        (["B1", "B2", "B3", "B4", "B5"], [""] * 5),  # which satellite's?
        (
            ["red edge 1", "rededge071", "NIR08", "SWIR2", "thermal infrared"],
            ["rededge", "rededge", "nir", "swir22", ""],
        ),
        (["", "", "", "NIR"], ["", "", "", "nir"]),
    ],
)
def test_bands_have_common_names(names: list[str], common: list[str], tmp_path: Path) -> None:
    path = described(tmp_path / "a.tif", names)
    scene = open_scene(path, bands=(1,))
    assert list(scene.band_names) == common
    with rasterio.open(path) as file:
        array = file.read()
    assert list(scene.raw([2]).band_names) == common
    assert open_scene(array, bands=(1,), geobox=scene.geobox).band_names == ("",) * len(names)


def test_colours_name_the_bands_that_descriptions_do_not(tmp_path: Path) -> None:
    assumed = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined]
    assert open_scene(described(tmp_path / "a.tif", ["", "", "", "nir"], assumed)).band_names == (
        "red", "green", "blue", "nir",
    )  # fmt: skip
    said = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.nir]
    scene = open_scene(described(tmp_path / "b.tif", [None] * 4, said))
    assert scene.bands == (3, 2, 1)
    assert scene.band_names[3] == "nir"

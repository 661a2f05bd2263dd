from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import example, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from hybridseg.errors import OutputError, SourceError
from hybridseg.heatmap import Heatmap, HeatmapPart, band_names, create_heatmap
from hybridseg.types import Window
from tests.rasters import ORIGIN, TRANSFORMS, raster_provenance

UTM = "EPSG:32633"
PROVENANCE = {"hybridseg": "0.1.0", "theme_yaml": "a: <&>\n"}
HALF_STEP = 1 / 508 + 1e-6
"""Values are kept in steps of 1/254."""


def grid(transform: Affine = TRANSFORMS["north-up"], height: int = 700, width: int = 900) -> GeoBox:
    return GeoBox((height, width), transform, UTM)


def whole(geobox: GeoBox) -> Window:
    return Window(0, 0, geobox.width, geobox.height)


def write_noise(path: Path, geobox: GeoBox, classes: list[str], size: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Write a heatmap of noise by windows of odd places, with a hole; gives what went in."""
    rng = np.random.default_rng(0)
    values = rng.random((2 * len(classes), geobox.height, geobox.width), np.float32)
    valid = np.ones((geobox.height, geobox.width), bool)
    valid[40:60, 280:320] = False
    values[:, ~valid] = np.nan
    with create_heatmap(path, geobox, classes, PROVENANCE) as file:
        for row in range(0, geobox.height, size):
            for col in range(0, geobox.width, size):
                window = Window(col, row, size, size).clip(whole(geobox))
                at = window.slices(whole(geobox))
                file.write(HeatmapPart(values[:, *at], valid[at], window))
    return values, valid


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("heatmap") / "h.tif"
    write_noise(path, grid(height=40, width=48), ["a", "b"], size=17)
    return path


# --- a file -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=list(TRANSFORMS))
@pytest.mark.parametrize(
    "count", [1, 2, 3]
)  # of two, GDAL would take the first three bands for RGB, a fourth for alpha
def test_what_is_read_is_what_was_written(transform: Affine, count: int, tmp_path: Path) -> None:
    geobox, classes = grid(transform), [f"class {k}" for k in range(count)]
    values, valid = write_noise(tmp_path / "h.tif", geobox, classes)
    heatmap = Heatmap.open(tmp_path / "h.tif")
    assert heatmap.geobox == geobox
    assert heatmap.classes == tuple(classes)
    for k, label in enumerate(classes):
        extent, interior, seen = heatmap.read(whole(geobox), label)
        np.testing.assert_array_equal(seen, valid)
        for read, written in ((extent, values[2 * k]), (interior, values[2 * k + 1])):
            assert read.dtype == np.float32
            assert np.abs(read - written)[valid].max() <= HALF_STEP
            assert not read[~valid].any()
    assert raster_provenance(tmp_path / "h.tif") == PROVENANCE
    assert [path.name for path in tmp_path.iterdir()] == ["h.tif"]


def test_it_is_a_cog_with_averaged_overviews_that_a_gis_understands(tmp_path: Path) -> None:
    values, _ = write_noise(tmp_path / "h.tif", grid(height=1030, width=1100), ["a", "b"])
    with rasterio.open(tmp_path / "h.tif") as source:
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (source.nodata, source.block_shapes[0], source.overviews(1)) == (255, (512, 512), [2, 4])
        assert (
            list(source.descriptions) == band_names(["a", "b"]) == ["a:extent", "a:interior", "b:extent", "b:interior"]
        )
        assert source.scales == pytest.approx((1 / 254,) * 4)
    with rasterio.open(tmp_path / "h.tif", overview_level=0) as source:
        for band in range(4):
            quarter = values[band, 500:600, 500:600].reshape(50, 2, 50, 2).mean(axis=(1, 3))
            assert np.abs(source.read(band + 1)[250:300, 250:300] / 254 - quarter).max() < 1.1 / 254


@settings(max_examples=30, deadline=None)
@example(col=60, row=60, width=90, height=90)
@given(col=st.integers(-50, 60), row=st.integers(-50, 60), width=st.integers(1, 90), height=st.integers(1, 90))
def test_any_window_reads_the_same_pixels(col: int, row: int, width: int, height: int, small: Path) -> None:
    heatmap, window = Heatmap.open(small), Window(col, row, width, height)
    everything = heatmap.read(Window(0, 0, 48, 40), "b")
    at = window.slices(Window(-100, -100, 0, 0))
    for part, read in zip(everything, heatmap.read(window, "b"), strict=True):
        padded = np.zeros((260, 260), part.dtype)  # holds every window that is drawn
        padded[100:140, 100:148] = part
        np.testing.assert_array_equal(read, padded[at])


def test_classes_are_read_by_name(small: Path) -> None:
    heatmap, window = Heatmap.open(small), Window(3, 4, 20, 20)
    with rasterio.open(small) as source:
        stored = source.read()[:, 4:24, 3:23]
    for label, first in (("a", 0), ("b", 2)):
        extent, interior, _ = heatmap.read(window, label)
        np.testing.assert_array_equal(np.rint(extent * 254), stored[first])
        np.testing.assert_array_equal(np.rint(interior * 254), stored[first + 1])


def test_a_pickled_heatmap_reads_the_same_and_leaves_its_owner_behind(small: Path) -> None:
    heatmap = Heatmap.open(small, "made of this")
    with_owner = Heatmap(heatmap.path, heatmap.geobox, heatmap.classes, heatmap.fingerprint, owner=lambda: None)
    again = pickle.loads(pickle.dumps(with_owner))
    assert again == heatmap
    assert again.owner is None
    for one, other in zip(again.read(Window(0, 0, 48, 40), "a"), heatmap.read(Window(0, 0, 48, 40), "a"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_fingerprint_is_what_made_it_or_else_the_files_content(small: Path, tmp_path: Path) -> None:
    assert Heatmap.open(small, "made of this").fingerprint == "made of this"
    own = Heatmap.open(small).fingerprint
    copied = Heatmap.open(small).write(tmp_path / "copy.tif")
    assert copied.path == tmp_path / "copy.tif"
    assert Heatmap.open(copied.path).fingerprint == own == copied.fingerprint
    write_noise(tmp_path / "other.tif", grid(height=40, width=48), ["a", "c"])
    assert Heatmap.open(tmp_path / "other.tif").fingerprint != own


def test_what_was_not_written_is_not_valid(tmp_path: Path) -> None:
    with create_heatmap(tmp_path / "h.tif", grid(), ["a"]) as file:
        ones, seen = np.full((2, 50, 50), 1.7), np.ones((50, 50), bool)
        file.write(HeatmapPart(ones, seen, Window(-20, 680, 50, 50)))  # beyond two edges
        file.write(HeatmapPart(np.zeros((2, 9, 9)), np.ones((9, 9), bool), Window(2000, 0, 9, 9)))  # beyond all
    extent, interior, valid = Heatmap.open(tmp_path / "h.tif").read(Window(0, 0, 900, 700), "a")
    assert valid.sum() == 30 * 20
    assert valid[680:, :30].all()
    assert (extent[valid] == 1).all()
    assert (interior[valid] == 1).all()


def test_a_part_of_other_bands_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    part = HeatmapPart(np.zeros((2, 8, 8)), np.ones((8, 8), bool), Window(0, 0, 8, 8))

    def write() -> None:
        with create_heatmap(tmp_path / "h.tif", grid(), ["a", "b"]) as file:
            file.write(part)

    with pytest.raises(ValueError, match="2 bands, the heatmap has 4"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_heatmap_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    for name, said in (("h.png", r"\.tif"), ("none/h.tif", "folder")):
        with pytest.raises(OutputError, match=said), create_heatmap(tmp_path / name, grid(), ["a"]):
            raise AssertionError("the work has begun")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("profile", [{"dtype": "float32"}, {"dtype": "uint8"}, {"dtype": "uint8", "nodata": 255}])
def test_other_rasters_are_no_heatmap(profile: dict[str, Any], count: int, tmp_path: Path) -> None:
    made = {"driver": "GTiff", "width": 8, "height": 8, "count": count, "crs": UTM, "transform": ORIGIN}
    with rasterio.open(tmp_path / "a.tif", "w", **made, **profile):
        pass
    with pytest.raises(SourceError, match="is no heatmap"):
        Heatmap.open(tmp_path / "a.tif")
    with pytest.raises(SourceError, match="cannot be opened"):
        Heatmap.open(tmp_path / "missing.tif")


# --- a part of one ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("values", "valid"), [((2, 8, 9), (8, 8)), ((2, 8, 8), (1, 8, 8)), ((2, 8, 8), (9, 8))])
def test_the_window_must_fit_the_values(values: tuple[int, ...], valid: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"the window is \(8, 8\)"):
        HeatmapPart(np.zeros(values), np.ones(valid, bool), Window(0, 0, 8, 8))


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), classes=st.integers(1, 3), seed=st.integers(0, 99))
def test_a_part_is_a_file(
    height: int, width: int, classes: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.random((2 * classes, height, width), np.float32)
    valid = rng.random((height, width)) < 0.8
    values[:, ~valid] = np.nan
    part = HeatmapPart(values, valid, Window(-3, 7, width, height))
    path = tmp_path_factory.mktemp("part") / "part.npz"
    part.write(path)
    back = HeatmapPart.read(path)
    assert back.window == part.window
    np.testing.assert_array_equal(back.valid, valid)
    assert back.values.dtype == np.float32
    assert np.abs(back.values - values)[:, valid].max(initial=0) <= HALF_STEP
    back.write(path)  # steps of a step are the same steps
    np.testing.assert_array_equal(HeatmapPart.read(path).values, back.values)
    assert [file.name for file in path.parent.iterdir()] == ["part.npz"]


def test_a_part_from_a_file_makes_the_same_heatmap(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    geobox = grid(height=30, width=20)
    part = HeatmapPart(rng.random((2, 30, 20), np.float32), rng.random((30, 20)) < 0.9, whole(geobox))
    part.write(tmp_path / "part.npz")
    for name, written in (("one.tif", part), ("two.tif", HeatmapPart.read(tmp_path / "part.npz"))):
        with create_heatmap(tmp_path / name, geobox, ["a"]) as file:
            file.write(written)
    with rasterio.open(tmp_path / "one.tif") as one, rasterio.open(tmp_path / "two.tif") as two:
        np.testing.assert_array_equal(one.read(), two.read())

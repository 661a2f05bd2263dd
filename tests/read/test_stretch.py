"""One stretch a scene: robust, deterministic, and none at all for 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio.windows import Window

from hybridseg.read.stretch import BLOCKS, Stretch, estimate, sample
from tests.rasters import default_image, utm_affine, write

ALL = np.ones((20, 50), np.bool_)


def ramp(dtype: str, scale: float = 1.0) -> npt.NDArray[Any]:
    """(3, 20, 50): 0..999 in the first channel, twice and thrice that in the others."""
    values = np.arange(1000).reshape(20, 50) * scale
    return np.stack([values, 2 * values, 3 * values]).astype(dtype)


@given(hnp.arrays(np.uint8, (3, 4, 5)), hnp.arrays(np.bool_, (4, 5)))
def test_8_bit_pixels_are_left_as_they_are(bands: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_]) -> None:
    stretch = estimate(bands, valid, np.uint8)
    assert stretch.identity
    out = stretch.apply(bands, valid)
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out[:, valid], bands[:, valid])
    assert not out[:, ~valid].any()


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "float64"])
def test_percentiles_channel_by_channel(dtype: str) -> None:
    stretch = estimate(ramp(dtype), ALL, dtype)
    np.testing.assert_allclose(stretch.low, (19.98, 39.96, 59.94))
    np.testing.assert_allclose(stretch.high, (979.02, 1958.04, 2937.06))
    out = stretch.apply(ramp(dtype), ALL)
    assert (out.min(), out.max()) == (0, 255)
    np.testing.assert_array_equal(out[0], out[2])  # each channel has its own scale
    assert (np.diff(out[0].ravel().astype(int)) >= 0).all()


def test_what_is_not_valid_or_not_finite_has_no_say() -> None:
    bands, valid = ramp("float32"), ALL.copy()
    clean = estimate(bands, valid, "float32")
    dirty = np.concatenate([bands, np.zeros((3, 3, 50), np.float32)], axis=1)
    dirty[:, 20], dirty[:, 21], dirty[:, 22] = np.nan, np.inf, -1e30
    flags = np.concatenate([valid, np.ones((2, 50), np.bool_), np.zeros((1, 50), np.bool_)])
    assert estimate(dirty, flags, "float32") == clean
    out = clean.apply(dirty, flags)
    np.testing.assert_array_equal(out[:, :20], clean.apply(bands, valid))
    assert not out[:, 22].any()


@pytest.mark.parametrize("value", [0, 7, 60_000])
def test_a_constant_channel_does_not_divide_by_zero(value: int) -> None:
    bands = ramp("uint16")
    bands[1] = value
    stretch = estimate(bands, ALL, "uint16")
    assert not stretch.apply(bands, ALL)[1].any()
    bands[1, 0, 0] = value + 1
    assert stretch.apply(bands, ALL)[1, 0, 0] == 255


def test_no_valid_sample_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs valid samples"):
        estimate(ramp("uint16"), ~ALL, "uint16")


@given(st.permutations(range(1000)))
def test_the_order_of_samples_does_not_matter(order: list[int]) -> None:
    bands = ramp("uint16")
    shuffled = bands.reshape(3, -1)[:, order].reshape(bands.shape)
    assert estimate(shuffled, ALL, "uint16") == estimate(bands, ALL, "uint16")


def test_the_stretch_is_a_value() -> None:
    assert Stretch((0, 0, 0), (1, 1, 1)) == Stretch((0, 0, 0), (1, 1, 1))
    assert len({Stretch((0, 0, 0), (1, 1, 1)), Stretch((0, 0, 0), (1, 1, 1))}) == 1


class Counting:
    """A dataset that counts the pixels read from it."""

    def __init__(self, dataset: Any) -> None:
        self.dataset, self.pixels, self.reads = dataset, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)

    def read(self, *args: Any, **kwargs: Any) -> Any:
        out = self.dataset.read(*args, **kwargs)
        self.pixels, self.reads = self.pixels + out[0].size, self.reads + 1
        return out


def sparse(path: Path, side: int, **profile: Any) -> Path:
    """A large raster of one band that takes no room."""
    settings = {"driver": "GTiff", "dtype": "uint16", "count": 1, "crs": "EPSG:32633", "sparse_ok": True} | profile
    with rasterio.open(path, "w", width=side, height=side, transform=utm_affine(0.1), **settings):
        pass
    return path


def test_a_small_raster_is_decimated_to_an_overview(tmp_path: Path) -> None:
    image = default_image(300, 2100)
    with rasterio.open(write(tmp_path / "a.tif", image, utm_affine(0.3))) as dataset:
        pixels, valid = sample(dataset, (1, 2, 3))
    assert pixels.shape == (3, 146, 1024)
    assert valid.shape == (146, 1024)
    assert valid.all()


@pytest.mark.parametrize("profile", [{"tiled": True, "blockxsize": 256, "blockysize": 256}, {"blockysize": 1}, {}])
def test_of_a_huge_raster_a_few_blocks_are_read(tmp_path: Path, profile: dict[str, Any]) -> None:
    with rasterio.open(sparse(tmp_path / "a.tif", 50_000, **profile)) as dataset:
        counting = Counting(dataset)
        _, valid = sample(counting, (1,))  # type: ignore[arg-type]
    assert valid.all()
    assert counting.reads == BLOCKS
    assert counting.pixels <= BLOCKS * 512**2


def test_a_huge_raster_is_searched_for_its_only_valid_block(tmp_path: Path) -> None:
    path = sparse(tmp_path / "a.tif", 8_000, nodata=0, tiled=True, blockxsize=512, blockysize=512)
    with rasterio.open(path) as dataset:
        assert not sample(dataset, (1,))[1].any()
    with rasterio.open(path, "r+") as dataset:
        dataset.write(np.full((1, 10, 10), 9, np.uint16), window=Window(5_000, 3_000, 10, 10))
    with rasterio.open(path) as dataset:
        pixels, valid = sample(dataset, (1,))
    assert pixels[:, valid].tolist() == [[9] * 100]

from __future__ import annotations

import ctypes
import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from hybridseg.read.opening import open_scene
from hybridseg.read.scene import Scene
from hybridseg.run import progress
from tests.rasters import default_image, make, utm_affine, write

SHARED = Path(os.environ.get("HYBRIDSEG_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
"""Labelled imagery, which not everybody has: `tests/data` stands in for it."""


_CONVERTED = tempfile.TemporaryDirectory(prefix="hybridseg-")
os.environ.setdefault("HYBRIDSEG_CACHE", _CONVERTED.name)  # the user's own cache is no place for tests


@pytest.fixture(scope="session")
def shared() -> Path:
    """The labelled imagery beside the project."""
    if not (SHARED / "tiles.csv").exists():
        pytest.skip(f"there is no labelled imagery at {SHARED}; HYBRIDSEG_TEST_DATA may name another folder")
    return SHARED


def blocks_image(side: int = 256) -> np.ndarray:
    """(3, H, W): dark ground with bright rectangles, two of them touching but for a dim line."""
    image = np.full((3, side, side), 40, np.uint8)
    for y, x, h, w in BLOCKS:
        image[:, y : y + h, x : x + w] = 220
    return image


BLOCKS = [(30, 30, 40, 60), (30, 120, 50, 40), (120, 40, 30, 30), (120, 78, 30, 40), (180, 150, 60, 80)]
"""Row, column, height, width (px)."""


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    """A GeoTIFF of bright blocks at 0.3 m."""
    return make("utm", tmp_path, blocks_image(), 0.3)


def geobox(side: int = 64, pixel: float = 0.5, x: float = 500_000, y: float = 3_000_000) -> GeoBox:
    return GeoBox((side, side), Affine(pixel, 0, x, 0, -pixel, y), "EPSG:32645")


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A scene of 128 x 96 pixels of 1 m, for labels drawn by `tests.labels.drawn`."""
    return open_scene(write(tmp_path / "a.tif", default_image(), utm_affine(1.0), photometric="rgb"))


@pytest.fixture(autouse=True)
def _no_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a test may take longer than the time between two lines of progress."""
    monkeypatch.setattr(progress, "EVERY_S", 1e6)


@pytest.fixture(scope="module", autouse=True)
def _memory_goes_with_its_tests() -> Iterator[None]:
    """Close the networks that a file of tests has opened, and give the system what is free.

    An official refiner that has encoded keeps 600 MB, and glibc keeps what a network has let go of.
    """
    yield
    for name in ("hybridseg.nn.classify.classifier", "hybridseg.nn.sam2.official"):
        opened = getattr(sys.modules.get(name), "_open", None)
        if opened is not None and opened.cache_info().currsize:
            opened.cache_clear()
            gc.collect()
    with suppress(OSError, AttributeError):  # there is no glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)

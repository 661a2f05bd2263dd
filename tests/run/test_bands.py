"""A network that looks at bands of its own: the first sweep sees them as they are stored, the second sees RGB."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from hybridseg.errors import BandsMissing
from hybridseg.read.opening import open_scene
from hybridseg.types import Chip, NetworkSpec, Window
from tests.conftest import BLOCKS, blocks_image
from tests.doubles import Bright, Threshold, survey
from tests.rasters import utm_affine, write


@dataclass(frozen=True)
class Deep(Bright):
    """Bright, on bands 5 and 1 of reflectance x 10000."""

    spec: NetworkSpec = replace(Bright.spec, gsd_m=0.3, source_bands=(5, 1), scaling="reflectance x 10000")
    seen: list[np.ndarray] = field(default_factory=list)

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        self.seen.append(pixels)
        return super().predict(pixels[:1] / 40)


@dataclass(frozen=True)
class Watching(Threshold):
    seen: list[np.ndarray] = field(default_factory=list)

    def encode(self, chip: Chip) -> np.ndarray:
        self.seen.append(chip.pixels)
        return super().encode(chip)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Blocks in all bands; band 5 is 40 times their 8 bits, band 1 is dark, a corner of all has no data."""
    image = blocks_image()
    bands = np.stack([image[0] * 0 + 7, *image[:3], image[0].astype(np.uint16) * 40]).astype(np.uint16)
    bands[:, 200:, :60] = 0
    return write(tmp_path / "five.tif", bands, utm_affine(0.3), nodata=0)


def test_the_first_sweep_sees_stored_bands_and_the_second_rgb(scene: Path):
    network, refiner = Deep(), Watching()
    one = survey(open_scene(scene, bands=(2, 3, 4)), network=network, refiner=refiner)
    refined = one.refine(one.prompts())
    assert refined.sweep.failures == ()
    assert refined.masked.sum() == len(refined) == len(BLOCKS)
    assert {(p.dtype.name, len(p)) for p in network.seen} == {("float32", 2)}
    assert max(p[0].max() for p in network.seen) == 220 * 40
    assert max(p[1].max() for p in network.seen) == 7
    assert {(p.dtype.name, len(p)) for p in refiner.seen} == {("uint8", 3)}


def test_the_heatmap_is_one_surface_for_any_tiling_and_empty_without_data(scene: Path):
    source, found = open_scene(scene, bands=(2, 3, 4)), []
    fine = Deep(spec=replace(Deep.spec, gsd_m=0.21))
    for core_px, offset_px in ((1024, 0), (96, 32)):
        heatmap = survey(source, network=fine, core_px=core_px, offset_px=offset_px).heatmap()
        found.append(heatmap.read(Window(0, 0, heatmap.geobox.width, heatmap.geobox.height), "building"))
    np.testing.assert_array_equal(found[0][2], found[1][2])
    for part in (0, 1):
        # one step of what is stored
        np.testing.assert_allclose(found[0][part], found[1][part], atol=1 / 250)
        assert not found[0][part][~found[0][2]].any()
    assert not found[0][2].all()


def test_a_raster_without_the_bands_is_refused_before_the_sweep(tmp_path: Path):
    image = blocks_image().astype(np.uint16) * 40
    scene = open_scene(write(tmp_path / "three.tif", image, utm_affine(0.3)))
    with pytest.raises(BandsMissing, match=r"bands 5,1 were asked for, but .*three.tif has bands 1 to 3"):
        survey(scene, network=Deep()).heatmap()

"""The same five blocks in every kind of raster: found, refined and in their place, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import torch

from hybridseg.metrics.objects import match
from hybridseg.nn.classify.heads import Segmenter
from hybridseg.nn.sam2.lite import build_sam2_lite
from hybridseg.nn.weights import save_weights
from tests.commands import one_line
from tests.conftest import BLOCKS, blocks_image
from tests.doubles import survey
from tests.rasters import BAD, HOLE, HOLED, KINDS, make

SHOWN = [kind for kind in KINDS if kind != "paletted"]
"""The palette of `paletted` turns bright into red and dark into green: both are grey 128 to the doubles."""


def run(scene: Path, folder: Path) -> gpd.GeoDataFrame:
    result = survey(scene).run()
    assert not result.summary.failures
    return result.features


def truth(scene: Path) -> gpd.GeoDataFrame:
    """The blocks where the raster itself puts them."""
    with rasterio.open(scene) as file:
        affine, crs, height = file.transform, file.crs, file.height
    # the image lies in a south-up raster upside down, so that the ground is the same
    flipped = affine.determinant > 0
    polygons = []
    for y, x, h, w in BLOCKS:
        top = height - y - h if flipped else y
        corners = [(x, top), (x + w, top), (x + w, top + h), (x, top + h)]
        polygons.append(shapely.Polygon([affine @ corner for corner in corners]))
    return gpd.GeoDataFrame(geometry=polygons, crs=crs)


@pytest.mark.parametrize("kind", SHOWN)
def test_blocks_are_found_where_they_are(kind: str, tmp_path: Path):
    scene = make(kind, tmp_path, blocks_image(), 0.3)
    features, blocks = run(scene, tmp_path), truth(scene)
    assert features.crs == blocks.crs
    assert len(features) == len(BLOCKS)
    assert set(features["origin"]) == {"refined"}
    found = match(features.geometry, blocks.geometry, iou=0.8)
    assert len(found.ious) == len(BLOCKS)
    sizes = sorted(h * w * 0.3**2 for _, _, h, w in BLOCKS)
    np.testing.assert_allclose(sorted(features["area_m2"]), sizes, rtol=0.15)


@pytest.mark.parametrize("kind", HOLED)
def test_ground_without_data_holds_nothing(kind: str, tmp_path: Path):
    # a sixth block, half of which lies in the hole
    image = blocks_image()
    rows, cols = HOLE
    image[:, 4:14, cols.stop - 20 : cols.stop + 20] = 220
    scene = make(kind, tmp_path, image, 0.3)
    features = run(scene, tmp_path)
    with rasterio.open(scene) as file:
        at = [file.transform @ (col, row) for col, row in [(0, 0), (cols.stop, rows.stop)]]
    hole = shapely.box(at[0][0], at[1][1], at[1][0], at[0][1])
    assert len(features) == len(BLOCKS) + 1
    touched = features.geometry.intersection(hole).area.max()
    assert touched < 1.5 * 0.3 * rows.stop * 0.3, "more than the rim of a coarse pixel"


def test_the_ground_is_the_same_whichever_way_the_rows_run(tmp_path: Path):
    up, down = (run(make(kind, tmp_path, blocks_image(), 0.3), tmp_path) for kind in ("utm", "south_up"))
    assert up["id"].tolist() == down["id"].tolist()
    # not to the pixel: the refiner's windows are counted from the first row, wherever that lies
    assert (up.geometry.intersection(down.geometry).area / up.geometry.union(down.geometry).area).min() > 0.9


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_used_is_refused_in_one_line(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    scene = make(kind, tmp_path, blocks_image(), 0.3)
    said = one_line(["extract", str(scene), str(tmp_path / "out.gpkg")], tmp_path, capfd)
    assert scene.name in said


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    card = {"classes": ["building"], "gsd_m": 0.25, "gsd_range_m": [0.05, 0.6]}
    save_weights(Segmenter(classes=1), folder / "buildings-lite0", card)
    save_weights(build_sam2_lite(), folder / "sam2-lite", {"kind": "refiner"})
    return folder


@pytest.mark.parametrize("kind", ["rgb", "epsg4326", "web_mercator"])
def test_what_is_too_coarse_is_refused_in_one_line(
    kind: str, models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HYBRIDSEG_MODELS", str(models))
    scene = make(kind, tmp_path, gsd_m=5)
    said = one_line(["extract", str(scene), str(tmp_path / "out.gpkg"), "--device", "cpu"], tmp_path, capfd)
    assert "5 m" in said
    assert "0.6 m" in said

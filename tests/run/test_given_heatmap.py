"""The second sweep behind a heatmap that came as a file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from geopandas.testing import assert_geodataframe_equal
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import calculate_default_transform

from hybridseg.errors import HybridsegError
from hybridseg.read.given import open_heatmap
from hybridseg.read.opening import open_scene
from hybridseg.run.extract import extract
from hybridseg.run.store import Memory
from tests.conftest import BLOCKS, blocks_image
from tests.rasters import utm_affine, write

GSD_M = 0.3


@pytest.fixture
def probabilities() -> np.ndarray:
    """(1, H, W): 0.9 in the blocks, 0.1 elsewhere."""
    return np.where(blocks_image()[:1] > 100, 0.9, 0.1).astype(np.float32)


def put(path: Path, bands: np.ndarray, names: tuple[str, ...] = (), affine: Affine | None = None, **how: Any) -> Path:
    write(path, bands, affine or utm_affine(GSD_M), **how)
    if names:
        with rasterio.open(path, "r+") as raster:
            raster.descriptions = names
    return path


@pytest.mark.parametrize("theme", ["buildings", "water"])
@pytest.mark.parametrize("extent", [None, "left"])
def test_our_own_heatmap_given_back_gives_equal_features(blocks: Path, tmp_path: Path, theme: str, extent: str | None):
    with rasterio.open(blocks) as raster:
        left, bottom, right, top = raster.bounds
    within = None if extent is None else (left, bottom, left + 0.6 * (right - left), top)
    given: dict[str, Any] = {"theme": theme, "extent": within}
    first = extract(blocks, **given, run=tmp_path / "work")
    (kept,) = (tmp_path / "work").glob("heatmap*.tif")
    again = extract(blocks, **given, heatmap=kept)
    assert_geodataframe_equal(first.features, again.features)
    assert again.provenance["request"]["heatmap"]["sha256"]


@pytest.mark.parametrize("kind", ["float", "bytes", "scaled", "named", "coarser", "other CRS", "south-up", "two"])
def test_any_probabilities_become_polygons(blocks: Path, tmp_path: Path, probabilities: np.ndarray, kind: str):
    path = tmp_path / "p.tif"
    match kind:
        case "float":
            put(path, np.where(probabilities > 2, np.nan, probabilities), nodata=np.nan)
        case "bytes":
            put(path, (probabilities * 255).astype(np.uint8))
        case "scaled":
            put(path, (probabilities * 10000).astype(np.uint16))
            with rasterio.open(path, "r+") as raster:
                raster.scales = (1e-4,)
        case "named":
            put(path, np.concatenate([1 - probabilities, probabilities]), ("ground", "Building"))
        case "coarser":
            put(
                path,
                probabilities[:, ::3, ::3],
                affine=utm_affine(GSD_M) @ Affine.scale(256 / 86) @ Affine.translation(0.2, 0.1),
            )
        case "other CRS":
            put(tmp_path / "utm.tif", probabilities)
            with rasterio.open(tmp_path / "utm.tif") as source:
                affine, w, h = calculate_default_transform(
                    source.crs, "EPSG:4326", source.width, source.height, *source.bounds
                )
                with WarpedVRT(
                    source, crs="EPSG:4326", transform=affine, width=w, height=h, resampling=Resampling.bilinear
                ) as vrt:
                    rasterio.shutil.copy(vrt, path, driver="GTiff")
        case "south-up":
            affine = utm_affine(GSD_M) @ Affine.translation(0, 256) @ Affine.scale(1, -1)
            put(path, probabilities[:, ::-1], affine=affine)
        case "two":
            put(path, np.concatenate([probabilities, probabilities]), ("building:extent", "building:interior"))
    found = extract(blocks, theme="buildings", heatmap=path, refiner="none")
    drawn = [(y, x, h, w) for y, x, h, w in BLOCKS]
    assert len(found.features) == len(drawn) if kind != "coarser" else 4 <= len(found.features) <= 5
    areas = sorted(found.features["area_m2"])
    if kind not in ("coarser", "other CRS"):
        np.testing.assert_allclose(areas, sorted(h * w * GSD_M**2 for _, _, h, w in drawn), rtol=0.02)


def test_it_goes_to_other_processes_without_what_keeps_its_file(
    blocks: Path, tmp_path: Path, probabilities: np.ndarray
):
    owner = Memory()
    owner.save("any", probabilities)
    given = open_heatmap(put(tmp_path / "p.tif", probabilities), open_scene(blocks).crs, {"building": ()}, owner)
    again = pickle.loads(pickle.dumps(given))
    assert again.owner is None
    assert (again.sha256, again.spec) == (given.sha256, given.spec)
    np.testing.assert_array_equal(again.predict(probabilities), given.predict(probabilities))


def test_what_is_no_heatmap_is_refused_in_one_line(blocks: Path, tmp_path: Path, probabilities: np.ndarray):
    p, far = probabilities, Affine.translation(90_000, 0) @ utm_affine(GSD_M)
    text = tmp_path / "text.tif"
    text.write_text("no raster")
    wrong = {
        "values from -9 to 9": put(tmp_path / "logits.tif", np.where(p > 0.5, 9, -9).astype(np.float32)),
        "bytes of 0 and 1": put(tmp_path / "mask.tif", (p > 0.5).astype(np.uint8)),
        "uint16 without a scale": put(tmp_path / "wide.tif", (p * 1000).astype(np.uint16)),
        "no band called building": put(tmp_path / "two.tif", np.concatenate([p, p])),
        "among its 1 \\(road:extent\\)": put(tmp_path / "road.tif", p, ("road:extent",)),
        "lies beside the imagery": put(tmp_path / "far.tif", p, affine=far),
        "not a raster": text,
        "does not exist": tmp_path / "missing.tif",
    }
    for words, path in wrong.items():
        with pytest.raises(HybridsegError, match=words) as caught:
            extract(blocks, tmp_path / "map.gpkg", theme="buildings", heatmap=path)
        assert "\n" not in str(caught.value)
    with pytest.raises(HybridsegError, match="no band called building among its 1"):
        extract(blocks, theme="buildings,roads", heatmap=put(tmp_path / "one.tif", p))
    with pytest.raises(HybridsegError, match="give one of them"):
        extract(blocks, theme="buildings", heatmap=tmp_path / "one.tif", from_prompts="x.parquet")
    assert not (tmp_path / "map.gpkg").exists()


def test_a_heatmap_is_not_written_over(blocks: Path, tmp_path: Path, probabilities: np.ndarray):
    heatmap = put(tmp_path / "p.tif", probabilities)
    (tmp_path / "link.tif").symlink_to(heatmap)
    before = heatmap.read_bytes()
    for out in ("p.tif", "link.tif", "P.TIF"):
        with pytest.raises(HybridsegError, match="is one of the inputs"):
            extract(blocks, tmp_path / out, theme="buildings", heatmap=heatmap)
    assert heatmap.read_bytes() == before

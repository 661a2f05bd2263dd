"""The rendered town: what the truth says is what was painted."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.features import rasterize

from hybridseg.demo import Town, render_town
from hybridseg.demo.town import _render
from hybridseg.errors import OutputError

CASES = [(0, 0.2), (1, 0.6), (2, 1.0)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"density{case[1]}")
def scene(request: pytest.FixtureRequest) -> tuple[Town, np.ndarray]:
    seed, density = request.param
    return _render((200, 256), 0.3, seed, density)


def test_shapes_types_and_grid(scene: tuple[Town, np.ndarray]) -> None:
    town, _ = scene
    assert town.image.shape == (3, 200, 256)
    assert town.image.dtype == np.uint8
    assert tuple(town.geobox.shape) == (200, 256)
    assert town.geobox.crs.to_epsg() == 32645
    assert town.geobox.transform.c == int(town.geobox.transform.c)
    assert town.geobox.transform.f == int(town.geobox.transform.f)
    assert town.geobox.transform.e == -town.geobox.transform.a == -0.3
    assert list(town.buildings.columns) == ["kind", "height_m", "geometry"]
    assert len(town.buildings) > 0
    assert town.buildings.height_m.between(1.5, 20).all()


def test_truth_is_what_was_painted(scene: tuple[Town, np.ndarray]) -> None:
    town, painted = scene
    fine = town.geobox.transform @ Affine.scale(0.5)
    truth = rasterize(list(town.buildings.geometry), out_shape=(400, 512), transform=fine)
    truth = truth.reshape(200, 2, 256, 2).mean(axis=(1, 3))
    np.testing.assert_array_equal(truth, painted)
    mask = town.instances() > 0
    assert (mask & (painted > 0)).sum() / mask.sum() > 0.99
    assert abs(mask.sum() - painted.sum()) / mask.sum() < 0.03


def test_truth_is_disjoint_and_inside(scene: tuple[Town, np.ndarray]) -> None:
    town, _ = scene
    roofs = town.buildings.geometry
    assert (roofs.geom_type == "Polygon").all()
    assert roofs.is_valid.all()
    assert roofs.area.sum() - shapely.union_all(roofs.array).area < 1e-4
    assert town.geobox.extent.geom.buffer(1e-6).covers(shapely.union_all(roofs.array))


def test_instances_number_the_rows(scene: tuple[Town, np.ndarray]) -> None:
    town, _ = scene
    instances = town.instances()
    assert instances.dtype == np.int32
    area = np.bincount(instances.ravel(), minlength=len(town.buildings) + 1)[1:] * 0.3**2
    assert (area > 0).all()
    np.testing.assert_allclose(area, town.buildings.area, rtol=0.25, atol=0.6)


def test_every_roof_can_be_seen_on_a_picture_that_is_no_cartoon(scene: tuple[Town, np.ndarray]) -> None:
    town, _ = scene
    assert 60 < town.image.mean() < 200
    assert town.image.std() > 15
    assert len(np.unique(town.image.reshape(3, -1), axis=1).T) > 5000


def test_the_seed_draws_everything() -> None:
    one, same, other = render_town(128, seed=5), render_town(128, seed=5), render_town(128, seed=6)
    np.testing.assert_array_equal(one.image, same.image)
    assert one.buildings.geometry.geom_equals(same.buildings.geometry).all()
    assert one.geobox == same.geobox
    assert not np.array_equal(one.image, other.image)
    assert one.geobox != other.geobox


def test_density_builds_more() -> None:
    share = [(render_town(256, seed=3, density=density).instances() > 0).mean() for density in (0.0, 0.5, 1.0)]
    assert share[0] < share[1] < share[2]


@pytest.mark.parametrize(("size", "gsd"), [(40, 0.3), ((33, 71), 0.5), (96, 0.1), (64, 1.0)])
def test_any_size_and_gsd(size: int | tuple[int, int], gsd: float) -> None:
    town = render_town(size, gsd, seed=1)
    assert town.image.shape[1:] == town.instances().shape == ((size, size) if isinstance(size, int) else size)


def test_write_and_read_back(tmp_path: Path) -> None:
    town = render_town(128, seed=1, density=0.7)
    tif, gpkg = town.write(tmp_path / "new")
    with rasterio.open(tif) as source:
        np.testing.assert_array_equal(source.read(), town.image)
        assert source.crs.to_epsg() == 32645
        assert source.transform == town.geobox.transform
        assert source.profile["tiled"]
        assert source.compression.name == "deflate"
    read = gpd.read_file(gpkg)
    assert read.crs.to_epsg() == 32645
    assert read.geometry.geom_equals_exact(town.buildings.geometry, 1e-6).all()
    assert list(read.kind) == list(town.buildings.kind)
    town.write(tmp_path / "new")  # again, over the first
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["town.tif", "town_truth.gpkg"]


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="name a folder"):
        render_town(32, seed=1).write(tmp_path / "file")


@pytest.mark.parametrize("wrong", [{"size_px": 0}, {"gsd_m": 0.0}, {"density": 1.5}])
def test_wrong_arguments_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need size_px"):
        render_town(**{"size_px": 32, **wrong})

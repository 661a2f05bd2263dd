"""Rendered towns: repeatable, and with a truth that matches the picture."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from PIL import Image
from rasterio.features import rasterize
from scipy import ndimage

from townscape import Town, render_town
from townscape.layout import plan_town
from townscape.paint import paint
from townscape.plan import STYLES
from townscape.roofs import ROOFS

SHAPE, GSD = (200, 256), 0.3
CASES = [(0, 0.2), (1, 0.6), (2, 1.0)]
EXPECTED = Path(__file__).parent / "expected"


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"density{case[1]}")
def town(request: pytest.FixtureRequest) -> Town:
    seed, density = request.param
    return render_town(SHAPE, GSD, seed, density)


@pytest.mark.parametrize(
    ("seed", "corner", "area_m2"),
    [
        (0, (370_329, 3_046_828), [335.64, 6]),
        (7, (356_837, 3_056_789), [29.98, 1]),
        (1003, (360_334, 3_068_428), [152.76, 3]),
    ],
)
def test_a_seed_gives_the_same_town_in_every_version(seed: int, corner: tuple[int, int], area_m2: list[float]) -> None:
    """Networks are trained on these towns; the stored pictures were rendered before townscape was a package."""
    town = render_town((96, 128), 0.3, seed)
    stored = np.moveaxis(np.asarray(Image.open(EXPECTED / f"seed{seed}.png")), 2, 0).astype(int)
    apart = np.abs(town.image - stored)
    assert apart.mean() < 0.5  # other versions of numpy, scipy and libjpeg may round otherwise
    assert (apart > 4).mean() < 0.01
    assert (town.geobox.affine.c, town.geobox.affine.f) == corner
    assert [round(float(town.buildings.area.sum()), 2), len(town.buildings)] == area_m2


def test_shapes_types_and_grid(town: Town) -> None:
    assert town.image.shape == (3, *SHAPE)
    assert town.image.dtype == np.uint8
    assert tuple(town.geobox.shape) == SHAPE
    assert town.geobox.crs.to_epsg() == 32645
    assert town.geobox.transform.e == -town.geobox.transform.a == -GSD
    assert list(town.buildings.columns) == ["kind", "height_m", "geometry"]
    assert town.buildings.height_m.between(1.5, 20).all()


def test_density_sets_the_number_of_houses() -> None:
    few, some, many = (len(render_town(SHAPE, GSD, seed, density).buildings) for seed, density in CASES)
    assert 5 < few < some / 2
    assert some < many < 200


def test_truth_is_what_was_painted(town: Town, request: pytest.FixtureRequest) -> None:
    seed, density = request.node.callspec.params["town"]
    rng = np.random.default_rng(seed)
    rng.uniform()  # the density that render_town draws
    plan = plan_town(SHAPE, GSD, density, rng)
    image, painted = paint(plan, rng)
    np.testing.assert_array_equal(image, town.image)
    fine = town.geobox.transform @ Affine.scale(0.5)
    truth = rasterize(list(town.buildings.geometry), out_shape=(2 * SHAPE[0], 2 * SHAPE[1]), transform=fine)
    np.testing.assert_array_equal(truth.reshape(SHAPE[0], 2, SHAPE[1], 2).mean(axis=(1, 3)), painted)


def test_outlines_lie_on_edges_of_the_picture(town: Town) -> None:
    slope = ndimage.gaussian_gradient_magnitude(town.image.mean(axis=0).astype(np.float32), 1)
    lines = shapely.union_all(town.buildings.boundary.array)

    def steepness(east_m: float, north_m: float) -> float:
        moved = shapely.transform(lines, lambda xy: xy + np.array([east_m, north_m]))
        return slope[rasterize([moved], out_shape=SHAPE, transform=town.geobox.transform) > 0].mean()

    moves = [(2, 0), (-2, 0), (0, 2), (0, -2)]
    assert all(steepness(0, 0) > 1.25 * steepness(*move) for move in moves)


def test_truth_is_disjoint_and_inside(town: Town) -> None:
    roofs = town.buildings.geometry
    assert (roofs.geom_type == "Polygon").all()
    assert roofs.is_valid.all()
    assert roofs.area.sum() - shapely.union_all(roofs.array).area < 1e-4
    assert town.geobox.extent.geom.buffer(1e-6).covers(shapely.union_all(roofs.array))


def test_instances_number_the_rows(town: Town) -> None:
    instances = town.instances()
    assert instances.dtype == np.int32
    area = np.bincount(instances.ravel(), minlength=len(town.buildings) + 1)[1:] * GSD**2
    assert (area > 0).all()
    np.testing.assert_allclose(area, town.buildings.area, rtol=0.25, atol=0.6)


def test_the_picture_is_bright_varied_and_full_of_colours(town: Town) -> None:
    assert 60 < town.image.mean() < 200
    assert town.image.std() > 15
    assert len(np.unique(town.image.reshape(3, -1), axis=1).T) > 5000


def test_every_style_names_materials_that_can_be_painted() -> None:
    assert {material for style in STYLES for material in style.roofs} <= ROOFS.keys()


def test_the_seed_chooses_everything() -> None:
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
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["town.tif", "town_roads.gpkg", "town_truth.gpkg"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="file"):
        render_town(32, seed=1).write(tmp_path / "file")


@pytest.mark.parametrize("wrong", [{"size_px": 0}, {"gsd_m": 0.0}, {"density": 1.5}])
def test_wrong_arguments_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need size_px"):
        render_town(**{"size_px": 32, **wrong})


def test_roads_meet_and_stay_inside(town: Town) -> None:
    frame, lines = shapely.box(*town.geobox.boundingbox), town.roads.geometry.to_numpy()
    assert shapely.covers(frame.buffer(1e-6), lines).all()
    assert (town.roads["width_m"] > 1).all()
    network = shapely.get_parts(shapely.line_merge(shapely.union_all(lines, grid_size=0.01)))
    ends = shapely.get_point(network, 0), shapely.get_point(network, -1)
    places, count = np.unique(shapely.get_coordinates(np.concatenate(ends)).round(2), axis=0, return_counts=True)
    loose = shapely.points(places[count == 1])
    assert shapely.distance(loose, frame.exterior).max(initial=0) < 0.1  # a street ends at another, or at the border

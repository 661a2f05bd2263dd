import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from pydantic import TypeAdapter, ValidationError
from rasterio.features import rasterize, shapes
from shapely.affinity import rotate, translate

from hybridseg.shape import AsTraced, Buildings, Coverage, Lines, Rows, Shape, Smooth
from tests.outlines import iou

STAGES = [Buildings, Rows, Coverage, Lines, Smooth, AsTraced]
ANY = TypeAdapter(Shape)


def numbers(stage: type) -> list[str]:
    return [name for name, field in stage.model_fields.items() if field.annotation in (int, float)]


SETTINGS = [(stage, name) for stage in STAGES for name in numbers(stage)]


@pytest.mark.parametrize("stage", STAGES)
def test_the_kind_chooses_the_stage_and_it_comes_back_from_its_own_settings(stage: type) -> None:
    kind = stage().kind
    assert ANY.validate_python({"kind": kind}) == stage()
    assert ANY.validate_python(stage().model_dump(mode="json")) == stage()


def test_an_unknown_kind_or_setting_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="'buildings', 'rows', 'coverage', 'lines', 'smooth', 'none'"):
        ANY.validate_python({"kind": "roads"})
    with pytest.raises(ValidationError, match="min_agreement"):
        ANY.validate_python({"kind": "rows", "min_agreement": 0.9})


@pytest.mark.parametrize(("stage", "name"), SETTINGS)
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_numbers_are_finite_and_within_bounds(stage: type, name: str, value: float) -> None:
    with pytest.raises(ValidationError, match=name):
        stage(**{name: value})


@pytest.mark.parametrize("stage", STAGES)
def test_every_setting_says_what_it_does(stage: type) -> None:
    assert all(field.description for name, field in stage.model_fields.items() if name != "kind")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_frozen_and_hashable(stage: type) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        stage().kind = "other"
    assert hash(stage()) == hash(stage())


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_gives_nothing(stage: type) -> None:
    none = gpd.GeoDataFrame({"id": [], "class": [], "score": []}, geometry=[], crs=32636)
    shaped = stage().shape(none, 0.3)
    assert len(shaped) == 0
    assert list(shaped.columns) == list(none.columns)
    assert shaped.crs == none.crs


def traced(polygon: shapely.Geometry, pixel_m: float) -> shapely.Geometry:
    """The outline of the polygon's pixels."""
    left, bottom, right, top = np.floor(np.array(polygon.bounds) / pixel_m) + np.array([-1, -1, 1, 1])
    grid = Affine(pixel_m, 0, left * pixel_m, 0, -pixel_m, top * pixel_m)
    mask = rasterize([polygon], (int(top - bottom), int(right - left)), transform=grid, dtype="uint8")
    return next(shapely.geometry.shape(outline) for outline, _ in shapes(mask, mask > 0, 4, grid))


@pytest.mark.parametrize("stage", [Smooth, Coverage, Lines])
def test_coarse_outlines_lose_the_steps_of_their_own_pixels(stage: type) -> None:
    pond = shapely.Point(40, 40).buffer(30)
    ragged = traced(pond - shapely.Point(40, 40).buffer(8), pixel_m=4.0)
    features = gpd.GeoDataFrame(
        {"id": ["a"], "class": "water", "score": 1.0, "origin": "coarse"}, geometry=[ragged], crs=32636
    )
    (fine,) = stage().shape(features, 1.0).geometry
    (coarse,) = stage().shape(features, 1.0, coarse_m=4.0).geometry
    assert shapely.get_num_coordinates(coarse) < 0.5 * shapely.get_num_coordinates(ragged)
    assert coarse.length < 0.9 * ragged.length  # a circle's steps add 4 / pi to its length
    assert coarse.length < fine.length
    assert len(coarse.interiors) == 1
    assert coarse.area == pytest.approx(ragged.area, rel=0.03)
    (refined,) = stage().shape(features.assign(origin="refined"), 1.0, coarse_m=4.0).geometry
    assert refined.equals(fine)


def test_outlines_stay_as_they_were_traced() -> None:
    stairs = shapely.union_all([shapely.box(i, i, i + 2, i + 2) for i in range(9)])
    features = gpd.GeoDataFrame({"id": ["a"], "class": "road", "score": 1.0}, geometry=[stairs], crs=32636)
    assert shapely.equals_exact(AsTraced().shape(features, 1.0).geometry.to_numpy(), np.array([stairs])).all()


def test_the_reach_follows_the_settings() -> None:
    assert Rows(near_m=40).reach_m == 80
    assert Coverage(gap_m=12).reach_m == 12
    assert Lines(join_gap_m=25).reach_m == 25
    assert AsTraced().reach_m == 0
    assert Buildings().reach_m > 0


def test_smooth_outlines_lose_their_steps_and_keep_their_shared_border() -> None:
    truth = [rotate(shapely.box(x, 0, x + 20, 25), 17, origin=(0, 0)) for x in (0, 20)]
    grid = Affine(1, 0, -20, 0, -1, 60)
    labels = rasterize([(t, i + 1) for i, t in enumerate(truth)], (80, 90), transform=grid, dtype="uint8")
    raw = [
        shapely.geometry.shape(outline)
        for outline, _ in sorted(shapes(labels, labels > 0, 4, grid), key=lambda found: found[1])
    ]
    features = gpd.GeoDataFrame({"id": ["a", "b"]}, geometry=raw, crs=32636).translate(448_000, 39_000).to_frame()
    one, two = Smooth().shape(features, 1.0).geometry
    assert shapely.get_num_coordinates([one, two]).max() < 0.4 * shapely.get_num_coordinates(raw).min()
    assert one.boundary.intersection(two.boundary).length == pytest.approx(25, abs=2)
    assert one.intersection(two).area < 1e-3
    for before, after, true in zip(raw, (one, two), truth, strict=True):
        moved = translate(after, -448_000, -39_000)
        assert iou(moved, true) > iou(before, true)

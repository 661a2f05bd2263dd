import warnings

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize, shapes
from rasterio.transform import Affine
from scipy.spatial import cKDTree
from shapely.affinity import rotate, translate

from hybridseg.errors import NoGeoreference
from hybridseg.shape import Coverage
from hybridseg.shape.coverage import smooth_steps
from tests.outlines import iou

UTM = 32632
PLACE = (448_000.0, 5_539_000.0)


def layer(polygons: list[shapely.Geometry], classes: list[str] | None = None) -> gpd.GeoDataFrame:
    """Polygons given in metres from a place."""
    moved = [None if p is None else translate(p, *PLACE) for p in polygons]
    ids = [f"f{i}" for i in range(len(polygons))]
    return gpd.GeoDataFrame({"id": ids, "class": classes or "field", "score": 0.5}, geometry=moved, crs=UTM)


def local(features: gpd.GeoDataFrame) -> list[shapely.Geometry]:
    """Polygons of a layer in metres from the place, to a tenth of a millimetre."""
    return [translate(p, -PLACE[0], -PLACE[1]) for p in features.to_crs(UTM).geometry]


def traced(labels: np.ndarray) -> list[shapely.Geometry]:
    """Outlines of all pixels of each label, 1 m each."""
    found: dict[int, list[shapely.Geometry]] = {}
    for outline, label in shapes(labels.astype(np.int32), labels > 0, 4, Affine(1, 0, 0, 0, -1, len(labels))):
        found.setdefault(int(label), []).append(shapely.geometry.shape(outline))
    return [shapely.union_all(found[label]) for label in sorted(found)]


def patchwork(seed: int, gap_px: int, n: int = 12, side: int = 80) -> np.ndarray:
    """Labels of n fields around random points, with so many pixels of nothing between neighbours."""
    points = np.random.default_rng(seed).uniform(0, side, (n, 2))
    labels = 1 + cKDTree(points).query(np.stack(np.mgrid[:side, :side], axis=-1) + 0.5)[1]
    for axis in range(2):
        for _ in range(gap_px):
            here, there = np.moveaxis(labels, axis, 0)[:-1], np.moveaxis(labels, axis, 0)[1:]
            here[(here != there) & (there > 0)] = 0
    return labels


def shared_m(one: shapely.Geometry, two: shapely.Geometry) -> float:
    return one.boundary.intersection(two.boundary).length


@pytest.mark.parametrize("apart", [-2, -1, 0, 1, 2])
def test_neighbours_share_their_border(apart: int) -> None:
    features = layer([shapely.box(0, 0, 30, 20), shapely.box(30 + apart, 0, 70, 20)])
    cleaned = Coverage().shape(features, 1.0)
    one, two = cleaned.geometry
    assert shapely.coverage_is_valid([one, two])
    assert shared_m(one, two) == pytest.approx(20, abs=0.1)
    one, two = local(cleaned)
    assert one.union(two).area == pytest.approx(1400, abs=1)
    border = one.intersection(two).bounds
    assert min(30, 30 + apart) - 0.1 <= border[0] <= border[2] <= max(30, 30 + apart) + 0.1


def test_a_gap_of_two_pixels_is_shared_out() -> None:
    one, two = local(Coverage().shape(layer([shapely.box(0, 0, 30, 20), shapely.box(32, 0, 70, 20)]), 1.0))
    assert one.area > 610
    assert two.area > 770


@pytest.mark.parametrize("across", [False, True])
def test_a_road_stays(across: bool) -> None:
    fields = [shapely.box(0, 0, 30, 20), shapely.box(33, 0, 70, 20), shapely.box(0, 23, 70, 40)]
    if across:  # closed on both sides, so the road is a hole
        fields += [shapely.box(-10, 0, 0, 40), shapely.box(70, 0, 80, 40), shapely.box(-10, -10, 80, 0)]
    cleaned = local(Coverage().shape(layer(fields), 1.0))
    for before, after in zip(fields, cleaned, strict=True):
        assert iou(before, after) > 0.999
    wide = local(Coverage(gap_m=4.0).shape(layer(fields), 1.0))
    assert shapely.union_all(wide).area > shapely.union_all(fields).area + 3 * 20 + 3 * 60


def test_only_the_narrow_end_of_a_wedge_is_closed() -> None:
    below, above = shapely.Polygon([(0, 0), (100, 0), (100, -30), (0, -30)]), shapely.box(0, 0, 100, 60)
    above = above - shapely.Polygon([(0, 0), (100, 0), (100, 10)])
    cleaned = local(Coverage(gap_m=2.5, simplify_m=0).shape(layer([below, above])))
    gap = (shapely.Polygon([(0, 0), (100, 0), (100, 10)]) - shapely.union_all(cleaned)).buffer(-0.01)
    assert gap.bounds[0] == pytest.approx(25, abs=5)  # the wedge is 2.5 m high there
    assert shared_m(*cleaned) == pytest.approx(gap.bounds[0], abs=2)


def test_three_fields_meet_in_a_point() -> None:
    labels = np.zeros((60, 60), int)
    labels[:29, :29], labels[:29, 31:], labels[31:, :] = 1, 2, 3
    cleaned = local(Coverage().shape(layer(traced(labels)), 1.0))
    assert shapely.coverage_is_valid(cleaned, gap_width=2.5)
    ground = shapely.union_all(cleaned)
    assert ground.geom_type == "Polygon"
    assert len(ground.interiors) == 0
    assert ground.area == pytest.approx(3600, rel=0.002)


def test_holes_stay_and_cracks_go() -> None:
    pond, crack = shapely.box(10, 10, 18, 16), shapely.box(30, 5, 32, 30)
    (field,) = local(Coverage().shape(layer([shapely.box(0, 0, 50, 40) - pond - crack]), 1.0))
    assert len(field.interiors) == 1
    assert iou(shapely.Polygon(field.interiors[0]), pond) > 0.99


def test_what_lies_inside_is_cut_out() -> None:
    fields = [shapely.box(0, 0, 50, 40), shapely.box(10, 10, 30, 20)]
    around, inside = local(Coverage().shape(layer(fields), 1.0))
    assert iou(inside, fields[1]) > 0.999
    assert iou(around, fields[0] - fields[1]) > 0.999
    assert shapely.coverage_is_valid([around, inside])


def test_steps_go_and_the_truth_comes_nearer() -> None:
    truth = [rotate(shapely.box(20, y, 110, y + 25), 17, origin=(65, 65)) for y in (30, 55, 80)]
    grid = Affine(1, 0, 0, 0, -1, 130)
    raw = traced(rasterize([(t, i + 1) for i, t in enumerate(truth)], (130, 130), transform=grid))
    cleaned = local(Coverage().shape(layer(raw), 1.0))
    for before, after, true in zip(raw, cleaned, truth, strict=True):
        assert iou(after, true) > iou(before, true)
        assert len(after.exterior.coords) < 0.2 * len(before.exterior.coords)
        assert shapely.hausdorff_distance(after, true) < 2
    assert shared_m(cleaned[0], cleaned[1]) > 85


def test_long_edges_keep_their_corners() -> None:
    block = np.array([shapely.Polygon([(0, 0), (40, 0), (40, 20), (25, 20), (25, 12), (0, 12)])])
    assert smooth_steps(block, 1.0, 1.0)[0].equals(block[0])


def test_outlines_that_touch_at_a_corner_part() -> None:
    stairs = np.kron(np.eye(12, dtype=int), np.ones((2, 2), int)) > 0
    below, above = np.tri(24, k=-2, dtype=int), np.tri(24, k=-2, dtype=int).T
    labels = np.where(stairs, 0, below + 2 * above)
    one, two = smooth_steps(np.array(traced(labels)), 1.0, 1.0)
    assert one.is_valid
    assert two.is_valid
    assert len(one.exterior.coords) < 12


@given(st.integers(0, 10_000), st.integers(0, 2))
@settings(max_examples=12, deadline=None)
def test_any_patchwork_becomes_a_coverage(seed: int, gap_px: int) -> None:
    outlines = traced(patchwork(seed, gap_px))
    features = layer(outlines)
    cleaned = Coverage().shape(features, 1.0)
    shaped = cleaned.geometry.to_numpy()
    assert shapely.coverage_is_valid(shaped)
    assert shapely.is_valid(shaped).all()
    large = [i for i, p in enumerate(outlines) if p.area >= 4]
    assert cleaned["id"].tolist() == [f"f{i}" for i in large]
    ground = shapely.union_all(local(cleaned))
    assert sum(p.area for p in local(cleaned)) == pytest.approx(ground.area, rel=1e-6)
    assert iou(ground, shapely.box(0, 0, 80, 80)) > 0.93
    assert np.median([iou(p, outlines[i]) for p, i in zip(local(cleaned), large, strict=True)]) > 0.8

    shuffled = np.random.default_rng(seed).permutation(len(features))
    again = Coverage().shape(features.iloc[shuffled], 1.0).set_index("id").loc[cleaned["id"]]
    assert shapely.equals(again.geometry.to_numpy(), shaped).all()


@pytest.mark.parametrize("crs", [4326, 3857])
def test_metres_hold_in_every_crs(crs: int) -> None:
    features = layer(traced(patchwork(3, 1)))
    here, there = (Coverage().shape(f, 1.0) for f in (features, features.to_crs(crs)))
    assert there.crs == features.to_crs(crs).crs
    assert shapely.coverage_is_valid(there.geometry.to_numpy())
    # Steps are all alike, and which of them go first is decided by the last digits.
    assert min(iou(one, two) for one, two in zip(local(here), local(there), strict=True)) > 0.97


def test_classes_do_not_see_each_other() -> None:
    field, lake = shapely.box(0, 0, 50, 40), shapely.box(20, 20, 70, 60)
    cleaned = Coverage().shape(layer([field, lake, shapely.box(51, 0, 90, 15)], ["field", "water", "field"]), 1.0)
    assert cleaned["class"].tolist() == ["field", "water", "field"]
    one, two, three = local(cleaned)
    assert one.intersection(two).area == pytest.approx(600, rel=0.01)
    assert shared_m(one, three) == pytest.approx(15, abs=0.5)


def test_slivers_and_bits_go() -> None:
    parts = shapely.MultiPolygon([shapely.box(0, 0, 30, 20), shapely.box(50, 0, 60, 20), shapely.box(80, 0, 84, 4)])
    features = layer([parts, shapely.box(100, 0, 103, 1), shapely.box(120, 0, 140, 20)])
    cleaned = Coverage().shape(features.set_index(pd_index(3)), 1.0)
    assert cleaned.index.tolist() == [10, 12]
    assert list(cleaned.columns) == list(features.columns)
    assert shapely.area(shapely.get_parts(cleaned.geometry.iloc[0])).round().tolist() == [600, 200]
    assert cleaned.geom_type.tolist() == ["MultiPolygon", "Polygon"]
    assert Coverage(min_area_m2=500).shape(features, 1.0)["id"].tolist() == ["f0"]
    assert Coverage(min_part=0.5).shape(features, 1.0).geom_type.tolist() == ["Polygon", "Polygon"]


def pd_index(n: int) -> gpd.pd.Index:
    return gpd.pd.Index(range(10, 10 + n))


def test_what_lies_elsewhere_changes_nothing() -> None:
    features = layer(traced(patchwork(5, 1))).to_crs(4326)
    far = gpd.GeoDataFrame(
        {"id": ["far", "near"], "class": "field", "score": 0.5},
        geometry=[shapely.box(40, 10, 40.001, 10.001), translate(features.geometry.iloc[0], 0.01, 0)],
        crs=4326,
    )
    together = Coverage().shape(gpd.pd.concat([far, features], ignore_index=True), 1.0).iloc[2:]
    alone = Coverage().shape(features, 1.0)
    assert shapely.equals_exact(together.geometry.to_numpy(), alone.geometry.to_numpy()).all()


def test_odd_input_passes(capfd: pytest.CaptureFixture[str]) -> None:
    bow = shapely.Polygon([(0, 0), (40, 40), (40, 0), (0, 40)])
    flat = shapely.Polygon([(60, 0), (90, 0), (60, 0)])
    features = layer([bow, shapely.Polygon(), None, flat, shapely.box(41, 0, 60, 40)]).rename_geometry("outline")
    before = features.geometry.to_numpy().copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cleaned = Coverage().shape(features, 1.0)
    assert cleaned["id"].tolist() == ["f0", "f4"]
    assert cleaned.geometry.name == "outline"
    assert all(a is b for a, b in zip(features.geometry.to_numpy(), before, strict=True))
    assert len(Coverage().shape(features.iloc[:0], 1.0)) == 0
    assert len(Coverage().shape(features.iloc[1:4], 1.0)) == 0
    unnamed = features.drop(columns="class")
    assert Coverage().shape(unnamed, 1.0)["id"].tolist() == ["f0", "f4"]
    assert capfd.readouterr() == ("", "")


def test_no_crs_is_refused() -> None:
    with pytest.raises(NoGeoreference, match="no CRS"):
        Coverage().shape(gpd.GeoDataFrame({"id": ["a"]}, geometry=[shapely.box(0, 0, 9, 9)]), 1.0)


@pytest.mark.parametrize("degrees", [0, 1e-9, 30])
def test_a_coarse_pixel_alone_stays_a_square(degrees: float) -> None:
    pixel, large = shapely.box(0, 0, 6, 6), shapely.box(40, 0, 100, 60)
    frame = layer([rotate(p, degrees, origin=(0, 0)) for p in (pixel, large)]).assign(origin="coarse")
    alone, other = local(Coverage(simplify_m=6.0, min_area_m2=10.0).shape(frame, 3.0, 6.0))
    assert alone.symmetric_difference(rotate(pixel, degrees, origin=(0, 0))).area < 0.1
    assert other.area == pytest.approx(3600, rel=0.02)

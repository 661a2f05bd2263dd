import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridseg.shape.overlaps import resolve_overlaps, set_apart, union_pieces


def layer(*rows: tuple[str, float, shapely.Geometry]) -> gpd.GeoDataFrame:
    ids, scores, polygons = zip(*rows, strict=True)
    return gpd.GeoDataFrame({"id": ids, "score": scores}, geometry=list(polygons), crs=32636)


def outcome(features: gpd.GeoDataFrame) -> dict[str, float]:
    return {row["id"]: round(row.geometry.area, 6) for _, row in features.iterrows()}


def test_duplicates_by_iou_leave_the_better_one() -> None:
    joined = resolve_overlaps(layer(("a", 0.6, shapely.box(0, 0, 10, 10)), ("b", 0.9, shapely.box(1, 0, 11, 10))))
    assert outcome(joined) == {"b": 100}


def test_duplicates_by_containment_leave_the_better_one() -> None:
    part, whole = shapely.box(0, 0, 10, 2), shapely.box(0, 0, 10, 10)
    assert outcome(resolve_overlaps(layer(("part", 0.5, part), ("whole", 0.9, whole)))) == {"whole": 100}
    assert outcome(resolve_overlaps(layer(("part", 0.9, part), ("whole", 0.5, whole)))) == {"part": 20}


def test_equal_scores_go_by_id() -> None:
    joined = resolve_overlaps(layer(("b", 0.5, shapely.box(0, 0, 10, 10)), ("a", 0.5, shapely.box(1, 0, 11, 10))))
    assert outcome(joined) == {"a": 100}


def test_a_dropped_duplicate_drops_nobody() -> None:
    chain = layer(
        ("a", 0.9, shapely.box(0, 0, 10, 10)),
        ("b", 0.8, shapely.box(3, 0, 13, 10)),  # IoU with a and with c 0.54
        ("c", 0.7, shapely.box(6, 0, 16, 10)),  # IoU with a 0.25: another object, which loses 4 of its 10 columns
    )
    assert outcome(resolve_overlaps(chain)) == {"a": 100, "c": 60}


def test_partial_overlap_goes_to_the_better_one() -> None:
    joined = resolve_overlaps(layer(("a", 0.6, shapely.box(0, 0, 10, 10)), ("b", 0.9, shapely.box(8, 0, 18, 10))))
    assert outcome(joined) == {"a": 80, "b": 100}
    assert joined.geometry.iloc[0].equals(shapely.box(0, 0, 8, 10))


def test_the_largest_piece_is_kept() -> None:
    bar, wall = shapely.box(0, 0, 20, 2), shapely.box(12, -20, 14, 20)
    assert outcome(resolve_overlaps(layer(("bar", 0.1, bar), ("wall", 0.9, wall)))) == {"bar": 24, "wall": 80}


def test_what_is_nearly_eaten_goes() -> None:
    middle = shapely.box(0, 0, 10, 10)
    left, right = shapely.box(-20, 0, 4, 10), shapely.box(6, 0, 30, 10)
    assert outcome(resolve_overlaps(layer(("m", 0.1, middle), ("l", 0.9, left), ("r", 0.8, right)))) == {
        "l": 240,
        "r": 240,
    }


def test_ground_given_up_by_a_dropped_feature_is_free() -> None:
    features = layer(
        ("l", 0.9, shapely.box(-20, 0, 4, 10)),
        ("r", 0.8, shapely.box(6, 0, 30, 10)),
        ("m", 0.7, shapely.box(0, 0, 10, 10)),  # keeps 20 % and goes
        ("n", 0.6, shapely.box(4, 8, 6, 28)),  # shared its lowest part with m only
    )
    assert outcome(resolve_overlaps(features)) == {"l": 240, "r": 240, "n": 40}


def test_row_houses_stay_as_they_are() -> None:
    houses = layer(*[(f"h{i}", 0.5 + i / 100, shapely.box(5 * i, 0, 5 * i + 5, 9)) for i in range(6)])
    joined = resolve_overlaps(houses)
    assert shapely.equals_exact(joined.geometry.to_numpy(), houses.geometry.to_numpy()).all()


def test_a_house_in_a_courtyard_is_no_duplicate() -> None:
    ring = shapely.box(0, 0, 30, 30) - shapely.box(5, 5, 25, 25)
    assert outcome(resolve_overlaps(layer(("ring", 0.9, ring), ("in", 0.5, shapely.box(8, 8, 12, 12))))) == {
        "in": 16,
        "ring": 500,
    }


def test_invalid_polygons_are_repaired_and_columns_kept() -> None:
    bow = shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])
    features = layer(("bow", 0.4, bow)).assign(origin="coarse").rename_geometry("outline")
    joined = resolve_overlaps(features)
    assert joined.geometry.name == "outline"
    assert joined["origin"].tolist() == ["coarse"]
    assert joined.is_valid.all()


def test_nothing_gives_nothing() -> None:
    empty = layer(("a", 1.0, shapely.box(0, 0, 1, 1))).iloc[:0]
    joined = resolve_overlaps(empty)
    assert len(joined) == 0
    assert joined.crs == empty.crs
    assert list(joined.columns) == list(empty.columns)


def _blob(x: float, y: float, width: float, height: float, turn: float, corners: int) -> shapely.Polygon:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    blob = shapely.Polygon(np.c_[width * np.cos(angles), height * np.sin(angles)])
    return shapely.affinity.translate(shapely.affinity.rotate(blob, turn), x, y)


blobs = st.builds(
    _blob, st.floats(0, 30), st.floats(0, 30), st.floats(2, 9), st.floats(2, 9), st.floats(0, 90), st.integers(3, 12)
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(blobs, st.integers(0, 4)), min_size=1, max_size=12),
    far=st.sampled_from([0.0, 9.5e6]),
    data=st.data(),
)
def test_any_order_gives_the_same_layer_without_overlaps(
    rows: list[tuple[shapely.Polygon, int]], far: float, data: st.DataObject
) -> None:
    features = layer(*[(f"f{i:02}", s / 4, shapely.affinity.translate(p, far, far)) for i, (p, s) in enumerate(rows)])
    shuffled = features.iloc[data.draw(st.permutations(range(len(features))))]
    joined = resolve_overlaps(features)
    assert joined.equals(resolve_overlaps(shuffled))
    assert joined.equals(resolve_overlaps(joined))
    assert joined.is_valid.all()

    polygons = joined.geometry.to_numpy()
    one, two = np.triu_indices(len(polygons), 1)
    common = shapely.area(shapely.intersection(polygons[one], polygons[two]))
    assert (common <= 1e-6 * np.minimum(shapely.area(polygons[one]), shapely.area(polygons[two]))).all()

    before = features.set_index("id").geometry.loc[joined["id"]].area.to_numpy()
    assert (shapely.area(polygons) >= 0.25 * before * (1 - 1e-9)).all()


@pytest.mark.parametrize("scores", [[np.nan, 0.1], [0.1, np.nan]])
def test_a_missing_score_is_the_lowest(scores: list[float]) -> None:
    features = layer(("a", scores[0], shapely.box(0, 0, 10, 10)), ("b", scores[1], shapely.box(1, 0, 11, 10)))
    assert resolve_overlaps(features)["score"].tolist() == [0.1]


def test_pieces_of_a_region_become_one_row() -> None:
    frame = gpd.GeoDataFrame(
        {
            "id": ["a", "b", "a"],
            "class": "water",
            "score": [0.9, 0.5, 0.6],
            "origin": ["refined", "coarse", "coarse"],
            "iou_pred": [0.8, np.nan, np.nan],
            "stability": [0.7, np.nan, 0.4],
            "agreement": np.nan,
        },
        geometry=[shapely.box(0, 0, 20, 10), shapely.box(50, 0, 60, 10), shapely.box(20, 0, 30, 10)],
        crs=32636,
    )
    joined = union_pieces(frame)
    assert joined["id"].tolist() == ["a", "b"]
    whole = [shapely.box(0, 0, 30, 10), shapely.box(50, 0, 60, 10)]
    assert shapely.equals(joined.geometry.to_numpy(), np.array(whole)).all()
    assert joined["origin"].tolist() == ["refined", "coarse"]
    assert joined.loc[0, ["score", "iou_pred", "stability"]].tolist() == pytest.approx([0.8, 0.8, 0.6])
    assert joined["agreement"].isna().all()
    assert union_pieces(frame.iloc[:0]).empty


def test_of_two_that_overlap_the_smaller_gives_up_the_common_ground():
    large, small, far = shapely.box(0, 0, 10, 10), shapely.box(9, 4, 13, 6), shapely.box(50, 0, 51, 1)
    one, two, three = set_apart(np.array([small, far, large]))
    assert one.equals(shapely.box(10, 4, 13, 6))
    assert two is far
    assert three is large


def test_setting_apart_has_no_chain_of_consequences():
    # the middle one loses ground to the left one, and still takes from the right one what it was given as
    left, middle, right = shapely.box(0, 0, 10, 10), shapely.box(8, 0, 16, 10), shapely.box(15, 0, 20, 10)
    whole = set_apart(np.array([left, middle, right]))
    without = set_apart(np.array([middle, right]))
    assert whole[2].equals(without[1])
    assert whole[1].equals(shapely.box(10, 0, 16, 10))


def test_one_inside_a_larger_one_stays_as_it_is():
    inside, around = shapely.box(2, 2, 3, 3), shapely.box(0, 0, 10, 10)
    assert set_apart(np.array([inside, around]))[0] is inside


def test_corners_that_coincide_with_those_of_a_cut_outline_are_cut_right() -> None:
    # found by fuzzing: in floating point GEOS cannot overlay the last of these with what is left of the others
    outlines = [
        [(8, 0), (-2.33, 4.03), (-1, -1.73)],
        [
            (8.4, 0),
            (6.16, 1.34),
            (7.77, 6.8),
            (3.84, 3),
            (2.84, 1.73),
            (-0.14, 2.3),
            (1.84, 0),
            (-3.08, -4),
            (2.68, -2.01),
            (3.84, -2),
            (6.91, -5.3),
            (10.77, -4),
        ],
        [(1.84, 0), (-3.16, 5.18), (-3.03, -4.96)],
        [(3, 0), (2.43, 7.48), (-1.62, 1.18), (-6.09, -4.42), (2.47, -7.61)],
    ]
    scores = (0.0, 0.0, 0.25, 0.0)
    features = layer(
        *[(f"f{i}", s, shapely.Polygon(xy)) for i, (s, xy) in enumerate(zip(scores, outlines, strict=True))]
    )
    joined = resolve_overlaps(features)
    polygons = joined.geometry.to_numpy()
    one, two = np.triu_indices(len(polygons), 1)
    assert shapely.area(shapely.intersection(polygons[one], polygons[two], grid_size=1e-10)).max() < 1e-6
    assert shapely.union_all(polygons, grid_size=1e-10).area == pytest.approx(shapely.area(polygons).sum(), abs=1e-6)

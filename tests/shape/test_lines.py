from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pydantic import ValidationError
from rasterio.features import rasterize, shapes
from rasterio.transform import Affine
from shapely.affinity import rotate, translate

from hybridseg.errors import NoGeoreference, ThemeError
from hybridseg.heatmap import Heatmap, HeatmapPart, create_heatmap
from hybridseg.shape.lines import LINE_COLUMNS, NODE_COLUMNS, LineNetwork, Lines
from hybridseg.types import Window

UTM = 32636
PLACE = (448_000.0, 39_000.0)


def layer(
    polygons: list[shapely.Geometry], score: float | list[float] = 0.9, crs: int | None = UTM
) -> gpd.GeoDataFrame:
    placed = [translate(polygon, *PLACE) for polygon in polygons]
    return gpd.GeoDataFrame({"class": ["road"] * len(placed), "score": score}, geometry=placed, crs=crs)


def strip(*xy: tuple[float, float], width: float = 8.0) -> shapely.Polygon:
    return shapely.LineString(xy).buffer(width / 2, cap_style="flat", join_style="mitre")


def traced(polygon: shapely.Geometry, pixel_m: float = 1.0) -> shapely.Geometry:
    """The outline of the polygon's pixels."""
    left, bottom, right, top = np.array(polygon.bounds) + np.array([-1, -1, 1, 1]) * 3 * pixel_m
    size = int((top - bottom) / pixel_m) + 1, int((right - left) / pixel_m) + 1
    grid = Affine(pixel_m, 0, left, 0, -pixel_m, top)
    mask = rasterize([polygon], size, transform=grid, dtype="uint8")
    return shapely.union_all([shapely.geometry.shape(s) for s, _ in shapes(mask, mask > 0, 4, grid)])


def consistent(network: LineNetwork) -> None:
    """What holds of every network."""
    lines, nodes = network.lines, network.nodes
    assert tuple(lines.columns) == LINE_COLUMNS
    assert tuple(nodes.columns) == NODE_COLUMNS
    assert lines.is_valid.all()
    assert (lines.geom_type == "LineString").all()
    assert lines["id"].is_unique
    assert nodes["id"].is_unique
    assert np.isfinite(lines[["score", "width_m", "length_m"]].to_numpy()).all()
    assert (lines["width_m"] > 0).all()
    place = nodes.set_index("id").geometry
    for end, column in ((0, "from_node"), (-1, "to_node")):
        assert shapely.equals_exact(shapely.get_point(lines.geometry, end), place.loc[lines[column]].to_numpy()).all()
    meets = np.bincount(nodes.index[nodes["id"].searchsorted(lines[["from_node", "to_node"]].to_numpy().ravel())])
    assert meets.tolist() == nodes["degree"].tolist()
    through = nodes.loc[nodes["degree"] == 2, "id"]
    assert through.isin(lines.loc[lines["from_node"] == lines["to_node"], "from_node"]).all()


def degrees(network: LineNetwork) -> list[int]:
    consistent(network)
    return sorted(network.nodes["degree"])


def widened(network: LineNetwork) -> shapely.Geometry:
    """The ground that lines of their width cover: flat at dead ends, round where lines meet."""
    lines, nodes = network.lines.to_crs(UTM), network.nodes.set_index("id").to_crs(UTM)
    covered = list(shapely.buffer(lines.geometry.to_numpy(), lines["width_m"] / 2, cap_style="flat"))
    for column in ("from_node", "to_node"):
        ends = nodes.loc[lines[column]]
        half = np.where(ends["degree"] > 1, lines["width_m"] / 2, 0)
        covered += list(shapely.buffer(ends.geometry.to_numpy(), half))
    return shapely.union_all(covered)


def local(geometry: shapely.Geometry) -> np.ndarray:
    return shapely.get_coordinates(geometry) - PLACE


@pytest.mark.parametrize("angle", [0, 30, 45])
@pytest.mark.parametrize("width", [5.0, 8.0])
def test_a_straight_road(angle: float, width: float) -> None:
    road = rotate(strip((0, 0), (120, 0), width=width), angle, origin=(0, 0))
    network = Lines().network(layer([traced(road)]))
    assert degrees(network) == [1, 1]
    (line,) = network.lines.itertuples()
    assert line.length_m == pytest.approx(120, abs=2.0)  # a pixel at either end
    assert line.width_m == pytest.approx(width, abs=1.0)
    assert line.score == pytest.approx(0.9)
    ideal = translate(rotate(shapely.LineString([(0, 0), (120, 0)]), angle, origin=(0, 0)), *PLACE)
    assert shapely.hausdorff_distance(line.geometry, ideal) < 1.5
    assert len(line.geometry.coords) <= 3


def test_a_cross_has_one_node_where_its_middles_meet() -> None:
    for angle in (90, 55):
        cross = strip((-80, 0), (80, 0)) | rotate(strip((-80, 0), (80, 0)), angle)
        network = Lines().network(layer([traced(cross)]))
        assert degrees(network) == [1, 1, 1, 1, 4]
        crossing = network.nodes[network.nodes["degree"] == 4].geometry.iloc[0]
        assert np.abs(local(crossing)).max() < 1.0


def test_a_side_road_does_not_bend_the_main_one() -> None:
    network = Lines().network(layer([traced(strip((-90, 0), (90, 0)) | strip((0, 0), (0, 70)))]))
    assert degrees(network) == [1, 1, 1, 3]
    main = network.lines[network.lines.geometry.bounds["maxy"] < PLACE[1] + 10]
    assert len(main) == 2
    assert np.abs(local(main.geometry.to_numpy())[:, 1]).max() < 0.8
    assert sorted(network.lines["length_m"].round(-1)) == [70, 90, 90]


def test_a_roundabout_is_gone_around() -> None:
    island = shapely.Point(0, 0).buffer(10)
    around = shapely.Point(0, 0).buffer(18) - island
    arms = shapely.union_all([rotate(strip((14, 0), (90, 0)), a, origin=(0, 0)) for a in (0, 120, 240)])
    network = Lines().network(layer([traced(around | (arms - island))]))
    assert degrees(network) == [1, 1, 1, 3, 3, 3]
    ring = network.lines[
        (network.lines.geometry.distance(shapely.Point(PLACE)) > 10) & (network.lines["length_m"] < 60)
    ]
    assert len(ring) == 3
    (face,) = shapely.polygonize(ring.geometry.to_numpy()).geoms
    assert face.contains(translate(island.buffer(-2), *PLACE))


def test_a_closed_ring_has_one_node() -> None:
    ring = shapely.Point(0, 0).buffer(50) - shapely.Point(0, 0).buffer(42)
    network = Lines().network(layer([traced(ring)]))
    assert degrees(network) == [2]
    (line,) = network.lines.itertuples()
    assert line.geometry.is_ring
    assert line.length_m == pytest.approx(2 * np.pi * 46, rel=0.01)
    assert line.width_m == pytest.approx(8, abs=0.7)
    assert widened(network).symmetric_difference(translate(ring, *PLACE)).area < 0.12 * ring.area


@pytest.mark.parametrize(("gap", "aside", "parts"), [(10, 0, 1), (10, 3, 1), (20, 0, 2), (4, 12, 2)])
def test_a_gap_is_joined_straight_ahead_only(gap: float, aside: float, parts: int) -> None:
    roads = [strip((0, 0), (60, 0)), strip((60 + gap, aside), (130, aside))]
    network = Lines(join_gap_m=15).network(layer(roads))
    assert degrees(network) == [1, 1] * parts
    assert len(network.lines) == parts
    if parts == 1:
        assert network.lines["length_m"].iloc[0] == pytest.approx(130, abs=2)
        assert network.lines["width_m"].iloc[0] == pytest.approx(8, abs=0.7)
    assert len(Lines(join_gap_m=0).network(layer(roads)).lines) == 2


@pytest.mark.parametrize("angle", [90, 50])
def test_a_side_road_behind_a_tree_meets_the_main_one(angle: float) -> None:
    side = rotate(strip((14, 0), (80, 0)), angle, origin=(0, 0))
    roads = [strip((-90, 0), (90, 0)), side]
    network = Lines(join_gap_m=15).network(layer(roads))
    assert degrees(network) == [1, 1, 1, 3]
    meets = network.nodes[network.nodes["degree"] == 3].geometry.iloc[0]
    assert np.abs(local(meets)).max() < 1.0
    assert sorted(network.lines["length_m"].round(-1)) == [80, 90, 90]
    assert degrees(Lines(join_gap_m=8).network(layer(roads))) == [1, 1, 1, 1]


def test_two_side_roads_meet_the_main_one_each_by_itself() -> None:
    roads = [strip((-90, 0), (90, 0)), strip((-30, 14), (-30, 80)), strip((25, -14), (25, -80))]
    assert degrees(Lines(join_gap_m=15).network(layer(roads))) == [1, 1, 1, 1, 3, 3]
    crossing = [strip((-90, 0), (90, 0)), strip((0, 14), (0, 80)), strip((0, -14), (0, -80))]
    assert degrees(Lines(join_gap_m=15).network(layer(crossing))) == [1, 1, 1, 1, 4]


def test_roads_side_by_side_are_not_joined() -> None:
    corner = [strip((0, 0), (60, 0)), strip((68, 8), (68, 70))]
    parallel = [strip((0, 100), (60, 100)), strip((0, 112), (60, 112))]
    assert degrees(Lines().network(layer(corner + parallel))) == [1] * 8


def test_spurs_go_and_side_roads_stay() -> None:
    main = strip((0, 0), (160, 0))
    bumps = [shapely.box(x, 0, x + 4, 4 + height) for x, height in ((30, 2), (60, 4), (90, 6))]
    side = strip((130, 0), (130, 4 + 14))
    network = Lines().network(layer([shapely.union_all([main, side, *bumps])]))
    assert degrees(network) == [1, 1, 1, 3]
    assert len(Lines(spur_widths=0).network(layer([shapely.union_all([main, side, *bumps])])).lines) > 3


def test_ragged_edges_leave_no_trace() -> None:
    rng = np.random.default_rng(4)
    road = rotate(strip((0, 0), (200, 0)), 20)
    edge = shapely.get_coordinates(shapely.segmentize(road.exterior, 1.0))
    bites = shapely.box(*(edge - 1).T, *(edge + 1).T)
    chosen = rng.random(len(bites))
    ragged = (road | shapely.union_all(bites[chosen < 0.2])) - shapely.union_all(bites[chosen > 0.8])
    network = Lines().network(layer([traced(ragged)]))
    assert degrees(network) == [1, 1]
    assert network.lines["width_m"].iloc[0] == pytest.approx(7.7, abs=0.6)  # bites win over bumps
    assert len(network.lines.geometry.iloc[0].coords) < 12
    assert (
        shapely.hausdorff_distance(
            network.lines.geometry.iloc[0], translate(rotate(shapely.LineString([(0, 0), (200, 0)]), 20), *PLACE)
        )
        < 3.0
    )


def test_pinholes_are_filled_and_blobs_are_no_roads() -> None:
    road = strip((0, 0), (100, 0), width=10) - shapely.box(40, -1, 43, 2)
    blob = translate(shapely.Point(0, 0).buffer(12), 50, 60)
    assert degrees(Lines().network(layer([road, blob]))) == [1, 1]
    assert degrees(Lines(min_hole_m2=0).network(layer([road]))) == [1, 1, 3, 3]


def test_touching_polygons_are_one_road_with_the_mean_of_their_scores() -> None:
    halves = [strip((0, 0), (60, 0)), strip((60, 0), (120, 0)), strip((55, 0), (65, 0))]
    network = Lines().network(layer(halves, score=[0.4, 0.8, 0.1]))
    assert degrees(network) == [1, 1]
    assert network.lines["score"].iloc[0] == pytest.approx(0.6, abs=0.05)


def test_classes_are_apart() -> None:
    both = layer([strip((-80, 0), (80, 0)), strip((0, -80), (0, 80))]).assign(**{"class": ["road", "river"]})
    network = Lines().network(both)
    assert degrees(network) == [1, 1, 1, 1]
    assert sorted(network.lines["class"]) == ["river", "road"]
    assert all(line.id.startswith(f"{line[2]}-") for line in network.lines.itertuples())


@pytest.mark.parametrize("crs", [4326, 3857])
def test_metres_hold_in_every_crs(crs: int) -> None:
    roads = layer([traced(strip((-80, 0), (80, 0)) | strip((0, 0), (0, 70)))])
    here, there = Lines().network(roads), Lines().network(roads.to_crs(crs))
    assert there.lines.crs == there.nodes.crs == roads.to_crs(crs).crs
    assert degrees(there) == degrees(here)
    assert sorted(there.lines["length_m"]) == pytest.approx(sorted(here.lines["length_m"]), abs=0.01)
    assert sorted(there.lines["width_m"]) == pytest.approx(sorted(here.lines["width_m"]), abs=0.01)
    assert widened(there).area == pytest.approx(widened(here).area, rel=1e-4)


def seen(folder: Path, probability: dict[shapely.Geometry, float], crs: int = UTM) -> dict[str, Heatmap]:
    """A heatmap of roads, 1 m a pixel, with these probabilities on these polygons (the last one counts)."""
    grid = GeoBox((400, 400), Affine(1, 0, PLACE[0] - 200, 0, -1, PLACE[1] + 200), f"EPSG:{crs}")
    burnt = [(translate(polygon, *PLACE), value) for polygon, value in probability.items()]
    extent = rasterize(burnt, grid.shape, transform=grid.affine, dtype="float32")
    with create_heatmap(folder / "heatmap.tif", grid, ["road"]) as file:
        file.write(HeatmapPart(np.stack([extent, extent]), np.ones(grid.shape, bool), Window(0, 0, 400, 400)))
    return {"road": Heatmap.open(folder / "heatmap.tif")}


def test_a_road_under_trees_is_followed_where_the_heatmap_shows_it(tmp_path: Path) -> None:
    ends = [strip((-90, 0), (-25, 0)), strip((25, 0), (90, 0))]  # 50 m apart, more than `join_gap_m`
    bend = strip((-25, 0), (-8, 9), (8, 9), (25, 0), width=6)
    assert degrees(Lines().network(layer(ends))) == [1, 1, 1, 1]
    for faint, parts in ((0.2, 1), (0.02, 2)):
        shown = seen(tmp_path, {bend: faint, **dict.fromkeys(ends, 0.9)})
        network = Lines().network(layer(ends), shown)
        assert degrees(network) == [1, 1] * parts
        assert len(network.lines) == parts
    (whole,) = Lines().network(layer(ends), seen(tmp_path, {bend: 0.2, **dict.fromkeys(ends, 0.9)})).lines.geometry
    assert shapely.distance(whole, shapely.Point(PLACE[0], PLACE[1] + 9)) < 4  # around the bend, not straight on


def test_a_faint_street_comes_with_the_network_that_it_leads_to(tmp_path: Path) -> None:
    main, side, alone = strip((-90, 0), (90, 0)), strip((0, 4), (0, 80), width=4), strip((-80, -90), (80, -90), width=4)
    shown = seen(tmp_path, {alone: 0.3, side: 0.3, main: 0.9})
    network = Lines().network(layer([main]), shown)
    assert degrees(network) == [1, 1, 1, 3]
    assert network.lines["length_m"].max() < 100
    assert network.lines["score"].min() == Lines().faint
    assert network.lines["width_m"].min() == pytest.approx(4, abs=1.2)
    assert degrees(Lines(faint=0.5).network(layer([main]), shown)) == [1, 1]


def test_the_next_street_behind_the_houses_is_not_joined(tmp_path: Path) -> None:
    dead_end, street = strip((0, -80), (0, -22)), strip((-90, 0), (90, 0))
    network = Lines().network(layer([dead_end, street]), seen(tmp_path, {dead_end: 0.9, street: 0.9}))
    assert degrees(network) == [1, 1, 1, 1]


def test_tiles_change_nothing_of_what_is_faint(tmp_path: Path) -> None:
    roads = {strip((-150, k), (150, 0.2 * k), width=5): 0.2 + 0.001 * abs(k) for k in range(-140, 141, 56)}
    main = strip((0, -150), (0, 150))
    shown = seen(tmp_path, {**roads, main: 0.9})
    whole, tiled = (Lines(tile_px=size).network(layer([main]), shown) for size in (2048, 64))
    assert len(whole.lines) > 6
    assert whole.lines["id"].tolist() == tiled.lines["id"].tolist()


def test_tiles_change_nothing() -> None:
    town = shapely.union_all(
        [
            rotate(strip((-200, k), (200, k), width=w), a, origin=(0, 0))
            for k, w in ((-90, 6), (0, 14), (70, 9))
            for a in (12, 95)
        ]
    )
    features = layer([traced(town | shapely.Point(80, 20).buffer(40))])
    whole, tiled = Lines().network(features), Lines(tile_px=64).network(features)
    assert len(whole.lines) > 10
    assert whole.lines["id"].tolist() == tiled.lines["id"].tolist()
    assert whole.nodes["id"].tolist() == tiled.nodes["id"].tolist()


def test_neither_order_nor_distant_roads_change_a_road() -> None:
    near = layer([strip((-80, 0), (80, 0)), strip((0, 300), (90, 320))])
    far = layer([strip((5000, 0), (5100, 0))]).set_index(np.array([7]))
    one = Lines().network(near)
    other = Lines().network(gpd.pd.concat([far, near.iloc[::-1]]))
    assert set(one.lines["id"]) < set(other.lines["id"])
    assert set(one.nodes["id"]) < set(other.nodes["id"])


def test_lines_and_widths_cover_the_roads() -> None:
    surface = strip((-80, 0), (80, 0)) | strip((0, 0), (0, 70), width=6)
    network = Lines().network(layer([surface]))
    shown, given_ = widened(network), translate(surface, *PLACE)
    assert (shown & given_).area / (shown | given_).area > 0.9
    assert shown.bounds == pytest.approx(given_.bounds, abs=1.5)


def test_nothing_gives_nothing() -> None:
    flat = shapely.Polygon([(0, 0), (50, 0), (90, 0)])
    for polygons in ([], [shapely.Polygon(), shapely.box(0, 0, 1, 1)], [flat]):
        features = layer(polygons, crs=UTM if polygons else None)
        network = Lines().network(features)
        consistent(network)
        assert len(network.lines) == len(network.nodes) == 0
        assert network.lines.crs == network.nodes.crs == features.crs


def test_what_cannot_be_used_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoGeoreference):
        Lines().network(layer([strip((0, 0), (90, 0))], crs=None))
    monkeypatch.setattr("hybridseg.shape.lines.skeleton._WINDOW_PX", 200_000)
    Lines(tile_px=64).network(layer([strip((0, 0), (300, 300))]))
    with pytest.raises(ThemeError, match="raise cell_m"):
        Lines(tile_px=64).network(layer([shapely.box(0, 0, 600, 600)]))
    for wrong in ({"cell_m": 0}, {"join_gap_m": -1}, {"simplify_m": float("nan")}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            Lines(**wrong)


@settings(max_examples=10, deadline=None)
@given(
    ends=st.lists(st.tuples(*[st.integers(0, 120)] * 4), min_size=1, max_size=6),
    width=st.floats(3, 15),
    hole=st.integers(0, 30),
)
def test_any_surface_gives_a_sound_network(ends: list[tuple[int, int, int, int]], width: float, hole: int) -> None:
    roads = [strip((a, b), (c, d + 0.5), width=width) for a, b, c, d in ends]
    surface = shapely.union_all(roads) - shapely.Point(60, 60).buffer(hole)
    network = Lines(tile_px=100).network(layer([surface]))
    consistent(network)
    on = translate(surface, *PLACE).buffer(15)
    assert network.lines.geometry.within(on).all()

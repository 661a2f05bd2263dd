from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest
import shapely

from hybridseg.metrics import lines as paths
from hybridseg.metrics.bootstrap import two_sided_f1
from hybridseg.metrics.lines import Paths, compare_paths, noded, segments


def network(*lines: list[tuple[float, float]]) -> np.ndarray:
    return noded(np.array([shapely.LineString(points) for points in lines]))


def apls(*ways: Paths) -> float:
    return float(two_sided_f1(np.array([total for way in ways for total in (way.kept.sum(), way.number.sum())])))


STREET = network([(0, 0), (100, 0)])
NOTHING = np.zeros(0, object)
LOOP = network([(0, 0), (40, 0), (40, 40), (0, 40), (0, 0)])


def test_half_a_street_by_hand() -> None:
    # Control points at 0, 50 and 100 m, so three paths; of the half that is there only the one from 0 to 50.
    half = network([(0, 0), (50, 0)])
    there, back = compare_paths(STREET, half), compare_paths(half, STREET)
    assert (there.score, back.score) == (pytest.approx(1 / 3), 1)
    assert apls(there, back) == pytest.approx(0.5)


def test_both_ways_in_one_figure_by_hand() -> None:
    # One third of the street's paths are there, all of the map's are: 2 * 1/3 * 1 / (1/3 + 1).
    half = [shapely.LineString([(0, 0), (50, 0)])]
    assert paths.apls(np.array(half), np.array([shapely.LineString([(0, 0), (100, 0)])])) == pytest.approx(0.5)


def test_a_loop_without_one_side_by_hand() -> None:
    # Corners are control points (160 m in pieces of 40). The missing side was 40 m, the way round is 120: that path is
    # lost, the five others are as long as before.
    open_loop = network([(0, 0), (40, 0), (40, 40), (0, 40)])
    assert compare_paths(LOOP, open_loop).score == pytest.approx(5 / 6)


def test_a_detour_by_hand() -> None:
    # The map goes 60 m where the road goes 50: each of the two paths over it is off by its own share.
    detour = network([(0, 0), (50, 0), (50 + 25, 0 + np.sqrt(30**2 - 25**2)), (100, 0)])
    found = compare_paths(STREET, detour)
    assert found.score == pytest.approx((1 + (1 - 10 / 50) + (1 - 10 / 100)) / 3, abs=1e-3)


def test_ways_that_do_not_meet_are_lost() -> None:
    gap = network([(0, 0), (48, 0)], [(52, 0), (100, 0)])
    # The point at 50 m snaps to one side of the gap of 4 m; the paths across are gone.
    assert compare_paths(STREET, gap).score == pytest.approx((1 - 2 / 50) / 3)
    assert compare_paths(STREET, gap, snap_m=1).score == 0


def test_perfect_and_nothing() -> None:
    town = network(*[[(0, y), (200, y)] for y in (0, 60, 130)], *[[(x, -10), (x, 150)] for x in (20, 90, 170)])
    assert compare_paths(town, town).score == 1
    assert compare_paths(town, NOTHING).score == 0
    assert np.isnan(compare_paths(NOTHING, town).score)
    assert apls(compare_paths(town, NOTHING), compare_paths(NOTHING, town)) == 0
    assert np.isnan(apls(compare_paths(NOTHING, NOTHING), compare_paths(NOTHING, NOTHING)))
    assert len(noded(NOTHING)) == 0


def test_short_paths_are_left_out() -> None:
    short = network([(0, 0), (9, 0)])
    assert np.isnan(compare_paths(short, short).score)


def test_agrees_with_networkx() -> None:
    rng = np.random.default_rng(4)
    town = [[(0, y), (200, y)] for y in (0, 60, 130)] + [[(x, -10), (x, 150)] for x in (20, 90, 170)]
    truth = network(*town)
    pred = network(*[[tuple(np.array(p) + rng.normal(0, 0.8, 2)) for p in line] for line in town[:-1]])
    assert compare_paths(truth, pred).score == pytest.approx(by_networkx(truth, pred), abs=1e-6)
    assert compare_paths(pred, truth).score == pytest.approx(by_networkx(pred, truth), abs=1e-6)


def by_networkx(one: np.ndarray, other: np.ndarray, snap: float = 4.0) -> float:
    """APLS one way, the plain way: a graph of tiny steps, every pair by itself."""
    points = {tuple(np.round(line.interpolate(d).coords[0], 6)) for line in one for d in stations(line)}
    graphs = [graph(one, points, 1e-3), graph(other, points, snap)]
    lengths = [dict(nx.all_pairs_dijkstra_path_length(g, weight="length")) for g in graphs]
    scores = []
    for a, b in itertools.combinations(points, 2):
        here = lengths[0].get(a, {}).get(b)
        if here is None or here < 10:
            continue
        there = lengths[1].get(a, {}).get(b)
        scores.append(0 if there is None else 1 - min(1, abs(here - there) / here))
    return float(np.mean(scores))


def stations(line: shapely.LineString) -> np.ndarray:
    return np.linspace(0, line.length, int(np.ceil(line.length / 50)) + 1)


def graph(lines: np.ndarray, points: set[tuple[float, float]], snap: float) -> nx.Graph:
    on: dict[int, list] = {i: [] for i in range(len(lines))}
    for point in points:
        distances = [line.distance(shapely.Point(point)) for line in lines]
        if min(distances) <= snap:
            nearest = int(np.argmin(distances))
            on[nearest].append((lines[nearest].project(shapely.Point(point)), point))
    result = nx.Graph()
    for i, line in enumerate(lines):
        ends = [(0.0, ("end", *np.round(line.coords[0], 2))), (line.length, ("end", *np.round(line.coords[-1], 2)))]
        chain = sorted([*ends, *on[i]], key=lambda place: place[0])
        for (d0, a), (d1, b) in itertools.pairwise(chain):
            result.add_edge(a, b, length=d1 - d0)
    return result


def test_of_large_networks_a_sample_of_starts_is_enough() -> None:
    town = network(*[[(0, y), (900, y)] for y in range(0, 900, 90)], *[[(x, 0), (x, 900)] for x in range(0, 900, 90)])
    part = town[np.random.default_rng(0).random(len(town)) < 0.9]
    whole = compare_paths(town, part)
    most = 100 * len(whole.start)
    some = compare_paths(town, part, most_lengths=most)
    assert len(some.start) == 100 < len(whole.start)
    assert some.score == pytest.approx(whole.score, abs=0.05)
    again, other = (compare_paths(town, part, most_lengths=most, seed=seed).score for seed in (0, 1))
    assert again == some.score != other


def test_crossings_become_junctions_and_doubles_one() -> None:
    cross = network([(0, 0), (40, 0)], [(20, -20), (20, 20)], [(10, 0), (30, 0)])
    assert len(cross) == 4
    assert shapely.length(cross).sum() == pytest.approx(80)
    # An end that stops a hair before the road meets it.
    assert len(network([(0, 0), (40, 0)], [(20, 0.001), (20, 30)])) == 3


def test_of_parallel_ways_the_shorter() -> None:
    two = network([(0, 0), (40, 0)], [(0, 0), (20, 15), (40, 0)])
    assert compare_paths(two, two).score == 1
    straight = network([(0, 0), (40, 0)])
    assert compare_paths(straight, two).score == 1


def test_segments_are_all_there_is_in_straight_pieces() -> None:
    pieces = segments(LOOP, 15)
    assert shapely.length(pieces).sum() == pytest.approx(160)
    assert (shapely.length(pieces) <= 15).all()
    assert (shapely.get_num_points(pieces) == 2).all()

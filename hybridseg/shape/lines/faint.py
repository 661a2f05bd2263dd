"""Dead ends led on along what the heatmap shows faintly: under trees, in shadow, where a road is narrow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import shapely
from affine import Affine
from rasterio.features import rasterize
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from skimage.graph import MCP_Geometric

from hybridseg.shape.lines.graph import Graph, joined, xy
from hybridseg.shape.lines.sight import Sight

_LEAST = 0.02
"""Cost of a metre that is seen: of two ways that are seen, the shorter one."""

_BLIND = 0.05
"""Below this probability a way may only go straight on."""

_DETOUR = 1.5
"""A way that is so much longer than the straight one is not taken."""

_ALREADY = 2.0
"""Nor is one between places that the network joins already by a way at most so much longer."""

_SMOOTH_CELLS = 2.0
"""Deviation of the Gaussian that takes the steps of cells off a way."""


@dataclass(frozen=True)
class Faint:
    """Looks for ways on from dead ends."""

    sight: Sight
    """The heatmap."""
    seen: float
    """Probability from which on a metre counts as seen."""
    cell_m: float
    """Side of the cells in which ways are looked for."""
    reach_m: float
    """How far from a dead end a line may be."""
    angle_deg: float
    """Where nothing is seen, a way may turn by so much from where the dead end points."""
    most_unseen_m: Callable[[float], float]
    """Of half the width at a dead end (m), how much of its way may be unseen (m)."""

    def __call__(self, graph: Graph) -> Graph:
        """Return the graph with dead ends led on to other lines along the way of which least is unseen.

        Pieces of a network joined by paths of minimum cost, as Fischler, Tenenbaum and Wolf (Detection of roads and
        linear structures, 1981) did with detectors of lines. A metre of probability p costs (1 - p / seen) squared,
        nothing from `seen` on. The cheapest way goes first, and each dead end is used once.
        """
        line, end = np.nonzero(graph.degree[graph.node] == 1)
        search = _Search(self, graph)
        ways = [way for at in zip(line.tolist(), end.tolist(), strict=True) if (way := search(*at)) is not None]
        used, chosen = set[int](), list[_Way]()
        for way in sorted(ways, key=lambda way: way.unseen_m):
            if way.node not in used:
                way, other = _at_dead_end(graph, way)
                used |= {way.node, other}
                chosen.append(way)
        line, along = np.array([(way.line, way.along) for way in chosen]).reshape(-1, 2).T
        return joined(graph, [way.places for way in chosen], line, along)


@dataclass(frozen=True)
class _Way:
    """From a dead end to another line: its node, places (n,), number of the line, how far along it, unseen metres."""

    node: int
    places: np.ndarray
    line: int
    along: float
    unseen_m: float


def _at_dead_end(graph: Graph, way: _Way) -> tuple[_Way, int]:
    """Return a way that ends at the other line's dead end, and its node, where it ends near it; else the way, -1."""
    length, near = float(shapely.length(graph.lines[way.line])), 2 * np.fmax(graph.half[way.node], 1.0)
    for side, distance in enumerate((way.along, length - way.along)):
        node = int(graph.node[way.line, side])
        if distance <= near and graph.degree[node] == 1 and node != way.node:
            places = np.append(way.places[:-1], graph.place[node])
            return replace(way, places=places, along=side * length), node
    return way, -1


class _Search:
    """Finds the way on from a dead end of a graph."""

    def __init__(self, settings: Faint, graph: Graph) -> None:
        self.settings, self.graph = settings, graph
        self.tree, self.length = shapely.STRtree(graph.lines), shapely.length(graph.lines)
        order = np.argsort(-self.length, kind="stable")  # of parallel lines the last, the shortest, stays
        links = dict(zip(map(tuple, np.sort(graph.node[order]).tolist()), self.length[order], strict=True))
        ends = tuple(np.array(list(links)).reshape(-1, 2).T)
        one_way = coo_array((list(links.values()), ends), shape=(len(graph.place),) * 2).tocsr()
        self.links = one_way.maximum(one_way.T)  # both ways at once: scipy would do it in every call

    def __call__(self, line: int, end: int) -> _Way | None:
        """Return the way from one end (0 or 1) of a line; None: there is none that may be taken."""
        graph, own, settings = self.graph, self.graph.lines[line], self.settings
        node = int(graph.node[line, end])
        tip = graph.place[node]
        half = np.nanmedian(shapely.get_coordinates(own, include_z=True)[:, 2])
        back = shapely.line_interpolate_point(own, min(4 * half, own.length) * (1 if end == 0 else -1))
        ahead = tip - xy(np.array([back]))[0]
        cell_m, size = settings.cell_m, 2 * int(np.ceil(settings.reach_m / settings.cell_m)) + 1
        corner = tip + size / 2 * cell_m * (-1 + 1j)
        affine = Affine(cell_m, 0, corner.real, 0, -cell_m, corner.imag)
        target, along, cells = self._targets(node, affine, size)
        if not len(target) or not ahead:
            return None
        probable = settings.sight(affine, (size, size))
        row, col = np.mgrid[:size, :size] - size // 2
        off = (col - 1j * row) * cell_m
        with np.errstate(invalid="ignore"):
            cost = np.maximum(np.clip(1 - probable / settings.seen, 0, 1) ** 2, _LEAST)
            aside = np.abs(np.angle(off / ahead)) > np.radians(settings.angle_deg)
            cost[~np.isfinite(probable) | (aside & (probable < _BLIND))] = -1
        beside = shapely.buffer(own, 1.5 * half, cap_style="flat")
        cost[rasterize([beside], (size, size), transform=affine, dtype="uint8") > 0] = -1
        cost[(np.abs(off) < 2 * cell_m) & (cost < 0)] = 1
        search = MCP_Geometric(cost, sampling=(cell_m, cell_m))
        costs, _ = search.find_costs([(size // 2, size // 2)], [tuple(cell) for cell in cells], find_all_ends=False)
        reached = costs[tuple(cells.T)]
        best = int(np.argmin(reached))
        if not reached[best] <= settings.most_unseen_m(half):
            return None
        row, col = np.array(search.traceback(tuple(cells[best]))).T
        way = corner + (col + 0.5 - 1j * (row + 0.5)) * cell_m
        last = xy(shapely.line_interpolate_point(graph.lines[target[[best]]], along[best]))
        way = np.concatenate([[tip], way[1:-1], last])
        if np.abs(np.diff(way)).sum() > _DETOUR * abs(way[-1] - tip) + 2 * cell_m:
            return None
        smooth = ndimage.gaussian_filter1d(way, _SMOOTH_CELLS, mode="nearest")
        smooth[[0, -1]] = way[[0, -1]]
        return _Way(node, smooth, int(target[best]), float(along[best]), float(reached[best]))

    def _targets(self, node: int, affine: Affine, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return lines (n,), distances along them (n,) and cells (n, 2) that a way from a dead end may lead to."""
        graph, settings, tip = self.graph, self.settings, self.graph.place[node]
        near = self.tree.query(shapely.Point(tip.real, tip.imag), predicate="dwithin", distance=settings.reach_m)
        count = np.ceil(2 * self.length[near] / settings.cell_m).astype(int) + 1
        of = np.repeat(near, count)
        step = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
        along = step / np.repeat(np.maximum(count - 1, 1), count) * self.length[of]
        places = xy(shapely.line_interpolate_point(graph.lines[of], along))
        by = dijkstra(self.links, indices=node, limit=4 * settings.reach_m)
        already = np.minimum(by[graph.node[of, 0]] + along, by[graph.node[of, 1]] + self.length[of] - along)
        col, row = ~affine @ (places.real, places.imag)
        cells = np.floor(np.stack([row, col], axis=-1)).astype(int)
        usable = (already > _ALREADY * np.abs(places - tip) + 4 * settings.cell_m) & (places != tip)
        usable &= ((cells >= 0) & (cells < size)).all(axis=1)
        return of[usable], along[usable], cells[usable]

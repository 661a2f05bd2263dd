"""Dead ends led on along what the heatmap shows faintly: under trees, in shadow, where a surface is too narrow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from pyproj import CRS, Transformer
from rasterio.features import rasterize
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from skimage.graph import MCP_Geometric

from hybridseg.heatmap import Heatmap
from hybridseg.shape.lines.graph import Graph, joined, xy
from hybridseg.types import Window

_SEEN = 0.5
"""Probability from which on a metre counts as seen; below, its share that is lacking counts as unseen."""

_LEAST = 0.02
"""Cost of a metre that is seen: of two ways that are seen, the shorter one."""

_BLIND = 0.1
"""Below this probability a way may only go straight on."""

_DETOUR = 1.5
"""A way that is so much longer than the straight one is not taken."""

_ALREADY = 2.0
"""Nor is one between places that the network joins already by a way at most so much longer."""

_SMOOTH_PX = 2.0
"""Deviation of the Gaussian that takes the steps of pixels off a way."""


@dataclass(frozen=True)
class Sight:
    """How probable a class is at places of a metric CRS, by the heatmap."""

    heatmap: Heatmap
    label: str
    crs: CRS

    @cached_property
    def _to_own(self) -> Transformer:
        return Transformer.from_crs(self.crs, self.heatmap.geobox.crs.to_wkt(), always_xy=True)

    def to_px(self, z: np.ndarray) -> np.ndarray:
        """Return columns and rows (pixel corners at whole numbers) of places x + iy, complex (n,)."""
        x, y = ~self.heatmap.geobox.affine @ self._to_own.transform(z.real, z.imag)
        return np.asarray(x + 1j * y)

    def to_m(self, px: np.ndarray) -> np.ndarray:
        """Return places x + iy of columns and rows, complex (n,)."""
        x, y = self.heatmap.geobox.affine @ (px.real, px.imag)
        x, y = self._to_own.transform(x, y, direction="INVERSE")
        return np.asarray(x + 1j * y)

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Return the probability (h, w) in a window of the heatmap, and where it is known."""
        extent, _, valid = self.heatmap.read(window, self.label)
        return extent, valid


@dataclass(frozen=True)
class _Way:
    """From a dead end to another line: places (n,), the number of that line, how far along it (m), metres unseen."""

    places: np.ndarray
    line: int
    along: float
    unseen_m: float


def followed(
    graph: Graph, sight: Sight, reach_m: float, angle_deg: float, most_unseen_m: Callable[[float], float]
) -> Graph:
    """Return the graph with dead ends led on to other lines along the least unseen way, if that is short enough.

    A metre of probability p is unseen by 1 - 2p, so the way of least cost follows what the heatmap shows faintly
    (minimum-cost paths between the pieces of a road network: Fischler, Tenenbaum and Wolf 1981; here with the heatmap
    of a classifier in place of line detectors).

    Args:
        graph: lines in metres, half their width as Z.
        sight: the heatmap.
        reach_m: how far away a line may be.
        angle_deg: where nothing is seen, the way may turn by so much from where the dead end points.
        most_unseen_m: of half the width at a dead end (m), how much of its way may be unseen (m).
    """
    line, end = np.nonzero(graph.degree[graph.node] == 1)
    search = _Search(graph, sight, reach_m, np.radians(angle_deg))
    found = [search(*at, most_unseen_m(graph.half[graph.node[at]])) for at in zip(line, end, strict=True)]
    node = graph.node[line, end]
    free, chosen = dict.fromkeys(node.tolist(), True), list[_Way]()
    for at in np.argsort([np.inf if way is None else way.unseen_m for way in found], kind="stable"):
        way = found[at]
        if way is None or not free[node[at]]:
            continue
        ends = graph.node[way.line]
        length, half = shapely.length(graph.lines[way.line]), np.nanmax([graph.half[node[at]], 1.0])
        for side, distance in enumerate((way.along, length - way.along)):
            if distance <= 2 * half and graph.degree[ends[side]] == 1 and ends[side] != node[at]:
                free[int(ends[side])] = False
                way = _Way(np.append(way.places[:-1], graph.place[ends[side]]), way.line, side * length, way.unseen_m)
                break
        free[int(node[at])] = False
        chosen.append(way)
    return joined(graph, [way.places for way in chosen], *np.array([(w.line, w.along) for w in chosen]).reshape(-1, 2).T)


class _Search:
    """Looks for the least unseen way from a dead end."""

    def __init__(self, graph: Graph, sight: Sight, reach_m: float, angle: float) -> None:
        self.graph, self.sight, self.reach_m, self.angle = graph, sight, reach_m, angle
        self.tree, self.length = shapely.STRtree(graph.lines), shapely.length(graph.lines)
        size = len(graph.place)
        order = np.argsort(-self.length, kind="stable")  # of parallel lines the last, the shortest, stays
        links = {(a, b): d for (a, b), d in zip(np.sort(graph.node[order]).tolist(), self.length[order], strict=True)}
        row, col = np.array(list(links)).reshape(-1, 2).T
        self.links = coo_array((list(links.values()), (row, col)), shape=(size, size)).tocsr()

    def __call__(self, line: int, end: int, limit_m: float) -> _Way | None:
        """Return the way from one end (0 or 1) of a line; None: nothing is near enough."""
        graph, own = self.graph, self.graph.lines[line]
        node = graph.node[line, end]
        tip, half = graph.place[node], graph.half[node]
        half = half if np.isfinite(half) else np.nanmedian(shapely.get_coordinates(own, include_z=True)[:, 2])
        back = shapely.line_interpolate_point(own, min(4 * half, own.length) * (1 if end == 0 else -1))
        ahead = tip - xy(np.array([back]))[0]
        ahead /= max(abs(ahead), 1e-9)
        grid = _Grid.around(self.sight, tip, self.reach_m)
        probable, known = self.sight.read(grid.window)
        targets, along, cells = self._targets(node, tip, grid)
        cost = np.maximum(1 - probable / _SEEN, _LEAST)
        off = grid.places() - tip
        aside = np.abs(np.angle(off / ahead))
        cost[~known | ((probable < _BLIND) & (aside > self.angle))] = -1
        beside = grid.burn(shapely.buffer(own, 1.5 * half, cap_style="flat"))
        cost[beside] = -1
        start = grid.cell(np.array([tip]))[0]
        if not len(targets) or not cost.shape[0] > start[0] >= 0 <= start[1] < cost.shape[1]:
            return None
        near = np.abs(off) <= 1.5 * grid.pixel_m
        cost[near & (cost < 0)] = 1
        search = MCP_Geometric(cost, sampling=grid.sampling)
        costs, _ = search.find_costs([tuple(start)], [tuple(cell) for cell in cells], find_all_ends=False)
        reached = costs[tuple(cells.T)]
        best = int(np.argmin(reached))
        if not reached[best] <= limit_m:
            return None
        path = np.array(search.traceback(tuple(cells[best])))
        way = grid.to_m(path[:, 1] + 0.5 + 1j * (path[:, 0] + 0.5))
        way[0] = tip
        way[-1] = xy(shapely.line_interpolate_point(graph.lines[targets[[best]]], along[best]))[0]
        length = np.abs(np.diff(way)).sum()
        if length > _DETOUR * abs(way[-1] - way[0]) + 2 * grid.pixel_m:
            return None
        smooth = ndimage.gaussian_filter1d(way, _SMOOTH_PX, mode="nearest")
        smooth[[0, -1]] = way[[0, -1]]
        return _Way(smooth, int(targets[best]), float(along[best]), float(reached[best]))

    def _targets(self, node: int, tip: complex, grid: _Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return lines (n,), distances along them (n,) and cells (n, 2) that a way from a dead end may lead to."""
        graph = self.graph
        near = self.tree.query(shapely.Point(tip.real, tip.imag), predicate="dwithin", distance=self.reach_m)
        count = np.ceil(self.length[near] / (0.5 * grid.pixel_m)).astype(int) + 1
        of = np.repeat(near, count)
        step = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
        along = step / np.maximum(np.repeat(count, count) - 1, 1) * self.length[of]
        places = xy(shapely.line_interpolate_point(graph.lines[of], along))
        by = dijkstra(self.links, directed=False, indices=node, limit=4 * self.reach_m)
        already = np.minimum(by[graph.node[of, 0]] + along, by[graph.node[of, 1]] + self.length[of] - along)
        cells = grid.cell(places)
        usable = (already > _ALREADY * np.abs(places - tip) + 4 * grid.pixel_m) & grid.holds(cells)
        return of[usable], along[usable], cells[usable]


@dataclass(frozen=True)
class _Grid:
    """A window of the heatmap around a place.

    sight: the heatmap; window: of its pixels; sampling: height and width of a pixel (m).
    """

    sight: Sight
    window: Window
    sampling: tuple[float, float]

    @classmethod
    def around(cls, sight: Sight, place: complex, reach_m: float) -> _Grid:
        px = sight.to_px(np.array([place]))
        corner, right, down = sight.to_m(px[0] + np.array([0, 1, 1j]))
        width, height = abs(right - corner), abs(down - corner)
        cols, rows = int(np.ceil(reach_m / width)) + 1, int(np.ceil(reach_m / height)) + 1
        col, row = int(np.floor(px[0].real)), int(np.floor(px[0].imag))
        return cls(sight, Window(col - cols, row - rows, 2 * cols + 1, 2 * rows + 1), (height, width))

    @property
    def pixel_m(self) -> float:
        """The larger side of a pixel (m)."""
        return max(self.sampling)

    def to_m(self, px: np.ndarray) -> np.ndarray:
        """Return places of columns and rows in the window, complex (n,)."""
        return self.sight.to_m(px + self.window.col + 1j * self.window.row)

    def places(self) -> np.ndarray:
        """Return the middles of the pixels, complex (h, w)."""
        row, col = np.mgrid[: self.window.height, : self.window.width] + 0.5
        return self.to_m((col + 1j * row).ravel()).reshape(row.shape)

    def cell(self, places: np.ndarray) -> np.ndarray:
        """Return rows and columns (n, 2) of places (n,) in the window."""
        px = self.sight.to_px(places) - self.window.col - 1j * self.window.row
        return np.stack([np.floor(px.imag), np.floor(px.real)], axis=-1).astype(int)

    def holds(self, cells: np.ndarray) -> np.ndarray:
        """Return (n,) bool, which cells (n, 2) lie in the window."""
        return np.asarray(((cells >= 0) & (cells < (self.window.height, self.window.width))).all(axis=1))

    def burn(self, polygon: shapely.Geometry) -> np.ndarray:
        """Return the pixels (h, w) bool whose middles lie in a polygon of metres."""

        def to_window(points: np.ndarray) -> np.ndarray:
            px = self.sight.to_px(points[:, 0] + 1j * points[:, 1]) - self.window.col - 1j * self.window.row
            return np.stack([px.real, px.imag], axis=-1)

        moved = shapely.transform(polygon, to_window)
        shape = (self.window.height, self.window.width)
        if moved.is_empty:
            return np.zeros(shape, dtype=bool)
        return np.asarray(rasterize([moved], shape, dtype="uint8") > 0)

"""The plan of a town: land is cut by streets into blocks, blocks into plots, and each plot takes the houses that fit.

Plots do not overlap, so neither do roofs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import shapely
from shapely import LineString, Point, Polygon, affinity, box
from shapely.geometry.base import BaseGeometry
from shapely.ops import split

from hybridseg.demo.canvas import House, Plan, Street, Style
from hybridseg.demo.houses import axes, houses_on

STYLES = (
    Style(
        (158, 138, 112),
        (104, 116, 66),
        {"concrete": 6, "metal": 3, "blue": 1.2, "tile": 1, "rust": 1.5, "red": 0.6},
        0.85,
        0.2,
        0.02,
        -0.1,
    ),
    Style(
        (150, 112, 88),
        (92, 112, 62),
        {"metal": 5, "rust": 6, "white": 1, "blue": 0.3, "concrete": 0.4, "red": 0.4},
        0.1,
        0.1,
        0.1,
        -0.5,
    ),
    Style(
        (176, 156, 126),
        (98, 116, 60),
        {"metal": 4, "rust": 4, "thatch": 3, "white": 1.5, "concrete": 0.6},
        0.15,
        0.35,
        0.6,
        0.5,
    ),
    Style(
        (166, 142, 108),
        (112, 124, 70),
        {"tile": 6, "concrete": 2, "metal": 2, "rust": 1.5, "thatch": 0.8},
        0.5,
        0.3,
        0.05,
        0.1,
    ),
    Style((172, 160, 138), (108, 122, 74), {"shingle": 6, "tile": 3, "white": 1, "metal": 0.6}, 0.3, 0.65, 0.15, 0.9),
    Style((196, 178, 148), (126, 130, 86), {"concrete": 6, "white": 3, "tile": 0.6, "metal": 1}, 0.95, 0.3, 0.3, -1.1),
)
"""Looks of regions: hill town, informal settlement, coast, tiled valley, suburb, dry country."""


def plan_town(shape_px: tuple[int, int], gsd_m: float, density: float, rng: np.random.Generator) -> Plan:
    """Streets, plots and houses of a scene."""
    tall, wide = shape_px[0] * gsd_m, shape_px[1] * gsd_m
    frame, centre = box(0, 0, wide, tall), Point(wide / 2, tall / 2)
    style = STYLES[rng.integers(0, len(STYLES))]
    warp = _warp(rng)
    reach = 0.75 * float(np.hypot(tall, wide)) + 40
    land = affinity.rotate(box(-reach, -reach, reach, reach), rng.uniform(0, 90))
    block_m2 = float(np.exp(np.interp(density, [0, 1], np.log([9000, 2200])) + rng.normal(0, 0.25)))
    leaves, cuts = _cut(affinity.translate(land, wide / 2, tall / 2), block_m2, rng, 0.1)
    paved = rng.uniform(-1, 5)  # streets cut before this depth are paved
    narrow = rng.uniform(0.65, 1.0)
    streets, view = [], frame.buffer(8)
    for line, depth in cuts:
        width = max(1.6, rng.normal([7.5, 6.5, 5.2, 4.2, 3.2][min(depth, 4)], 0.8)) * narrow * (1 - 0.2 * density)
        street = Street(warp(line).intersection(view), width, depth < paved)
        if not street.line.is_empty:
            streets.append(street)
    roads = shapely.union_all([s.line.buffer(s.width_m / 2 + rng.uniform(0.1, 0.8)) for s in streets])
    blocks = [part for leaf in leaves for part in shapely.get_parts(warp(leaf).intersection(view).difference(roads))]
    focus = Point(rng.uniform(0, wide), rng.uniform(0, tall))
    core = min(blocks, key=centre.distance) if blocks else None
    plots: list[tuple[Polygon, str]] = []
    houses: list[House] = []
    for block in (b for b in blocks if b.geom_type == "Polygon" and b.area > 20):
        away = block.distance(focus) / max(tall, wide)
        if block is core or rng.random() < 0.35 + 0.75 * density**0.7 - away * (1 - density) * 0.5:
            target = float(np.exp(np.interp(density, [0, 1], np.log([520, 58])) + rng.normal(0, 0.3)))
            for plot in _cut(block, target, rng, 0.06)[0]:
                empty = rng.random() < np.interp(density, [0, 1], [0.3, 0.05])
                plots.append((plot, str(rng.choice(["green", "bare", "field", "yard"])) if empty else "yard"))
                if not empty and plot.intersects(frame):
                    houses += houses_on(plot, density, style, rng)
        else:
            use = str(rng.choice(["field", "green", "wood", "bare", "pond"], p=[0.46, 0.24, 0.14, 0.11, 0.05]))
            pieces = _cut(block, rng.uniform(700, 2500), rng, 0.1)[0] if use == "field" else [block]
            plots += [(piece, use) for piece in pieces]
    return Plan(shape_px, gsd_m, style, streets, plots, _visible(houses, frame))


def _visible(houses: list[House], frame: Polygon) -> list[House]:
    """Houses as the frame cuts them. One that it would leave as a sliver or in pieces is not built."""
    cut = [
        house if frame.contains(house.roof) else replace(house, roof=house.roof.intersection(frame)) for house in houses
    ]
    return [house for house in cut if house.roof.geom_type == "Polygon" and house.roof.area > 2]


def _warp(rng: np.random.Generator) -> Callable[[BaseGeometry], BaseGeometry]:
    """A gentle bend of the whole plan, so that streets curve."""
    size = rng.uniform(0, 9)
    waves, phases = 2 * np.pi / rng.uniform(130, 320, (2, 2)), rng.uniform(0, 2 * np.pi, (2, 2))

    def bend(xy: np.ndarray) -> np.ndarray:
        return np.asarray(
            xy + size * np.sin(xy[:, ::-1] * waves[0] + phases[0]) + size / 3 * np.sin(xy * waves[1] + phases[1])
        )

    return lambda geometry: shapely.transform(shapely.segmentize(geometry, 6), bend)


def _cut(
    polygon: Polygon, area_m2: float, rng: np.random.Generator, tilt: float
) -> tuple[list[Polygon], list[tuple[BaseGeometry, int]]]:
    """Cut land across its long side until the pieces are about `area_m2`; also the cuts, each with its depth."""
    leaves, cuts, stack = [], [], [(polygon, 0)]
    while stack:
        piece, depth = stack.pop()
        x, y, angle, length, _ = axes(piece)
        at, across = rng.uniform(-0.13, 0.13) * length, angle + np.pi / 2 + rng.normal(0, tilt)
        px, py = x + at * np.cos(angle), y + at * np.sin(angle)
        dx, dy = 2 * length * np.cos(across), 2 * length * np.sin(across)
        line = LineString([(px - dx, py - dy), (px + dx, py + dy)])
        parts = [] if piece.area < area_m2 * rng.uniform(0.9, 2.0) else list(split(piece, line).geoms)
        if len(parts) < 2:
            leaves.append(piece)
            continue
        cuts.append((line.intersection(piece), depth))
        stack += [(part, depth + 1) for part in parts]
    return leaves, cuts

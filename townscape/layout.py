"""Draws the plan of a town: streets cut the land into blocks, blocks are cut into plots, and each plot gets its houses.

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

from townscape.plan import STYLES, House, Plan, Street, Style, Wing


def plan_town(shape_px: tuple[int, int], gsd_m: float, density: float, rng: np.random.Generator) -> Plan:
    """Draw the streets, plots and houses of a scene.

    Args:
        shape_px: height and width of the picture.
        gsd_m: ground sampling distance, metres a pixel.
        density: 0 (hamlet among fields) to 1 (dense informal settlement).
        rng: source of every random draw.
    """
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
                    houses += _houses_on(plot, density, style, rng)
        else:
            use = str(rng.choice(["field", "green", "wood", "bare", "pond"], p=[0.46, 0.24, 0.14, 0.11, 0.05]))
            pieces = _cut(block, rng.uniform(700, 2500), rng, 0.1)[0] if use == "field" else [block]
            plots += [(piece, use) for piece in pieces]
    return Plan(shape_px, gsd_m, style, streets, plots, _visible(houses, frame))


def _visible(houses: list[House], frame: Polygon) -> list[House]:
    """Return the houses cut by the frame, without those of which only a sliver or several pieces remain."""
    cut = [
        house if frame.contains(house.roof) else replace(house, roof=house.roof.intersection(frame)) for house in houses
    ]
    return [house for house in cut if house.roof.geom_type == "Polygon" and house.roof.area > 2]


def _warp(rng: np.random.Generator) -> Callable[[BaseGeometry], BaseGeometry]:
    """Return a function that bends the whole plan gently, so that streets curve."""
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
    """Cut land across its long side into pieces of about `area_m2`; return them and the cuts, each with its depth."""
    leaves, cuts, stack = [], [], [(polygon, 0)]
    while stack:
        piece, depth = stack.pop()
        x, y, angle, length, _ = _axes(piece)
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


def _axes(polygon: Polygon) -> tuple[float, float, float, float, float]:
    """Return x, y, angle of the long axis (radians), length and depth of a polygon's smallest enclosing rectangle."""
    corners = np.asarray(shapely.oriented_envelope(polygon).exterior.coords)
    one, two = corners[1] - corners[0], corners[2] - corners[1]
    longer, shorter = (one, two) if np.hypot(*one) >= np.hypot(*two) else (two, one)
    x, y = corners[:4].mean(axis=0)
    return (
        float(x),
        float(y),
        float(np.arctan2(longer[1], longer[0])),
        float(np.hypot(*longer)),
        float(np.hypot(*shorter)),
    )


def _houses_on(plot: Polygon, density: float, style: Style, rng: np.random.Generator) -> list[House]:
    """Return the houses of a plot: none, one, a row of them, or a house and its shed."""
    gap = float(np.interp(density, [0, 1], [1.6, 0.12]) * rng.uniform(0.4, 1.4))
    room = plot.buffer(-gap, join_style="mitre")
    if room.geom_type != "Polygon" or room.area < 8:
        return []
    x, y, angle, length, depth = _axes(room)
    fill = np.interp(density, [0, 1], [0.62, 0.98])
    for shrink in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5):
        w = min(length * fill * shrink * rng.uniform(0.85, 1), rng.uniform(14, 60))
        d = min(depth * fill * shrink * rng.uniform(0.85, 1), rng.uniform(9, 26))
        if density < 0.5 and shrink == 1.0:
            w, d = min(w, rng.uniform(8, 26)), min(d, rng.uniform(6, 16))
        slack = np.array([max(length - w, 0), max(depth - d, 0)]) * rng.uniform(-0.3, 0.3, 2)
        ax, ay = np.cos(angle), np.sin(angle)
        turn = angle + rng.normal(0, 0.02 + 0.05 * rng.random() * density)
        frame = (x + slack[0] * ax - slack[1] * ay, y + slack[0] * ay + slack[1] * ax, float(turn))
        if w * d > 7 and min(w, d) > 2 and room.contains(_place(box(-w / 2, -d / 2, w / 2, d / 2), frame)):
            built = _build(w, d, frame, density, style, rng)
            break
    else:
        return []
    if density < 0.8 and rng.random() < 0.4:
        taken = shapely.union_all([house.roof for house in built]).buffer(0.4)
        for at in rng.uniform(-0.45, 0.45, (4, 2)) * [length, depth]:
            place = (x + at[0] * ax - at[1] * ay, y + at[0] * ay + at[1] * ax, float(turn))
            w, d = rng.uniform(2, 4.5), rng.uniform(1.8, 3)
            shed = _house("shed", ((0.0, 0.0, w, d),), place, rng.uniform(2, 2.6), "mono", style, rng)
            if room.contains(shed.roof) and not taken.intersects(shed.roof):
                return [*built, shed]
    return built


def _place(shape: BaseGeometry, frame: tuple[float, float, float]) -> BaseGeometry:
    """Move a shape from a house's own axes to the plan's."""
    c, s = np.cos(frame[2]), np.sin(frame[2])
    return affinity.affine_transform(shape, [c, -s, s, c, frame[0], frame[1]])


def _build(
    w: float, d: float, frame: tuple[float, float, float], density: float, style: Style, rng: np.random.Generator
) -> list[House]:
    """Return the houses that fill a rectangle of `w` by `d` metres, `w` along the x axis of `frame`."""
    small, big = w * d < 90, w * d > 420
    kinds = {
        "rect": 6.0, "L": 0.0 if small else 2.0, "T": 0.0 if small else 1.0, "U": 1.0 if w * d > 200 else 0.0,
        "courtyard": 1.2 if min(w, d) > 14 else 0.0, "row": 2.5 if w > 13 else 0.0, "warehouse": 4.0 if big else 0.0,
        "round": 0.12 if 4 < d < 10 else 0.0,
    }  # fmt: skip
    kind = str(rng.choice(list(kinds), p=np.array(list(kinds.values())) / sum(kinds.values())))
    storey = rng.choice([1, 2, 3, 4], p=[0.55, 0.3, 0.1, 0.05] if style.flat < 0.5 else [0.3, 0.33, 0.25, 0.12])
    height = float(storey * rng.uniform(2.6, 3.2))
    if kind == "row":  # fronts in line; depth, height and covering differ
        gap = float(rng.choice([0.0, 0.0, 0.5]))
        number = max(2, round(w / rng.uniform(4.5, 8)))
        deep, tall = d * rng.uniform(0.75, 1, number), height * rng.uniform(0.8, 1.25, number)
        middle = (np.arange(number) + 0.5) * w / number - w / 2
        units: list[Wing] = [
            (float(x), float(y - d) / 2, w / number - gap, float(y)) for x, y in zip(middle, deep, strict=True)
        ]
        return [_house(kind, (unit,), frame, high, "", style, rng) for unit, high in zip(units, tall, strict=True)]
    if kind == "round":
        form = "cone" if rng.random() < 0.6 else "flat"
        return [_house(kind, ((0.0, 0.0, d, d),), frame, height, form, style, rng)]
    t = max(2.5, min(w, d) * rng.uniform(0.3, 0.48))
    left, right = (-(w - t) / 2, 0.0, t, d), ((w - t) / 2, 0.0, t, d)
    upper, lower = (0.0, (d - t) / 2, w, t), (0.0, -(d - t) / 2, w, t)
    stem = (rng.uniform(-0.2, 0.2) * (w - t), 0.0, t, d)
    plans: dict[str, tuple[Wing, ...]] = {
        "L": (upper, left if rng.random() < 0.5 else right),
        "T": (upper, stem),
        "U": (upper, left, right),
        "courtyard": (upper, left, right, lower),
    }
    height = rng.uniform(5, 9) if kind == "warehouse" else height
    return [_house(kind, plans.get(kind, ((0.0, 0.0, w, d),)), frame, height, "", style, rng)]


def _house(
    kind: str, wings: tuple[Wing, ...], frame: tuple[float, float, float], height_m: float, form: str, style: Style,
    rng: np.random.Generator,
) -> House:  # fmt: skip
    """Return a house with a roof of the region's style; an empty `form` is drawn to suit the material."""
    names, weights = list(style.roofs), np.array(list(style.roofs.values()))
    material = str(rng.choice(names, p=weights / weights.sum()))
    if kind in ("warehouse", "shed") and material in ("concrete", "tile", "thatch", "shingle"):
        material = str(rng.choice(["metal", "rust", "white"]))
    flat = material == "concrete" or (material == "white" and rng.random() < style.flat)
    pitched = "hip" if rng.random() < style.hip else "mono" if rng.random() < 0.25 and len(wings) == 1 else "gable"
    outline = [box(x - w / 2, y - d / 2, x + w / 2, y + d / 2) for x, y, w, d in wings]
    shape = Point(0, 0).buffer(wings[0][2] / 2, quad_segs=8) if kind == "round" else shapely.union_all(outline)
    return House(
        _place(shape, frame), kind, float(height_m), frame, wings, form or ("flat" if flat else pitched), material
    )

"""Houses that fit a plot: their shapes, roofs and sheds."""

from __future__ import annotations

import numpy as np
import shapely
from shapely import Point, Polygon, affinity, box
from shapely.geometry.base import BaseGeometry

from hybridseg.demo.canvas import House, Style, Wing


def axes(polygon: Polygon) -> tuple[float, float, float, float, float]:
    """Centre x, y, angle of the long axis (radians), length and depth of the smallest rectangle around a polygon."""
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


def houses_on(plot: Polygon, density: float, style: Style, rng: np.random.Generator) -> list[House]:
    """What stands on a plot: one house, a row of them, or a house and its shed."""
    gap = float(np.interp(density, [0, 1], [1.6, 0.12]) * rng.uniform(0.4, 1.4))
    room = plot.buffer(-gap, join_style="mitre")
    if room.geom_type != "Polygon" or room.area < 8:
        return []
    x, y, angle, length, depth = axes(room)
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
    """From a house's own axes to the scene's."""
    c, s = np.cos(frame[2]), np.sin(frame[2])
    return affinity.affine_transform(shape, [c, -s, s, c, frame[0], frame[1]])


def _build(
    w: float, d: float, frame: tuple[float, float, float], density: float, style: Style, rng: np.random.Generator
) -> list[House]:
    """Houses that fill a rectangle `w` by `d` (w along the frame's axis)."""
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
    """A house with a roof in the region's manner; where `form` is empty the material chooses it."""
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

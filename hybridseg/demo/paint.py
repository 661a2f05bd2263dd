"""Paints the plan of a town as an aerial photograph.

Everything is laid onto two surfaces at twice the final resolution: albedo (linear light) and height above ground. Light
then falls on the heights, so slopes, cast shadows and dim gaps agree with one sun; last comes a camera.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from shapely import Polygon, affinity, box, get_parts
from shapely.ops import substring

from hybridseg.demo.canvas import Canvas, Plan, Rgb, shrink, soft
from hybridseg.demo.light import photograph
from hybridseg.demo.roofs import paint_roofs
from hybridseg.demo.trees import paint_trees

CARS: tuple[Rgb, ...] = ((235, 235, 232), (190, 192, 194), (60, 62, 66), (150, 40, 38), (54, 80, 130), (210, 206, 196))
CROPS: tuple[Rgb, ...] = (
    (104, 122, 62), (126, 138, 76), (160, 146, 96), (74, 100, 54), (140, 118, 84), (168, 160, 110),
)  # fmt: skip
LUSH = {"yard": -0.7, "field": -1.0, "green": 1.4, "wood": 1.8, "bare": -2.4, "pond": 1.5}
"""How far each use of land leans from soil (negative) to grass."""


def paint(plan: Plan, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The picture, (3, H, W) uint8, and the part of each pixel that was painted as roof, (H, W) float32, 0 to 1."""
    canvas = Canvas(plan, rng)
    _ground(canvas)
    _roads(canvas)
    _cars(canvas)
    _litter(canvas)
    _fences(canvas)
    _walls(canvas)
    roofs = paint_roofs(canvas)
    paint_trees(canvas, roofs)
    return photograph(canvas), shrink((roofs > 0).astype(np.float32))


def _ground(canvas: Canvas) -> None:
    """Soil, grass, crops and ponds: each plot by its use, with one drift of colour over all."""
    rng, style, uses = canvas.rng, canvas.plan.style, [use for _, use in canvas.plan.plots]
    label = canvas.burn([polygon for polygon, _ in canvas.plan.plots])
    bias = np.array([0.0] + [LUSH[use] + rng.normal(0, 0.7) for use in uses], np.float32)[label]
    bias = ndimage.uniform_filter(bias, round(2 / canvas.px) | 1)
    mottle = np.clip(canvas.patch * 0.6 + canvas.cloud * 0.5, -2.5, 2.5)
    green = soft((bias + style.lush + mottle) / 0.9)
    tint = rng.normal(0, (8, 5, 4), (len(uses) + 1, 3))
    whole = np.ones(canvas.shape, np.float32)
    canvas.blend(np.array(style.soil) + tint, whole, 0.1 * mottle + 0.07 * canvas.grain, label)
    canvas.blend(np.array(style.grass) + 0.8 * tint, green * 0.92, 0.12 * canvas.patch + 0.16 * canvas.grain, label)
    canvas.z += green * (0.05 * canvas.grain + 0.05 * canvas.patch)
    _crops(canvas, label, np.array([False] + [use == "field" for use in uses]))
    ponds = [(polygon, 0.3 * polygon.area**0.5) for polygon, use in canvas.plan.plots if use == "pond"]
    banks = [polygon.buffer(-round_m).buffer(0.85 * round_m) for polygon, round_m in ponds]
    water = ndimage.gaussian_filter((canvas.burn(banks) > 0).astype(np.float32), 2.5 / canvas.px)
    pond = soft((water + 0.12 * canvas.cloud + 0.05 * canvas.patch - 0.6) / 0.06) * (water > 0.05)
    canvas.blend((74 + 30 * rng.random(), 84 + 12 * rng.random(), 66), pond, 0.05 * canvas.cloud)
    canvas.z *= 1 - pond


def _crops(canvas: Canvas, label: np.ndarray, is_field: np.ndarray) -> None:
    """Crops in rows; every field has its own direction, spacing, colour and growth."""
    rng, n = canvas.rng, len(is_field)
    rows, cols = np.nonzero(is_field[label])
    which = label[rows, cols]
    angle = rng.normal(rng.uniform(0, np.pi), 0.5, n)
    waves = (2 * np.pi * canvas.px / rng.uniform(0.9, 2.2, n) * np.array([np.cos(angle), np.sin(angle)])).astype(
        np.float32
    )
    growth, contrast, strength = (
        rng.uniform(a, b, n).astype(np.float32) for a, b in ((-0.6, 0.9), (0.2, 1), (0.55, 1))
    )
    colours = np.array(CROPS)[rng.integers(0, len(CROPS), n)] + rng.normal(0, 8, (n, 3))
    ridge = np.sin(cols.astype(np.float32) * waves[0][which] + rows.astype(np.float32) * waves[1][which])
    alpha = np.zeros(canvas.shape, np.float32)
    alpha[rows, cols] = (
        soft((ridge * contrast[which] + growth[which] + 0.5 * canvas.patch[rows, cols]) / 0.8) * strength[which]
    )
    canvas.blend(colours, alpha, 0.1 * canvas.patch + 0.14 * canvas.grain, label)
    canvas.z += 0.3 * alpha


def _roads(canvas: Canvas) -> None:
    """Dirt with ragged edges and wheel tracks, asphalt with shoulders, lane marks on the widest."""
    rng, patch = canvas.rng, canvas.patch
    dirt = np.array(canvas.plan.style.soil) * 1.08 + 10
    for paved in (False, True):
        streets = [s for s in canvas.plan.streets if s.paved is paved]
        body = canvas.burn([s.line.buffer(s.width_m / 2 + (0.9 if paved else 0)) for s in streets]) > 0
        ragged = (ndimage.gaussian_filter(body.astype(np.float32), 0.6 / canvas.px) + 0.1 * patch - 0.5) / 0.2
        canvas.blend(dirt, soft(ragged) * 0.85, 0.1 * patch + 0.06 * canvas.grain)
        if paved:
            grey = rng.uniform(84, 128) + np.array([2, 1, rng.uniform(-4, 3)])
            core = canvas.burn([s.line.buffer(s.width_m / 2) for s in streets]) > 0
            texture = 0.06 * patch + 0.06 * canvas.cloud + 0.05 * canvas.grain
            canvas.blend(grey, core * soft(ragged + 1) * np.float32(0.95), texture)
        tracks = [s.line.buffer(s.width_m * 0.3).difference(s.line.buffer(s.width_m * 0.14)) for s in streets]
        canvas.blend(dirt * (0.75 if paved else 1.15), soft(patch + 0.5) * (canvas.burn(tracks) > 0) * np.float32(0.25))
    if rng.random() < 0.5:
        lines = [part for s in canvas.plan.streets if s.paved and s.width_m > 5.5 for part in get_parts(s.line)]
        dashes = [substring(line, at, at + 3).buffer(0.09) for line in lines for at in np.arange(0, line.length, 7)]
        canvas.blend((215, 212, 200), (canvas.burn(dashes) > 0) * soft(patch + 1) * np.float32(0.8))


def _cars(canvas: Canvas) -> None:
    """Cars along the streets, more where they are paved."""
    rng, bodies, glass = canvas.rng, list[Polygon](), list[Polygon]()
    for street in canvas.plan.streets:
        for line in get_parts(street.line):
            for at in rng.uniform(0, line.length, rng.poisson(line.length / (45 if street.paved else 160))):
                here, ahead = line.interpolate(at), line.interpolate(at + 1)
                angle = np.degrees(np.arctan2(ahead.y - here.y, ahead.x - here.x)) + rng.normal(0, 4)
                side, long = rng.choice([-1, 1]) * street.width_m * rng.uniform(0.2, 0.42), rng.uniform(3.6, 5.0)
                for pile, back, front, half in ((bodies, -0.5, 0.5, 0.88), (glass, 0.08, 0.24, 0.7)):
                    shape = box(back * long, side - half, front * long, side + half)
                    pile.append(affinity.translate(affinity.rotate(shape, angle, (0, 0)), here.x, here.y))
    label = canvas.burn(bodies)
    colours = np.array(((0, 0, 0), *CARS))[np.r_[0, rng.integers(1, len(CARS) + 1, len(bodies))]]
    canvas.blend(colours, (label > 0).astype(np.float32), 0.0, label)
    canvas.z[label > 0] = 1.4
    canvas.blend((40, 46, 52), (canvas.burn(glass) > 0) * np.float32(0.85))


def _litter(canvas: Canvas) -> None:
    """Small things about the yards: heaps, sacks, washing, sheds for hens."""
    rng, things = canvas.rng, list[Polygon]()
    rate = {"yard": 1 / rng.uniform(25, 250), "bare": 1 / 150}
    for polygon, use in canvas.plan.plots:
        west, south, east, north = polygon.bounds
        for x, y in rng.uniform((west, south), (east, north), (rng.poisson(rate.get(use, 0) * polygon.area), 2)):
            w, d = rng.uniform(0.15, 0.8, 2)
            things.append(affinity.rotate(box(x - w, y - d, x + w, y + d), rng.uniform(0, 90)))
    label, n = canvas.burn(things), len(things) + 1
    canvas.blend(rng.uniform(50, 225, (n, 1)) + rng.normal(0, 14, (n, 3)), (label > 0) * np.float32(0.75), 0.0, label)
    canvas.z += (np.r_[0, rng.uniform(0, 0.9, len(things))].astype(np.float32))[label]


def _fences(canvas: Canvas) -> None:
    """Walls or hedges around some of the plots, with gaps."""
    rng, share = canvas.rng, canvas.rng.uniform(0, 0.5)
    fenced = [p for p, use in canvas.plan.plots if use in ("yard", "green", "bare") and rng.random() < share]
    hedges = rng.random(len(fenced)) < rng.random() * (canvas.plan.style.lush > -0.3)
    grey = np.array((1, 0.97, 0.9)) * rng.uniform(120, 190)
    for hedge, half, tone, high in ((False, 0.13, grey, 1.8), (True, 0.5, np.array((74, 92, 48)), 1.3)):
        lines = [p.exterior.buffer(half) for p, is_hedge in zip(fenced, hedges, strict=True) if is_hedge == hedge]
        here = (canvas.burn(lines) > 0) & (canvas.patch > (-0.8 if hedge else -1.6))
        canvas.blend(tone, here * np.float32(0.9), 0.1 * canvas.patch + hedge * 0.2 * canvas.grain)
        canvas.z[here] = high + hedge * 0.2 * canvas.grain[here]


def _walls(canvas: Canvas) -> None:
    """House walls, seen where the view leans a little from the vertical: the roof drawn from the ground up."""
    rng, houses = canvas.rng, canvas.plan.houses
    lean = rng.normal(0, 0.05, 2)
    tones = rng.uniform(110, 205, (len(houses) + 1, 1)) + rng.normal(0, 7, (len(houses) + 1, 3))
    heights = np.array([0.0] + [house.height_m for house in houses], np.float32)
    for drop in (1.0, 0.75, 0.5, 0.25):
        label = canvas.burn([affinity.translate(h.roof, *(lean * h.height_m * drop)) for h in houses])
        canvas.blend(tones, (label > 0).astype(np.float32), 0.2 * canvas.patch - 0.1, label)
        canvas.z = np.where(label > 0, (heights * np.float32(1 - drop))[label], canvas.z)

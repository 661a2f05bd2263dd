"""Paints the plan of a town as an aerial photograph.

Everything is painted onto two surfaces at twice the final resolution: albedo (linear light) and height above ground.
They are lit by one sun, so that slopes, cast shadows and dim gaps between houses agree, and then photographed.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from shapely import Polygon, affinity, box, contains_xy, get_parts
from shapely.ops import substring

from townscape.canvas import Canvas, linear, photograph, shrink, soft
from townscape.plan import Plan, Rgb
from townscape.roofs import paint_roofs

CARS: tuple[Rgb, ...] = ((235, 235, 232), (190, 192, 194), (60, 62, 66), (150, 40, 38), (54, 80, 130), (210, 206, 196))
CROPS: tuple[Rgb, ...] = (
    (104, 122, 62), (126, 138, 76), (160, 146, 96), (74, 100, 54), (140, 118, 84), (168, 160, 110),
)  # fmt: skip
LUSH = {"yard": -0.7, "field": -1.0, "green": 1.4, "wood": 1.8, "bare": -2.4, "pond": 1.5}
"""Balance of soil (negative) and grass (positive) for each use of a plot."""
TREES_PER_M2 = {"yard": 1 / 260, "field": 1 / 2500, "green": 1 / 170, "wood": 1 / 26, "bare": 1 / 900, "pond": 0.0}
LEAVES = np.array([(70, 92, 46), (84, 104, 52), (58, 80, 44), (98, 112, 60), (78, 88, 58)], np.float32)


def paint(plan: Plan, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture, (3, H, W) uint8, and the share of each pixel painted as roof, (H, W) float32, 0 to 1."""
    canvas = Canvas(plan, rng)
    _ground(canvas)
    _roads(canvas)
    _cars(canvas)
    _litter(canvas)
    _fences(canvas)
    _walls(canvas)
    roofs = paint_roofs(canvas)
    _trees(canvas, roofs)
    return photograph(canvas), shrink((roofs > 0).astype(np.float32))


def _ground(canvas: Canvas) -> None:
    """Paint soil, grass, crops and ponds, each plot by its use."""
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
    """Paint crops in rows; every field has its own direction, spacing, colour and growth."""
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
    """Paint dirt roads with ragged edges and wheel tracks, asphalt with shoulders, lane marks on the widest."""
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
    """Paint cars along the streets, more where they are paved."""
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
    """Paint small things in the yards: heaps, sacks, washing, hen houses."""
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
    """Paint walls or hedges, with gaps, around some of the plots."""
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
    """Paint the walls of houses, visible as the view is a little oblique: the roof drawn from the ground up."""
    rng, houses = canvas.rng, canvas.plan.houses
    lean = rng.normal(0, 0.05, 2)
    tones = rng.uniform(110, 205, (len(houses) + 1, 1)) + rng.normal(0, 7, (len(houses) + 1, 3))
    heights = np.array([0.0] + [house.height_m for house in houses], np.float32)
    for drop in (1.0, 0.75, 0.5, 0.25):
        label = canvas.burn([affinity.translate(h.roof, *(lean * h.height_m * drop)) for h in houses])
        canvas.blend(tones, (label > 0).astype(np.float32), 0.2 * canvas.patch - 0.1, label)
        canvas.z = np.where(label > 0, (heights * np.float32(1 - drop))[label], canvas.z)


def _trees(canvas: Canvas, roofs: np.ndarray) -> None:
    """Plant every plot by its use; crowns may hang over a roof's edge, not its middle, and none stands in a street.

    Args:
        canvas: with everything else already on it.
        roofs: (h, w) int32, 0 where there is no roof.
    """
    rng, style = canvas.rng, canvas.plan.style
    street = canvas.burn([s.line.buffer(s.width_m / 2) for s in canvas.plan.streets]) > 0
    step = max(1, round(0.6 / canvas.px))
    free = roofs[::step, ::step] == 0
    room = ndimage.distance_transform_edt(free) * step * canvas.px if not free.all() else np.full(free.shape, np.inf)
    spread = rng.uniform(0.5, 1.5) * max(style.lush + 1.2, 0.4)
    for polygon, use in canvas.plan.plots:
        west, south, east, north = polygon.bounds
        number = rng.poisson(TREES_PER_M2[use] * spread * (east - west) * (north - south))
        xs, ys = rng.uniform(west, east, number), rng.uniform(south, north, number)
        radii = np.clip(rng.lognormal(0.65, 0.45, number), 0.6, 5.5)
        for x, y, radius in zip(xs, ys, radii, strict=True):
            row, col = int((canvas.top - y) / canvas.px), int(x / canvas.px)
            if not contains_xy(polygon, x, y) or not (0 <= row < canvas.shape[0] and 0 <= col < canvas.shape[1]):
                continue
            if not street[row, col] and room[row // step, col // step] > 0.75 * radius:
                tone = LEAVES[rng.integers(0, len(LEAVES))] + rng.normal(0, 6, 3)
                _crown(canvas, x, y, radius, tone, rng.random() < style.palms)


def _crown(canvas: Canvas, x: float, y: float, radius: float, tone: np.ndarray, palm: bool) -> None:
    """Paint the crown of one tree at (x, y) metres over everything lower."""
    rng, reach = canvas.rng, round(radius * 1.35 / canvas.px) + 1
    row, col = int((canvas.top - y) / canvas.px), int(x / canvas.px)
    window = (slice(max(0, row - reach), row + reach), slice(max(0, col - reach), col + reach))
    patch, grain, z = canvas.patch[window], canvas.grain[window], canvas.z[window]
    dx, dy = canvas.offsets(window, x, y)
    theta, phase = np.arctan2(dy, dx), rng.uniform(0, 2 * np.pi, 3)
    if palm:
        lobes = 0.25 + 0.95 * np.abs(np.cos(rng.integers(4, 7) * theta + phase[0])) ** 0.8
    else:
        lobes = 1 + sum(a * np.sin(n * theta + p) for a, n, p in zip((0.12, 0.08, 0.05), (3, 5, 9), phase, strict=True))
    out = np.hypot(dx, dy) / (radius * lobes) + 0.1 * patch
    dome = min(1.2 + 1.5 * radius, 9.0) * (0.45 + 0.55 * np.sqrt(np.clip(1 - out**2, 0, 1)))
    dome += 0.28 * patch + 0.16 * grain
    over = (out < 1) & (dome > z)
    texture = np.clip(1 + 0.22 * patch + 0.2 * grain, 0.3, 2)[..., None]
    canvas.rgb[window][over] = (linear(tone) * texture)[over]
    z[over] = dome[over]

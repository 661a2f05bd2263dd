"""Trees: crowns with lobes and hollows, palms, bushes."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from shapely import contains_xy

from hybridseg.demo.canvas import Canvas, linear

PER_M2 = {"yard": 1 / 260, "field": 1 / 2500, "green": 1 / 170, "wood": 1 / 26, "bare": 1 / 900, "pond": 0.0}
LEAVES = np.array([(70, 92, 46), (84, 104, 52), (58, 80, 44), (98, 112, 60), (78, 88, 58)], np.float32)


def paint_trees(canvas: Canvas, roofs: np.ndarray) -> None:
    """Plant every plot by its use. A crown may hang over a roof's edge, never over its middle; none stands in a street.

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
        number = rng.poisson(PER_M2[use] * spread * (east - west) * (north - south))
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
    """One tree at (x, y) m, its dome hiding what is lower."""
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

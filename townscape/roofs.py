"""Paints roofs: their covering, their slopes and the things that stand on them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from townscape.canvas import Canvas, linear, soft
from townscape.plan import House, Rgb

ROOFS: dict[str, tuple[Rgb, ...]] = {
    "metal": ((176, 178, 176), (150, 154, 156), (196, 196, 190), (160, 152, 140), (205, 204, 200)),
    "rust": ((150, 92, 66), (128, 84, 62), (164, 118, 86), (140, 104, 84)),
    "tile": ((164, 88, 62), (148, 78, 58), (178, 108, 76), (122, 80, 66)),
    "concrete": ((158, 152, 142), (140, 136, 130), (176, 168, 154), (124, 120, 114), (188, 180, 168)),
    "blue": ((58, 112, 172), (74, 132, 186), (62, 94, 140)),
    "green": ((86, 128, 104), (70, 108, 84), (110, 148, 132)),
    "red": ((158, 58, 56), (176, 76, 72), (138, 56, 50)),
    "white": ((226, 225, 220), (212, 212, 208)),
    "thatch": ((134, 116, 88), (116, 100, 80), (150, 132, 100)),
    "shingle": ((104, 100, 98), (120, 108, 98), (88, 86, 88), (132, 120, 108)),
}
"""Colours of each roof material, sRGB."""
SHEET = ("metal", "rust", "blue", "green", "red", "white")
CLUTTER: tuple[Rgb, ...] = ((38, 38, 40), (70, 120, 96), (210, 210, 208), (60, 100, 160), (150, 90, 60), (70, 100, 50))


def paint_roofs(canvas: Canvas) -> np.ndarray:
    """Paint every roof; return whose roof each pixel is, (h, w) int32: 1 + the index of the house, 0 for none."""
    houses = canvas.plan.houses
    label = canvas.burn([house.roof for house in houses])
    for i, (house, window) in enumerate(zip(houses, ndimage.find_objects(label, len(houses)), strict=True)):
        if window is not None:
            _paint(canvas, house, window, label[window] == i + 1)
    return label


def _paint(canvas: Canvas, house: House, window: tuple[slice, slice], mask: np.ndarray) -> None:
    """Paint one roof on the pixels of `mask`, which covers the window."""
    rng, (x, y, angle) = canvas.rng, house.frame
    dx, dy = canvas.offsets(window, x, y)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = dx * c + dy * s, dy * c - dx * s
    rise, along, down = _slopes(house, u, v, float(rng.uniform(0.2, 0.62)))
    z = house.height_m + rise
    tones = ROOFS[house.material]
    tone = np.array(tones[rng.integers(0, len(tones))]) * rng.normal(1, 0.07) + rng.normal(0, 3, 3)
    albedo = linear(np.clip(tone, 12, 245)) * _cover(canvas, house, window, along, down)[..., None]
    if house.material in SHEET and rng.random() < (1.0 if house.material == "rust" else 0.45):
        rust = soft((canvas.patch[window] + 0.6 * canvas.cloud[window] + rng.normal(-0.6, 0.9)) / 0.9)
        albedo += (linear((126, 78, 52)) - albedo) * (rust * rng.uniform(0.3, 0.85))[..., None]
    if house.form == "flat":
        rim = mask & ~ndimage.binary_erosion(mask, iterations=max(1, round(0.25 / canvas.px)), border_value=1)
        z = z + rim * rng.uniform(0, 0.9)
        albedo *= np.where(rim, rng.uniform(0.85, 1.45), 1.0)[..., None]
    inner = ndimage.binary_erosion(mask, iterations=max(1, round(0.3 / canvas.px)))
    _clutter(house, u, v, inner, z, albedo, rng)
    canvas.rgb[window][mask] = np.clip(albedo, 0, 0.95)[mask]
    canvas.z[window][mask] = z[mask]


def _cover(
    canvas: Canvas, house: House, window: tuple[slice, slice], along: np.ndarray, down: np.ndarray
) -> np.ndarray:
    """Return the relative brightness of a roof's covering, (h, w): sheets and seams, courses of tile, stains."""
    rng, patch, grain = canvas.rng, canvas.patch[window], canvas.grain[window]
    if house.material in SHEET:
        wide, tall = rng.uniform(0.75, 1.1), rng.uniform(1.8, 3.6)
        sheets = rng.normal(1, rng.uniform(0.01, 0.11), (61, 61))  # each laid sheet has aged in its own way
        each = sheets[(along // wide).astype(int) % 61, (down // tall).astype(int) % 61]
        return np.asarray(each * (1 + rng.uniform(0, 0.09) * np.sin(2 * np.pi * along / wide)) + 0.03 * patch)
    if house.material in ("tile", "shingle"):
        return np.asarray(1 + 0.06 * np.sin(2 * np.pi * down / 0.62) + 0.07 * grain + 0.07 * patch)
    if house.material == "thatch":
        return np.asarray(1 + 0.14 * grain + 0.12 * patch)
    return np.asarray(1 + rng.uniform(0.05, 0.16) * patch + rng.uniform(0, 0.12) * canvas.cloud[window] + 0.04 * grain)


def _clutter(
    house: House, u: np.ndarray, v: np.ndarray, inner: np.ndarray, z: np.ndarray, rgb: np.ndarray,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Put stair heads, tanks, panels and washing on flat roofs, odd sheets on metal ones, changing z and rgb."""
    flat, spots, area = house.form == "flat", np.argwhere(inner), house.roof.area
    things = rng.poisson(min(area / 16, 9) if flat else min(area / 45, 4) * (house.material in SHEET))
    for k in range(things if len(spots) else 0):
        r, c = spots[rng.integers(len(spots))]
        w, d, high = rng.uniform(0.5, 1.9), rng.uniform(0.5, 2.6), float(rng.choice((0.05, 0.3, 1.3))) * flat
        if flat and k == 0 and area > 45:  # the stair head
            w, d, high, tone = w + 1.5, d + 1.5, 2.3, np.array(ROOFS["concrete"][0]) * rng.uniform(0.85, 1.2)
        elif flat:
            tone = np.array(CLUTTER[rng.integers(0, len(CLUTTER))])
        else:
            tone = np.array(ROOFS[str(rng.choice(("metal", "metal", "rust", "blue", "white")))][0])
        a, b = u - u[r, c], v - v[r, c]
        tank = 1 < high < 2 and rng.random() < 0.6
        here = inner & ((np.hypot(a, b) < w / 2) if tank else (abs(a) < w / 2) & (abs(b) < d / 2))
        z[here] += high
        rgb[here] = linear(tone) * (1 + 0.1 * rng.standard_normal())


def _slopes(house: House, u: np.ndarray, v: np.ndarray, pitch: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rise above the eaves, and how far along the ridge and down the slope a point is (m)."""
    rise, along, down = np.full(u.shape, -1, np.float32), u, v
    if house.form == "flat":
        return np.zeros(u.shape, np.float32), along, down
    if house.form == "cone":
        reach = np.hypot(u, v)
        return (house.wings[0][2] / 2 - reach) * pitch, np.arctan2(v, u) * 3, reach
    for x, y, w, d in house.wings:
        a, b, half, other = (u - x, v - y, d / 2, w / 2) if w >= d else (v - y, u - x, w / 2, d / 2)
        inside = (abs(a) <= other + 0.3) & (abs(b) <= half + 0.3)
        if house.form == "mono":
            here = (b + half) * pitch * 0.4
        else:
            fall = half - abs(b)
            here = np.minimum(fall, other - abs(a)) * pitch if house.form == "hip" else fall * pitch
        win = inside & (here > rise)
        rise, along, down = np.where(win, here, rise), np.where(win, a, along), np.where(win, b, down)
    return np.maximum(rise, 0), along, down

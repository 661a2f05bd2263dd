"""Light and camera: from albedo and heights to a photograph."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from hybridseg.demo.canvas import Canvas, shrink, soft


def photograph(canvas: Canvas) -> np.ndarray:
    """Light the scene, then take the picture: (3, H, W) uint8."""
    return _develop(shrink(_lit(canvas)), canvas.rng)


def _lit(canvas: Canvas) -> np.ndarray:
    """Light that leaves each point, (h, w, 3): from one sun, shaded by slope and cast shadow, and from the blue sky."""
    rng, z = canvas.rng, canvas.z
    azimuth, rise = rng.uniform(0, 2 * np.pi), float(np.tan(np.radians(rng.uniform(32, 66))))
    east, south = float(np.sin(azimuth)), -float(np.cos(azimuth))  # towards the sun, a step along columns and rows
    gy, gx = (np.clip(slope, -1.1, 1.1) for slope in np.gradient(z, canvas.px))
    facing = (1 - (gx * east + gy * south) / rise) / np.sqrt(1 + gx**2 + gy**2)
    direct = rng.uniform(0.4, 0.9)
    sun = np.clip(facing, 0, 1.6) * (1 - _shadow(z, (south, east), rise * canvas.px)) * np.float32(direct)
    around = ndimage.gaussian_filter(z[::2, ::2], 0.8 / canvas.px).repeat(2, 0).repeat(2, 1)
    sky = (1 - np.clip((around - z) / 4, 0, 0.7)) * np.float32(1 - direct)  # little of it reaches narrow gaps
    haze = 1 + 0.04 * canvas.cloud
    light = [(sun * warm + sky * cool) * haze for warm, cool in ((1.03, 0.96), (1.0, 1.05), (0.94, 1.17))]
    return np.asarray(canvas.rgb * np.stack(light, axis=2))


def _shadow(z: np.ndarray, towards: tuple[float, float], drop: float) -> np.ndarray:
    """0 in the sun to 1 in shadow: how far each point lies under what stands `towards` the sun (rows, cols).

    A shadow's edge falls by `drop` metres a pixel. The reach doubles with each pass, so few passes see every caster.
    """
    top, reach = z.copy(), 1.0
    h, w = z.shape
    while reach * drop < float(z.max()):
        dr, dc = round(towards[0] * reach), round(towards[1] * reach)
        if min(h - abs(dr), w - abs(dc)) <= 0:
            break
        here = (slice(max(0, -dr), min(h, h - dr)), slice(max(0, -dc), min(w, w - dc)))
        there = (slice(max(0, dr), min(h, h + dr)), slice(max(0, dc), min(w, w + dc)))
        higher = top.copy()
        higher[here] = np.maximum(top[here], top[there] - np.float32(np.hypot(dr, dc) * drop))
        top, reach = higher, reach * 2
    return soft((top - z - 0.35) / 0.3)


def _develop(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A camera: exposure, colour cast, haze, tone, blur, noise and perhaps JPEG. (H, W, 3) to (3, H, W) uint8."""
    light = light * np.clip(rng.uniform(0.14, 0.26) / light.mean(), 0.6, 1.8)
    light = light * rng.normal(1, 0.03, 3) + rng.uniform(0, 0.03) * np.array([0.9, 1.0, 1.1])
    tone = np.clip(light / (1 + 0.25 * light**2), 0, 1) ** (1 / rng.uniform(2.0, 2.4))
    tone += (tone - tone.mean(axis=2, keepdims=True)) * rng.uniform(-0.4, 0.1)
    blur = rng.uniform(0.5, 0.85)
    seen = ndimage.gaussian_filter(tone.astype(np.float32) * 255, (blur, blur, 0))
    noise = rng.standard_normal(seen.shape, np.float32)
    seen += (noise + 1.5 * ndimage.gaussian_filter(noise[::-1], (0.6, 0.6, 0))) * rng.uniform(0.8, 2.6)
    image = np.clip(np.round(seen), 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(rng.integers(72, 95)))
        image = np.asarray(Image.open(file))
    return np.ascontiguousarray(np.moveaxis(image, 2, 0))

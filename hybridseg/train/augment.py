"""Changes of light and sensor that a label does not mind; the same for every training."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import ndimage as ndi

GAIN = (0.95, 1.05)
"""Of each measured band alone."""


def recolour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 under another light: contrast, brightness, gamma, colour cast, saturation, haze, blur, noise.

    Of (H, W, B) float32, bands as measured, each gets a mild gain and no more: what they are to each other tells things
    apart, and the correction for the atmosphere has taken out most of what light does.
    """
    if image.dtype != np.uint8:
        return image * np.float32(rng.uniform(GAIN[0], GAIN[1], image.shape[2]))
    x = image.astype(np.float32) / 255
    x = x ** rng.uniform(0.7, 1.4)
    x = (x - x.mean()) * rng.uniform(0.6, 1.4) + x.mean() + rng.uniform(-0.12, 0.12)
    x = x * rng.uniform(0.85, 1.15, 3).astype(np.float32)
    grey = x.mean(axis=2, keepdims=True)
    x = grey + (x - grey) * rng.choice([0.0, 1.0], p=[0.08, 0.92]) * rng.uniform(0.4, 1.5)
    if rng.random() < 0.08:
        x = x[:, :, rng.permutation(3)]
    if rng.random() < 0.3:
        x = ndi.gaussian_filter(x, (*[rng.uniform(0.3, 1.1)] * 2, 0))
    if rng.random() < 0.4:
        x = x + rng.normal(0, rng.uniform(0.005, 0.035), x.shape)
    return (np.clip(x, 0, 1) * 255).astype(np.uint8)


def degrade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 as other sensors and services give it: coarser pixels enlarged again, haze, JPEG; each at times.

    Images of measured bands come back as they are.
    """
    if image.dtype != np.uint8:
        return image
    if rng.random() < 0.3:
        image = _coarser(image, rng.uniform(1.2, 2.4))
    if rng.random() < 0.15:
        image = _hazy(image, rng)
    if rng.random() < 0.3:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(rng.integers(25, 90)))
        image = np.asarray(Image.open(file))
    return image


def _coarser(image: np.ndarray, factor: float) -> np.ndarray:
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((round(width / factor), round(height / factor)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def _hazy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blended with a pale colour, more in some parts than in others."""
    veil = rng.uniform(0.1, 0.5) * clouds(image.shape[:2], rng)[..., None]
    colour = rng.uniform(150, 230) + rng.uniform(-10, 10, 3)
    return (image * (1 - veil) + colour * veil).astype(np.uint8)


def clouds(shape: tuple[int, int], rng: np.random.Generator, cells: int = 4) -> np.ndarray:
    """(H, W) float32 in [0, 1] that changes slowly: `cells` random values a side, smoothly enlarged."""
    coarse = Image.fromarray(rng.random((cells, cells)).astype(np.float32))
    return np.clip(np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC)), 0, 1)


def turn(array: np.ndarray, quarters: int, mirror: bool) -> np.ndarray:
    """An (H, W, ...) array after so many quarter turns, mirrored or not."""
    turned = np.rot90(array, quarters)
    return np.ascontiguousarray(turned[:, ::-1] if mirror else turned)

"""Changes of light and sensor that a label does not mind; the same for both trainings."""

from __future__ import annotations

import numpy as np
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


def turn(array: np.ndarray, quarters: int, mirror: bool) -> np.ndarray:
    """An (H, W, ...) array after so many quarter turns, mirrored or not."""
    turned = np.rot90(array, quarters)
    return np.ascontiguousarray(turned[:, ::-1] if mirror else turned)

"""Labelled images in memory, and what may be done to them: other scales, turns, other light."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from scipy import ndimage as ndi

BAND_GAIN = (0.95, 1.05)
"""Range of the random gain of each measured band."""


@dataclass(frozen=True)
class LabelledImage:
    """One image with the objects of some classes."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB, or (H, W, B) float32 bands as measured."""
    objects: Mapping[str, np.ndarray]
    """Class to (H, W) int32 ids, 0 for none; classes that are missing here are unknown, not absent."""
    valid: np.ndarray
    """(H, W) bool, False where nothing is known."""
    gsd_m: float
    dataset: str
    name: str

    @property
    def instances(self) -> np.ndarray:
        """All objects in one (H, W) int32 layer; where classes overlap, the last wins."""
        layers = list(self.objects.values())
        merged = layers[0]
        for layer in layers[1:]:
            merged = np.where(layer > 0, layer + merged.max(), merged)
        return merged

    def at_gsd(self, gsd_m: float) -> LabelledImage:
        """Return the image at another ground sampling distance: pixels smoothed, labels nearest."""
        k = self.gsd_m / gsd_m
        size = (max(1, round(self.image.shape[1] * k)), max(1, round(self.image.shape[0] * k)))
        return replace(
            self,
            image=by_band(self.image, lambda band: band.resize(size, Image.Resampling.BILINEAR)),
            objects={name: resize_labels(layer, size) for name, layer in self.objects.items()},
            valid=np.asarray(Image.fromarray(self.valid).resize(size, Image.Resampling.NEAREST)),
            gsd_m=gsd_m,
        )

    def seen_at(self, gsd_m: float) -> LabelledImage:
        """Return the image as a sensor of a coarser GSD gives it, on the same pixels; labels stay as they are."""
        height, width = self.image.shape[:2]
        size = tuple(max(1, round(side * self.gsd_m / gsd_m)) for side in (width, height))
        small = by_band(self.image, lambda band: band.resize(size, Image.Resampling.BOX))
        return replace(self, image=by_band(small, lambda band: band.resize((width, height), Image.Resampling.BICUBIC)))


def by_band(image: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Apply a change of PIL images to an (H, W) or (H, W, B) array; PIL takes several bands at once in RGB only."""
    if image.ndim == 2 or image.dtype == np.uint8:
        return np.asarray(change(Image.fromarray(image)))
    return np.stack([np.asarray(change(Image.fromarray(band))) for band in np.moveaxis(image, 2, 0)], axis=2)


def resize_labels(
    labels: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Resize (H, W) int32 labels, or the part of them in `box`, to (width, height) px by nearest neighbour."""
    return np.asarray(Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST, box=box))


def depth(instances: np.ndarray) -> np.ndarray:
    """Return how deep each pixel lies in its object: 0 at the border, 1 at the deepest pixel; (H, W) float32."""
    if not instances.any():  # many data sets are known to hold none of a class
        return np.zeros(instances.shape, np.float32)
    edge = np.zeros(instances.shape, bool)
    for axis in (0, 1):
        step = np.diff(instances, axis=axis) != 0
        edge |= np.pad(step, [(1, 0) if a == axis else (0, 0) for a in (0, 1)])
        edge |= np.pad(step, [(0, 1) if a == axis else (0, 0) for a in (0, 1)])
    distance = ndi.distance_transform_edt(~edge) * (instances > 0)
    deepest = np.zeros(int(instances.max()) + 1)
    np.maximum.at(deepest, instances.ravel(), distance.ravel())
    return (distance / np.maximum(deepest[instances], 1)).astype(np.float32)


def recolour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an image as another sensor would see it in another light, of the same shape and type.

    (H, W, 3) uint8 gets another contrast, brightness, gamma, colour cast, saturation, haze, blur and noise. Each band
    of (H, W, B) float32 gets a mild gain and no more: the ratios of measured bands tell things apart, and the
    correction for the atmosphere has removed most of the light's effect.
    """
    if image.dtype != np.uint8:
        return image * np.float32(rng.uniform(BAND_GAIN[0], BAND_GAIN[1], image.shape[2]))
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
    """Return an (H, W, ...) array after `quarters` quarter turns, then mirrored if asked."""
    turned = np.rot90(array, quarters)
    return np.ascontiguousarray(turned[:, ::-1] if mirror else turned)

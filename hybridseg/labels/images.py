"""Labelled images in memory, and changes that leave their labels true: scale, turns, light, shade, water, cars."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
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
        return replace(self, image=_coarser(self.image, gsd_m / self.gsd_m))


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


WATERS = np.array(
    [
        (0.45, 0.36, 0.24),  # silt
        (0.60, 0.52, 0.40),
        (0.36, 0.32, 0.22),
        (0.22, 0.34, 0.14),  # algae
        (0.34, 0.42, 0.22),
        (0.05, 0.09, 0.13),  # deep
        (0.12, 0.20, 0.22),
        (0.15, 0.30, 0.45),
        (0.30, 0.58, 0.60),  # shallow
        (0.45, 0.50, 0.52),  # under a grey sky
    ]
)
"""Colours of water, from photographs of lakes and rivers; red, green, blue in [0, 1]."""
MACHINES_M = {"car": (4.4, 1.8), "van": (6.0, 2.2), "container": (12.0, 2.4), "boat": (8.0, 2.6)}
GREYS, HUES = (0.9, 0.75, 0.5, 0.12), ((0.6, 0.1, 0.1), (0.15, 0.25, 0.55), (0.7, 0.35, 0.1))
PAINT = np.array([*((grey,) * 3 for grey in GREYS), *HUES])


def shade_sides(image: np.ndarray, instances: np.ndarray, rng: np.random.Generator, share: float = 0.5) -> np.ndarray:
    """Darken one side of some objects, as of roofs whose one plane lies in the sun and the other in shade.

    The edge runs near an object's middle, along its long axis or across; all sides away from one sun grow darker.

    Args:
        image: (H, W, 3) uint8.
        instances: (H, W) ids, 0 none.
        rng: random numbers.
        share: of the objects that change.
    """
    ids, flat = np.unique(instances, return_inverse=True)
    flat = flat.reshape(instances.shape)
    count = len(ids)
    grid = np.indices(instances.shape).astype(np.float32)
    rows, cols = grid[0], grid[1]
    area = np.bincount(flat.ravel(), minlength=count)

    def mean(values: Any) -> np.ndarray:
        return np.bincount(flat.ravel(), values.ravel(), minlength=count) / area

    dy: np.ndarray = rows - mean(rows)[flat]
    dx: np.ndarray = cols - mean(cols)[flat]
    axis = 0.5 * np.arctan2(2 * mean(dy * dx), mean(dx * dx) - mean(dy * dy))
    ridge = axis + np.where(rng.random(count) < 0.7, 0, np.pi / 2) + rng.normal(0, 0.05, count)
    across = np.stack([-np.sin(ridge), np.cos(ridge)])  # x and y of the normal
    sun = rng.uniform(0, 2 * np.pi)
    across = across * np.where(across[0] * np.cos(sun) + across[1] * np.sin(sun) < 0, -1, 1)
    shift = rng.uniform(-0.15, 0.15, count) * np.sqrt(area)
    lit = dx * across[0][flat] + dy * across[1][flat] > shift[flat]
    chosen = (rng.random(count) < share) & (ids > 0)
    dark = np.where(chosen, rng.uniform(0.4, 0.9, count), 1)
    bright = np.where(chosen, rng.uniform(1.0, 1.2, count), 1)
    gain = np.where(lit, bright[flat], dark[flat])[..., None]
    return np.clip(image * gain, 0, 255).astype(np.uint8)


def dye_water(image: np.ndarray, water: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give water another colour: silt, algae in patches, depth, a grey sky, and at times the sun's glint.

    Args:
        image: (H, W, 3) uint8.
        water: (H, W) float32, share of water of each pixel.
        rng: random numbers.
    """
    x = image.astype(np.float32) / 255
    texture = x - ndi.gaussian_filter(x, (4, 4, 0))
    first, second = (WATERS[rng.integers(len(WATERS))] + rng.normal(0, 0.04, 3) for _ in range(2))
    where = clouds(image.shape[:2], rng, int(rng.integers(2, 12)))[..., None]
    steep = rng.choice([0.5, 1.0, 6.0])  # patches with a border, or one colour going over into the other
    where = np.clip((where - 0.5) * steep + rng.uniform(0.1, 0.9), 0, 1)
    colour = (first * where + second * (1 - where)) * rng.uniform(0.5, 1.3) + texture * rng.uniform(0, 1.2)
    if rng.random() < 0.35:
        ripples = ndi.gaussian_filter(rng.normal(0, 1, image.shape[:2]), rng.uniform(0.4, 2.0, 2))
        bright = np.clip(ripples / ripples.std() - rng.uniform(-0.5, 1.5), 0, 3)
        colour = colour + (rng.uniform(0.05, 0.4) * bright * clouds(image.shape[:2], rng))[..., None]
    share = (rng.uniform(0.5, 1.0) * water)[..., None]
    return (np.clip(x * (1 - share) + colour * share, 0, 1) * 255).astype(np.uint8)


def park(image: np.ndarray, free: np.ndarray, pixel_m: float, rng: np.random.Generator) -> np.ndarray:
    """Put cars, vans, containers and boats on the ground, alone and in rows.

    Args:
        image: (H, W, 3) uint8.
        free: (H, W) bool, ground that is known to hold no object.
        pixel_m: side of a pixel.
        rng: random numbers.
    """
    height, width = free.shape
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(1, 12))):
        length, breadth = MACHINES_M[str(rng.choice(list(MACHINES_M), p=[0.6, 0.15, 0.15, 0.1]))]
        angle, middle = rng.uniform(0, np.pi), rng.uniform((0, 0), (width, height))
        along = np.array([np.cos(angle), np.sin(angle)])
        side = np.array([-along[1], along[0]])
        for k in range(int(rng.choice([1, 2, 6], p=[0.5, 0.3, 0.2]))):
            paint = PAINT[rng.integers(len(PAINT))] * 255 * rng.uniform(0.8, 1.1)
            at = middle + side * k * (breadth + rng.uniform(0.4, 0.9)) / pixel_m
            _machine(draw, at, along * length / pixel_m, side * breadth / pixel_m, paint, glass=length < 7)
    return np.where(free[..., None], np.asarray(canvas), image)


def _machine(
    draw: ImageDraw.ImageDraw, at: np.ndarray, along: np.ndarray, side: np.ndarray, paint: np.ndarray, glass: bool
) -> None:
    """A rectangle with its shadow, and dark windows at a third of its length from both ends."""

    def box(first: float, last: float, half: float, colour: np.ndarray, shift: float = 0.0) -> None:
        ends = ((first, -half), (last, -half), (last, half), (first, half))
        corners = [at + along * a + side * (b + shift) for a, b in ends]
        draw.polygon([tuple(map(float, c)) for c in corners], fill=tuple(int(np.clip(v, 0, 255)) for v in colour))

    box(-0.5, 0.5, 0.5, np.full(3, 30.0), shift=0.25)
    box(-0.5, 0.5, 0.5, paint)
    if glass:
        box(0.12, 0.25, 0.4, np.full(3, 40.0))
        box(-0.38, -0.28, 0.4, np.full(3, 40.0))


def degrade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (H, W, 3) uint8 as other sensors give it: coarser pixels enlarged again, haze, JPEG; each at times.

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
    """The image in pixels that are so many times as large, enlarged again."""
    size = image.shape[1::-1]
    less = tuple(max(1, round(side / factor)) for side in size)
    small = by_band(image, lambda band: band.resize(less, Image.Resampling.BOX))
    return by_band(small, lambda band: band.resize(size, Image.Resampling.BICUBIC))


def _hazy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image blended with a pale colour, more in some parts than in others."""
    veil = rng.uniform(0.1, 0.5) * clouds(image.shape[:2], rng)[..., None]
    colour = rng.uniform(150, 230) + rng.uniform(-10, 10, 3)
    return (image * (1 - veil) + colour * veil).astype(np.uint8)


def clouds(shape: tuple[int, int], rng: np.random.Generator, cells: int = 4) -> np.ndarray:
    """Return (H, W) float32 in [0, 1] that changes slowly: `cells` random values a side, smoothly enlarged."""
    coarse = Image.fromarray(rng.random((cells, cells)).astype(np.float32))
    return np.clip(np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC)), 0, 1)

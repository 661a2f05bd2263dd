"""Chips for networks that are tested alone."""

from __future__ import annotations

import numpy as np

from hybridseg.types import Chip
from tests.conftest import geobox


def chip_of(pixels: np.ndarray) -> Chip:
    """Square pixels (3, S, S) uint8, all valid, at 0.5 m somewhere in Nepal."""
    side = pixels.shape[1]
    return Chip(pixels, np.ones((side, side), bool), geobox(side))


def random_chip(seed: int = 0, side: int = 512) -> Chip:
    return chip_of(np.random.default_rng(seed).integers(0, 255, (3, side, side), np.uint8))


def blocks_chip(side: int = 512) -> Chip:
    """Bright blocks on dark ground, for prompts that have an answer."""
    pixels = np.full((3, side, side), 60, np.uint8)
    for y, x, h, w in ((60, 60, 80, 120), (60, 300, 100, 80), (300, 80, 60, 60), (350, 260, 120, 160)):
        pixels[:, y : y + h, x : x + w] = np.array([200, 120, 90])[:, None, None]
    return chip_of(pixels)

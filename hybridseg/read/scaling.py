"""Whether a raster's values can be what a network was trained on: a wrong unit gives a wrong map without a word."""

from __future__ import annotations

import numpy as np

from hybridseg.errors import BandsMissing
from hybridseg.read.source import Source

REFLECTANCE = "reflectance x 10000"
"""Sentinel-2 and HLS as they are delivered: 10000 is a surface that gives back all light."""
LEAST = 2.0
"""Reflectance from 0 to 1 stays below this but for glints; times 10000, no scene does."""


def check_scaling(source: Source, scaling: str, who: str) -> Source:
    """The source, unless its values are plainly in another unit.

    Args:
        source: raw (see `Source.raw`).
        scaling: what is wanted, in words; only reflectance x 10000 can be told.
        who: wants it, for the message.

    Raises:
        BandsMissing: the raster has 8 bits, or values as of reflectance from 0 to 1.
    """
    if scaling != REFLECTANCE:
        return source
    if source.dtype.itemsize == 1:
        raise BandsMissing(
            f"{who}; {source.path} holds {source.dtype.name}: give the scene as it is delivered, before any stretch"
        )
    pixels, valid = source.sample()
    most = float(np.max(pixels[:, valid]))
    if most <= LEAST:
        raise BandsMissing(
            f"{who}; the values of {source.path} reach {most:.3g} only, as reflectance from 0 to 1 does: "
            "multiply them by 10000"
        )
    return source

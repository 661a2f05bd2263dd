"""A heatmap that another model made: it stands in for the classifier, and is read window by window as it would."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader

from hybridseg.errors import SourceError
from hybridseg.heatmap import DEPTH_PX, PARTS, depth_of
from hybridseg.read.ground import own_pixels
from hybridseg.read.raster import RasterScene, north_up
from hybridseg.read.scene import Scene
from hybridseg.types import METADATA_KEY, Extent, NetworkSpec

_BEYOND = 1e-3
"""Probabilities may leave 0 to 1 by so much: resampling overshoots."""


@dataclass(frozen=True)
class GivenHeatmap:
    """Probabilities in a raster, as a network (`classify.Network`) that need only be read. Made by `open_heatmap`.

    scene: the raster's bands as stored, north-up in the CRS of the imagery.
    classes: whose probabilities they are.
    parts: for each class the places of extent and interior among the scene's bands; without interior it is derived.
    scale, offset: stored values to probabilities, of each band.
    made_by: sha256 of the weights that made it, where that is known.
    card: of the model that made it.
    owner: keeps a file that the scene reads.
    """

    scene: Scene
    classes: tuple[str, ...]
    parts: tuple[tuple[int, int | None], ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    made_by: str | None = None
    card: Mapping[str, Any] = field(default_factory=dict, compare=False)
    owner: object = field(default=None, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without its owner, which stays where the file is kept."""
        made_of = (self.scene, self.classes, self.parts, self.scale, self.offset, self.made_by, self.card)
        return GivenHeatmap, made_of

    @property
    def name(self) -> str:
        """For messages and provenance."""
        return self.scene.name

    @property
    def sha256(self) -> str:
        """Of its content and place."""
        return self.scene.fingerprint

    @property
    def runners(self) -> tuple[()]:
        """Nothing computes it."""
        return ()

    @property
    def spec(self) -> NetworkSpec:
        """What it takes and gives."""
        derived = any(interior is None for _, interior in self.parts)
        return NetworkSpec(self.classes, 1, 1, None, inf, halo_px=DEPTH_PX if derived else 0)

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return (2 x classes, H, W) of the stored values of a window, (bands, H, W) float32."""
        scale, offset = (np.array(v, np.float32)[:, None, None] for v in (self.scale, self.offset))
        values = np.clip(pixels * scale + offset, 0, 1)
        found = []
        for extent, interior in self.parts:
            found += [values[extent], depth_of(values[extent]) if interior is None else values[interior]]
        return np.stack(found)

    def grid_over(self, bounds: Extent) -> GeoBox:
        """Return its own pixels that cover a rectangle (left, bottom, right, top), as far as it reaches.

        Raises:
            EmptySource: it lies beside the rectangle.
        """
        return own_pixels(self.scene.geobox, bounds, f"the heatmap {self.name}")


def open_heatmap(path: str | Path, crs: CRS, wanted: Mapping[str, Sequence[str]], owner: Any) -> GivenHeatmap:
    """Open a raster of probabilities, on any grid and in any CRS.

    Bytes are 0 to 255, floats 0 to 1, whatever else the band's scale says. Descriptions name the classes: `building`,
    or `building:extent` and `building:interior`; a single band needs none.

    Args:
        path: of the raster.
        crs: of the imagery; a heatmap in another one is warped to it.
        wanted: classes looked for, each with other words that may name it.
        owner: has a `folder`, which is there as long as it is, for what is to be warped.

    Raises:
        SourceError: it cannot be opened, has no band of a class, or its values are no probabilities.
    """
    seen = RasterScene.open(path, bands=(1,))
    with _opened(path, seen.name) as raster:
        numbers = {label: _bands_of(raster, label, names, seen.name, len(wanted)) for label, names in wanted.items()}
        chosen = list(dict.fromkeys(n for pair in numbers.values() for n in pair if n is not None))
        scale, offset = zip(*(_scale(raster, number, seen.name) for number in chosen), strict=True)
        made_by = _made_by(raster)
        seen = north_up(seen, raster, crs, owner.folder / "heatmap-warped.vrt")
    parts = tuple((chosen.index(e), None if i is None else chosen.index(i)) for e, i in numbers.values())
    raw = seen.raw(chosen)
    made = GivenHeatmap(raw, tuple(wanted), parts, scale, offset, made_by, owner=owner)
    _check_values(made, raw)
    return made


@contextmanager
def _opened(path: str | Path, name: str) -> Iterator[DatasetReader]:
    try:
        with rasterio.open(path) as raster:
            yield raster
    except RasterioError as error:
        raise SourceError(f"the heatmap {name} cannot be read: {' '.join(str(error).split())}; make it anew") from error


def _bands_of(
    raster: DatasetReader, label: str, names: Sequence[str], name: str, classes: int
) -> tuple[int, int | None]:
    """1-based numbers of a class's extent and interior."""
    words = [(text or "").strip().casefold() for text in raster.descriptions]
    called = {word: i for i, word in reversed([*enumerate(words, 1)]) if word}
    for own in (label, *names):
        extent, interior = (called.get(f"{own}:{part}".casefold()) for part in PARTS)
        extent = extent or called.get(own.casefold())
        if extent:
            return extent, interior
    if raster.count == classes == 1 and ":" not in words[0]:
        return 1, None
    there = ", ".join(word or "unnamed" for word in words)
    raise SourceError(
        f"the heatmap {name} has no band called {label} among its {raster.count} ({there}); describe its bands so "
        f"({label}, or {label}:extent and {label}:interior), or give one band, e.g. vrt://{Path(name).name}?bands=1"
    )


def _scale(raster: DatasetReader, number: int, name: str) -> tuple[float, float]:
    """Factor and offset from a band's stored values to probabilities."""
    scale, offset, dtype = raster.scales[number - 1], raster.offsets[number - 1], np.dtype(raster.dtypes[number - 1])
    if (scale, offset) != (1, 0):
        return scale, offset
    if dtype == np.uint8:
        return 1 / 255, 0.0
    if dtype.kind == "f":
        return 1.0, 0.0
    raise SourceError(
        f"the heatmap {name} holds {dtype} without a scale; give bytes from 0 to 255, floats from 0 to 1, or the "
        "band's scale"
    )


def _check_values(made: GivenHeatmap, raw: Scene) -> None:
    """Refuse logits, percentages and masks, as far as a sample shows them."""
    pixels, valid = raw.sample()
    for band, scale, offset in zip(pixels, made.scale, made.offset, strict=True):
        stored = band[valid & np.isfinite(band)].astype(np.float64)
        low, high = float(stored.min(initial=inf)), float(stored.max(initial=-inf))
        if scale == 1 / 255 and 0 < high <= 1:
            raise SourceError(f"the heatmap {made.name} holds bytes of 0 and 1; give 0 to 255, or floats from 0 to 1")
        if low * scale + offset < -_BEYOND or high * scale + offset > 1 + _BEYOND:
            raise SourceError(
                f"the heatmap {made.name} holds values from {low:.3g} to {high:.3g}; give probabilities: floats from "
                "0 to 1 or bytes from 0 to 255"
            )


def _made_by(raster: DatasetReader) -> str | None:
    """The hash of the classifier that made one of our own heatmaps."""
    try:
        found = json.loads(raster.tags().get(METADATA_KEY, "{}"))
        models = found.get("models") if isinstance(found, dict) else None
        return next(iter(models.values()), None) if isinstance(models, dict) else None
    except ValueError:
        return None

"""The heatmap: per class two probabilities a pixel, extent (is it the class) and interior (how deep inside its object).

A file on disk, a COG of bytes, written window by window and read window by window: memory does not grow with it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioIOError
from rasterio.io import DatasetWriter
from scipy import ndimage as ndi

from hybridseg.cog import SUFFIXES, new_cog, to_rasterio, whole
from hybridseg.errors import SourceError
from hybridseg.files import check_output, replacing
from hybridseg.types import METADATA_KEY, Sweep, Window

PARTS = ("extent", "interior")
DEPTH_PX = 16
"""Heatmap pixels from a border beyond which objects are as deep as can be, where depth is measured (`depth_of`)."""
_STEPS = 254
_NODATA = 255


def depth_of(extent: np.ndarray) -> np.ndarray:
    """Return interior where nothing but extent is known: the distance to the border, weighed by extent itself.

    d / (d + 2) times extent, where d is the distance to where extent falls below one half, up to `DEPTH_PX`. So necks
    of half an object's width and dips of extent part objects, and what lies further than `DEPTH_PX` moves nothing.

    Args:
        extent: (h, w) in [0, 1].
    """
    inside = extent >= 0.5
    if inside.all():
        return extent * (DEPTH_PX / (DEPTH_PX + 2))
    deep = np.minimum(ndi.distance_transform_edt(inside), DEPTH_PX)
    return (extent * (deep / (deep + 2))).astype(np.float32)


@dataclass(frozen=True)
class HeatmapPart:
    """A piece of a heatmap.

    values: (B, h, w) float32 in [0, 1], extent and interior class by class; of no account where not valid.
    valid: (h, w) bool.
    window: the place of these (h, w) pixels on the heatmap's grid.
    """

    values: np.ndarray
    valid: np.ndarray
    window: Window

    def __post_init__(self) -> None:
        shape = (self.window.height, self.window.width)
        if self.values.shape[1:] != shape or self.valid.shape != shape:
            raise ValueError(f"the window is {shape}, got {self.values.shape} and {self.valid.shape}")

    def write(self, path: Path) -> None:
        """Write to a compressed .npz, in the steps that a heatmap keeps; the file appears whole or not at all."""
        with replacing(path) as beside:
            place = (self.window.col, self.window.row, self.window.width, self.window.height)
            np.savez_compressed(beside, steps=_to_steps(self.values, self.valid), window=place)

    @classmethod
    def read(cls, path: Path) -> HeatmapPart:
        """Read what `write` wrote."""
        with path.open("rb") as file, np.load(file) as stored:
            values, valid = _from_steps(stored["steps"])
            return cls(values, valid, Window(*stored["window"].tolist()))


@dataclass(frozen=True)
class Heatmap:
    """A heatmap on disk. Opened anew for each read, so it pickles and threads may share it.

    path: the file.
    geobox: its grid.
    classes: names, in the order of the bands.
    fingerprint: what made it; the same fingerprint means the same values.
    sweep: how it was made.
    owner: what removes the file when it goes; held so that it does not go before.
    """

    path: Path
    geobox: GeoBox
    classes: tuple[str, ...]
    fingerprint: str = ""
    sweep: Sweep = Sweep()
    owner: object = field(default=None, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return Heatmap, (self.path, self.geobox, self.classes, self.fingerprint, self.sweep)

    @classmethod
    def open(cls, path: Path | str, fingerprint: str = "") -> Heatmap:
        """Open a file that `create_heatmap` wrote.

        Raises:
            SourceError: no such file, or not a heatmap.
        """
        try:
            source = rasterio.open(path)
        except RasterioIOError as error:
            raise SourceError(f"{path} cannot be opened ({error}): give a heatmap that hybridseg wrote") from error
        with source:
            names = [name or "" for name in source.descriptions]
            classes = tuple(dict.fromkeys(name.rpartition(":")[0] for name in names))
            if set(source.dtypes) != {"uint8"} or source.nodata != _NODATA or names != band_names(classes):
                raise SourceError(
                    f"{path} is no heatmap (bytes, nodata 255, named bands): give one that hybridseg wrote"
                )
            return cls(Path(path), GeoBox.from_rio(source), classes, fingerprint or _content(path))

    def read(self, window: Window, label: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read one class in a window, which may reach beyond the grid.

        Returns:
            extent and interior, (h, w) float32 in [0, 1], 0 where not valid; and (h, w) bool, False for nodata and
            outside the grid.
        """
        steps = np.full((2, window.height, window.width), _NODATA, np.uint8)
        inside = window.clip(whole(self.geobox))
        if inside.width and inside.height:
            first = 2 * self.classes.index(label) + 1
            with rasterio.open(self.path) as source:
                steps[:, *inside.slices(window)] = source.read([first, first + 1], window=to_rasterio(inside))
        (extent, interior), valid = _from_steps(steps)
        return extent, interior, valid

    def write(self, path: Path) -> Heatmap:
        """Copy the file; returns the heatmap at its new place."""
        with replacing(path) as beside:
            shutil.copyfile(self.path, beside)
        return replace(self, path=path)


@dataclass(frozen=True)
class HeatmapWriter:
    """Takes a heatmap part by part, in any order; one thread at a time."""

    dataset: DatasetWriter

    def write(self, part: HeatmapPart) -> None:
        """Store one part, kept to 1/508; what lies outside the grid is dropped."""
        if len(part.values) != self.dataset.count:
            raise ValueError(f"the part has {len(part.values)} bands, the heatmap has {self.dataset.count}")
        inside = part.window.clip(Window(0, 0, self.dataset.width, self.dataset.height))
        if inside.width and inside.height:
            steps = _to_steps(part.values, part.valid)
            self.dataset.write(steps[:, *inside.slices(part.window)], window=to_rasterio(inside))


@contextmanager
def create_heatmap(
    path: Path | str, geobox: GeoBox, classes: Sequence[str], provenance: Mapping[str, Any] | None = None
) -> Iterator[HeatmapWriter]:
    """Create a heatmap to be written by parts; the file appears, as a COG, when the block ends well.

    A byte a value: round(254 p), 255 for nodata and for what was never written. The bands' scale says so to a GIS.

    Raises:
        OutputError: the file cannot be written there.
    """
    path = check_output(path, SUFFIXES)
    names = band_names(classes)
    with new_cog(path, geobox, len(names), _NODATA, overview_resampling="average", predictor="yes") as dataset:
        dataset.descriptions = tuple(names)
        dataset.scales = (1 / _STEPS,) * len(names)
        dataset.update_tags(**{METADATA_KEY: json.dumps(provenance or {})})
        yield HeatmapWriter(dataset)


def band_names(classes: Sequence[str]) -> list[str]:
    """Return the names of a heatmap's bands, two a class."""
    return [f"{name}:{part}" for name in classes for part in PARTS]


def _content(path: Path | str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_steps(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    steps = np.rint(np.where(valid, values, 0).clip(0, 1) * _STEPS).astype(np.uint8)
    steps[:, ~valid] = _NODATA
    return steps


def _from_steps(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    valid = (steps != _NODATA).all(axis=0)
    return np.where(valid, steps, 0).astype(np.float32) / np.float32(_STEPS), valid

"""The first sweep's work: one window of the scene to one part of the heatmap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, Protocol

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from hybridseg.heatmap import HeatmapPart
from hybridseg.read.bands import check_bands
from hybridseg.read.given import GivenHeatmap
from hybridseg.read.scene import Scene
from hybridseg.read.stretch import check_scaling
from hybridseg.read.tiles import tile
from hybridseg.turns import TURNS
from hybridseg.types import Chip, NetworkSpec, Window

BEYOND_SNAPS = 4
"""Empty ground shown around the raster, in the network's deepest strides: its features are poor at a window's edge."""


class Network(Protocol):
    """A classifier, as the sweep needs it."""

    @property
    def name(self) -> str:
        """For messages and provenance."""

    @property
    def sha256(self) -> str:
        """Hash of its weights."""

    @property
    def spec(self) -> NetworkSpec:
        """What it takes and gives."""

    @property
    def card(self) -> Mapping[str, Any]:
        """Its model card."""

    @property
    def runners(self) -> tuple[Any, ...]:
        """What computes it, part by part, as `nn.runtime.Runner`; may be empty."""

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return (2 x classes, H/stride, W/stride) in [0, 1] for (3, H, W) uint8, or (B, H, W) float32 of its bands."""


@dataclass(frozen=True)
class SweepWindows:
    """The windows of the sweep: cores that cover a grid, and what is read around each.

    spec: of the network that will be shown them.
    """

    spec: NetworkSpec

    @property
    def halo_px(self) -> int:
        """On the working grid; of a network of one image size what that leaves around cores at fixed places."""
        spec = self.spec
        return spec.halo_px if spec.image_px is None else (spec.image_px - spec.snap_px) // 2

    def cores(self, shape: tuple[int, int], core_px: int = 1024, offset_px: int = 0) -> list[Window]:
        """Return the cores of a grid: of `core_px`, or of the core of the network's only image."""
        if self.spec.image_px is None:
            return tile(shape, core_px, offset_px)
        return tile(shape, self.spec.snap_px)

    def around(self, core: Window, raster: Window) -> Window:
        """Return the window that is read for a core: with its halo, as far as there is something to see."""
        return core.pad(self.halo_px).clip(raster.pad(BEYOND_SNAPS * self.spec.snap_px))

    def read(self, scene: Scene, grid: GeoBox, core: Window, raster: Window) -> tuple[Chip, tuple[slice, slice]]:
        """Return the chip that is shown for a core, and where the core lies on the chip's heatmap (rows, columns)."""
        window = self.around(core, raster)
        return scene.read_grid(crop(grid, window)), scaled_slices(core, window, self.spec.stride)


@dataclass(frozen=True)
class Classify:
    """Reads core and halo, gives the core only, so that the heatmap is one surface without seams.

    network: the classifier.
    scales: how many times coarser than the grid it is shown the scene; of several, the highest probability counts.
    looks: how often it is shown each window, turned and mirrored (1, 2, 4 or 8); the mean counts.
    """

    network: Network
    scales: tuple[int, ...] = (1,)
    looks: int = 1

    @property
    def snap_px(self) -> int:
        """What a grid's corners must be multiples of, so that each scale sees the same pixels for every extent."""
        return self.network.spec.snap_px * max(self.scales)

    @property
    def windows(self) -> SweepWindows:
        """The windows that the network is shown."""
        return SweepWindows(self.network.spec)

    def __call__(self, scene: Scene, grid: GeoBox, core: Window, raster: Window) -> HeatmapPart:
        """Return the heatmap of one core.

        Args:
            scene: what to read, as `view_for` gives it.
            grid: the working grid.
            core: a window of the grid, in its pixels.
            raster: where the whole scene lies on the grid. A halo reaches little beyond it, since there is nothing to
                see, and as far for every tiling.
        """
        first, *others = [self._at(scale, scene, grid, core, raster) for scale in self.scales]
        for other in others:
            np.maximum(first.values, other.values, out=first.values)
        return first

    def _at(self, scale: int, scene: Scene, grid: GeoBox, core: Window, raster: Window) -> HeatmapPart:
        """Return the heatmap of one core, seen on a grid so many times coarser."""
        if scale > 1:
            part = self._at(1, scene, grid.zoom_out(scale), _coarser(core, scale), _coarser(raster, scale))
            values = part.values.repeat(scale, axis=1).repeat(scale, axis=2)
            valid = part.valid.repeat(scale, axis=0).repeat(scale, axis=1)
            window = Window(*(scale * side for side in astuple(part.window)))
            return HeatmapPart(values, valid, window)
        spec = self.network.spec
        stride = spec.stride
        chip, inner = self.windows.read(scene, grid, core, raster)
        h, w = chip.valid.shape
        valid = np.any(chip.valid.reshape(h // stride, stride, w // stride, stride), axis=(1, 3))[inner]
        place = Window(core.col // stride, core.row // stride, core.width // stride, core.height // stride)
        if not valid.any():
            return HeatmapPart(np.zeros((2 * len(spec.classes), *valid.shape), np.float32), valid, place)
        return HeatmapPart(self._predict(chip.pixels)[:, *inner], valid, place)

    def _predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return the mean of the network's heatmaps of the window as it is, turned and mirrored.

        Windows are multiples of the network's deepest stride, so a turned one is seen on the same steps for any tiling.
        Averaging over what should make no difference is test-time augmentation (Krizhevsky et al. 2012, section 4.1).
        """
        made = [turn.back(self.network.predict(turn(pixels))) for turn in TURNS[: self.looks]]
        return made[0] if len(made) == 1 else np.asarray(np.mean(made, axis=0, dtype=np.float32))


def _coarser(window: Window, scale: int) -> Window:
    """Return the window of a coarser grid that covers one."""
    (right, bottom), col, row = window.stop, window.col // scale, window.row // scale
    return Window(col, row, -(-right // scale) - col, -(-bottom // scale) - row)


def view_for(scene: Scene, network: Network) -> Scene:
    """Return the scene as a network takes it: in 8-bit RGB, or its own bands as stored; of a given heatmap that itself.

    Raises:
        BandsMissing: the raster lacks a band, or its values are plainly in another unit.
    """
    if isinstance(network, GivenHeatmap):
        return network.scene
    spec = network.spec
    if spec.source_bands is None:
        return scene
    wanted = f"the model looks at {len(spec.source_bands)} bands as {spec.scaling}"
    return check_scaling(scene.raw(check_bands(scene, spec.source_bands, network.name)), spec.scaling, wanted)


def crop(grid: GeoBox, window: Window) -> GeoBox:
    """Return the part of a grid in a window, which may reach beyond it."""
    return GeoBox((window.height, window.width), grid.affine @ Affine.translation(window.col, window.row), grid.crs)


def scaled_slices(core: Window, window: Window, stride: int) -> tuple[slice, slice]:
    """Return (rows, columns) of a core in an array that covers a window at 1/stride."""
    rows, cols = core.slices(window)
    return slice(rows.start // stride, rows.stop // stride), slice(cols.start // stride, cols.stop // stride)

"""A source as it looks on another grid of its CRS."""

from __future__ import annotations

from dataclasses import dataclass

from odc.geo.geobox import GeoBox

from hybridseg.read.source import Source, zoomed
from hybridseg.types import Chip, Window


@dataclass(frozen=True)
class OnGrid:
    """What the refiner reads and traces on where it shares the first sweep's windows: the working grid.

    geobox: the grid, in the source's CRS; it may reach beyond the source.
    """

    source: Source
    geobox: GeoBox

    @property
    def window(self) -> Window:
        """All of the grid's pixels."""
        return Window(0, 0, self.geobox.width, self.geobox.height)

    def read_window(self, window: Window, out_size_px: int | tuple[int, int]) -> Chip:
        """A window of the grid's pixels, zoomed to a size: side, or (height, width).

        Raises:
            SourceError: when the file cannot be read.
        """
        return self.source.read_grid(zoomed(self.geobox, window, out_size_px))

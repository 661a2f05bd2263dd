"""Cells: how a backbone that sees its whole image at once gives features that do not depend on the window."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from hybridseg.nn.backbones.base import Body, BodyBackbone, channels_first

CELL_PX = 128
"""Side of a cell's core: divides the sweep's cores (1024) and halos (384)."""


class Cells(nn.Module):
    """Runs a body on overlapping squares of one size at fixed places, and joins the cores of its maps.

    A pixel's features then depend on its place and not on the window that it is asked for in. Windows must start and
    end on multiples of `CELL_PX`.
    """

    def __init__(self, body: nn.Module, channels: Sequence[int], side_px: int, zoom: float = 1.0) -> None:
        """Wrap a body.

        Args:
            body: takes images of one size.
            channels: of each of its maps.
            side_px: side of its image.
            zoom: how much a cell is enlarged to make that image.
        """
        super().__init__()
        self.body, self.channels, self.zoom = body, list(channels), zoom
        self.side = round(side_px / self.zoom)
        self.margin = (self.side - CELL_PX) // 2

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, bands, H, W) to the body's maps of the whole window."""
        count = len(x)
        padded = F.pad(x, [self.margin] * 4, mode="replicate")
        cells = padded.unfold(2, self.side, CELL_PX).unfold(3, self.side, CELL_PX)
        rows, cols = cells.shape[2:4]
        flat = cells.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        if self.zoom != 1:
            flat = F.interpolate(flat, scale_factor=self.zoom, mode="bilinear")
        maps = self.body(flat)
        return [self._joined(channels_first(m, c), count, rows, cols) for m, c in zip(maps, self.channels, strict=True)]

    def _joined(self, cells: Tensor, count: int, rows: int, cols: int) -> Tensor:
        """(count * rows * cols, C, h, w) to (count, C, H, W) of the cores."""
        stride = self.side // cells.shape[-1]
        first, side = self.margin // stride, CELL_PX // stride
        core = cells[:, :, first : first + side, first : first + side]
        whole = core.reshape(count, rows, cols, *core.shape[1:]).permute(0, 3, 1, 4, 2, 5)
        return whole.flatten(4, 5).flatten(2, 3)


def any_size(body: Body) -> BodyBackbone:
    """Make a backbone of a body: as it is where it takes images of any size, else run on cells.

    Patches whose side divides no cell (14 px) get cells that are enlarged so that a patch covers a power of two.
    """
    if body.side_px is None:
        return BodyBackbone(body)
    patch = body.strides[0]
    stride = patch if patch & (patch - 1) == 0 else 1 << patch.bit_length()
    cells = Cells(body.module, body.channels, body.side_px, patch / stride)
    ready = Body(cells, body.channels, [s * stride // patch for s in body.strides], body.inputs)
    return BodyBackbone(ready, cell_px=CELL_PX)

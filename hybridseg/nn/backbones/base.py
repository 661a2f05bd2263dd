"""What every backbone is: feature maps at known strides, of images that were prepared as its weights want them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridseg.errors import BandsMissing
from hybridseg.types import core_px

RGB = ("red", "green", "blue")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
STRIDE = 2
"""Heatmap pixels are this many image pixels wide, or as many as the finest features where those are finer."""
LEAST_SNAP_PX = 32
"""Windows of a backbone that takes any size start and end on multiples of this, or of its deepest stride."""


@dataclass(frozen=True)
class InputSpec:
    """What a backbone was trained on.

    bands: names, in order.
    scaling: unit of the values, in words.
    mean, std: of the values, one a band or one for all.
    by_name: whether scenes know their bands by these names (`hybridseg.read.bands`); else numbers must be given.
    """

    bands: tuple[str, ...] = RGB
    scaling: str = "8-bit, 0 to 255"
    mean: tuple[float, ...] = tuple(255 * v for v in IMAGENET_MEAN)
    std: tuple[float, ...] = tuple(255 * v for v in IMAGENET_STD)
    by_name: bool = False

    @property
    def rgb(self) -> bool:
        """Whether the input is 8-bit red, green and blue."""
        return self.bands == RGB and self.scaling.startswith("8-bit")

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each band, (bands,) float32."""
        mean, std = (torch.tensor(v, dtype=torch.float32).expand(len(self.bands)) for v in (self.mean, self.std))
        return mean, std

    def __str__(self) -> str:
        return f"{len(self.bands)} bands ({' '.join(self.bands)}) as {self.scaling}"


NAIP = InputSpec(mean=(110.16, 115.41, 98.15), std=(47.23, 39.82, 35.43))
NAIP_UM = (0.65, 0.56, 0.48)
"""Red, green and blue of NAIP in 8 bits: statistics and wavelengths, from Clay's configs/metadata.yaml."""


class Backbone(nn.Module):
    """Feature maps of an image, fine to coarse. Takes what `prepare` gives.

    channels, strides: of each map.
    inputs: what the weights were trained on.
    image_px: side of the only image it takes; None: any whose sides are multiples of `snap_px`.
    snap_px: windows must start and end on multiples of this; of an image of fixed size it is the core.
    pointwise: whether a pixel's features are of that pixel alone; then no head can tell how deep it lies in its object.
    """

    channels: list[int]
    strides: list[int]
    inputs: InputSpec = InputSpec()
    image_px: int | None = None
    pointwise: bool = False

    @property
    def heatmap_stride(self) -> int:
        """Image pixels along the side of a pixel of a heatmap made of these features."""
        return min(STRIDE, *self.strides)

    @property
    def snap_px(self) -> int:
        """Multiple on which windows start and end (px)."""
        return max(LEAST_SNAP_PX, *self.strides)


@dataclass(frozen=True)
class Body:
    """A network of another package that gives a list of maps, and what it was trained on.

    module: takes (B, bands, H, W) scaled as `inputs` says; maps come channels first or last.
    channels, strides: of each map, fine to coarse.
    inputs: bands and scaling.
    side_px: side of the only image it takes; None: any.
    """

    module: nn.Module
    channels: list[int]
    strides: list[int]
    inputs: InputSpec
    side_px: int | None = None


class BodyBackbone(Backbone):
    """A body with the scaling before it.

    cell_px: side of the cells that the body is run on (`cells.Cells`); None: it is run on the whole window.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, body: Body, cell_px: int | None = None) -> None:
        super().__init__()
        self.body, self.inputs, self.image_px = body.module, body.inputs, body.side_px
        self.channels, self.strides = list(body.channels), list(body.strides)
        self._cell_px = cell_px
        own_mean, own_std = body.inputs.statistics()
        mean, std = own_mean, own_std
        if body.inputs.rgb:  # `prepare` scales such images by ImageNet's statistics: undo that and scale in one step
            mean, std = 255 * torch.tensor(IMAGENET_MEAN), 255 * torch.tensor(IMAGENET_STD)
        self.register_buffer("scale", (std / own_std).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", ((mean - own_mean) / own_std).view(1, -1, 1, 1), persistent=False)

    @property
    def snap_px(self) -> int:
        """Multiple on which windows start and end (px)."""
        if self.image_px is not None:
            return core_px(self.image_px)
        return self._cell_px or super().snap_px

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps at `strides`."""
        if x.shape[1] != len(self.inputs.bands):
            raise BandsMissing(f"this backbone takes {len(self.inputs.bands)} bands, {x.shape[1]} came")
        maps = self.body(x * self.scale + self.shift)
        return [channels_first(m, c) for m, c in zip(maps, self.channels, strict=True)]


def normalise(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 to floats with ImageNet mean and deviation."""
    mean = torch.tensor(IMAGENET_MEAN, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=pixels.device).view(1, 3, 1, 1)
    return ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def prepare(trunk: Backbone, pixels: Tensor) -> Tensor:
    """Scale pixels as read for a backbone, and for a head's own stem beside it.

    8-bit RGB is normalised as SAM2 does (ImageNet mean and deviation), other bands by the statistics of the weights.

    Args:
        trunk: the backbone.
        pixels: (B, bands, H, W).

    Raises:
        BandsMissing: another number of bands came.
    """
    inputs = trunk.inputs
    if pixels.shape[1] != len(inputs.bands):
        raise BandsMissing(f"this backbone takes {inputs}; {pixels.shape[1]} came")
    if inputs.rgb:
        return normalise(pixels)
    mean, std = (v.to(pixels.device).view(1, -1, 1, 1) for v in inputs.statistics())
    return ((pixels.float() - mean) / std).contiguous(memory_format=torch.channels_last)


def stages(module: nn.Module) -> list[nn.Module]:
    """Parts of a backbone in the order of the forward pass: its blocks, layers or stages."""
    children = [child for child in module.children() if any(True for _ in child.parameters())]
    sizes = [sum(p.numel() for p in child.parameters()) for child in children]
    if children and max(sizes) > 0.8 * sum(sizes):
        largest = children[sizes.index(max(sizes))]
        inner = stages(largest) if len(list(largest.children())) else []
        return inner if len(inner) > 1 else [largest]
    return children


def freeze(trunk: nn.Module, free: int = 0) -> None:
    """Fix the parameters of a backbone, except in its last `free` stages."""
    trunk.requires_grad_(False)
    for stage in stages(trunk)[-free:] if free else []:
        stage.requires_grad_(True)


class Last(nn.Module):
    """Only the last of a body's maps: the blocks of a plain ViT all have one stride, and the last has seen the most."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, bands, H, W) to a list of one map."""
        return [self.body(x)[-1]]


def channels_first(maps: Tensor, channels: int) -> Tensor:
    """(B, C, H, W) of maps that may come as (B, H, W, C)."""
    return maps if maps.shape[1] == channels else maps.permute(0, 3, 1, 2).contiguous()


def as_map(tokens: Tensor) -> Tensor:
    """(B, N, C) tokens of a square, with or without a class token before them, to (B, C, h, h)."""
    side = int((tokens.shape[1]) ** 0.5)
    last = tokens[:, tokens.shape[1] - side * side :].transpose(1, 2)
    return last.reshape(*last.shape[:2], side, side)


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

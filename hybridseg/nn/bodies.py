"""What stands around a backbone's body: the scaling before it, the cells it is run on, the parts it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridseg.errors import BandsMissing
from hybridseg.nn.sam2 import normalise
from hybridseg.nn.segmenter import Segmenter
from hybridseg.nn.trunk import IMAGENET_MEAN, IMAGENET_STD
from hybridseg.read.tiles import core_px

RGB = ("red", "green", "blue")
CORE_PX = 128
"""Cells of a backbone that sees its whole window at once: divides the sweep's cores (1024) and halos (384)."""


@dataclass(frozen=True)
class Wants:
    """What a backbone was trained to see.

    bands: names, in order; scaling: in words; mean, std: of its raw values, one a band or one for all.
    """

    bands: tuple[str, ...] = RGB
    scaling: str = "8-bit, 0 to 255"
    mean: tuple[float, ...] = tuple(255 * v for v in IMAGENET_MEAN)
    std: tuple[float, ...] = tuple(255 * v for v in IMAGENET_STD)

    @property
    def rgb(self) -> bool:
        """Whether 8-bit red, green and blue are what it wants."""
        return self.bands == RGB and self.scaling.startswith("8-bit")

    def spread(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each band, (bands,) float32."""
        mean, std = (torch.tensor(v, dtype=torch.float32).expand(len(self.bands)) for v in (self.mean, self.std))
        return mean, std

    def __str__(self) -> str:
        return f"{len(self.bands)} bands ({' '.join(self.bands)}) as {self.scaling}"


class Backbone(nn.Module):
    """A body that gives feature maps, with the scaling before it and, where it is needed, the cells around it.

    Takes what `prepare` gives. image_px: side of the only image that the body takes; None: any, in whole strides.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        body: nn.Module,
        channels: Sequence[int],
        strides: Sequence[int],
        wants: Wants,
        image_px: int | None = None,
    ) -> None:
        super().__init__()
        self.body, self.wants, self.image_px = body, wants, image_px
        self.channels, self.strides = list(channels), list(strides)
        own_mean, own_std = wants.spread()
        mean, std = own_mean, own_std
        if wants.rgb:  # such images come normalised another way: undone and done anew in one step
            mean, std = 255 * torch.tensor(IMAGENET_MEAN), 255 * torch.tensor(IMAGENET_STD)
        self.register_buffer("scale", (std / own_std).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", ((mean - own_mean) / own_std).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps at `strides`."""
        if x.shape[1] != len(self.wants.bands):
            raise BandsMissing(f"this backbone takes {len(self.wants.bands)} bands, {x.shape[1]} came")
        maps = self.body(x * self.scale + self.shift)
        return [_channels_first(m, c) for m, c in zip(maps, self.channels, strict=True)]


class Cells(nn.Module):
    """Runs a body that sees its whole window on cells of one size, at fixed places.

    A pixel's features then depend on where it lies and not on the window it is asked for in, as with the other
    backbones; windows must start and end on multiples of `snap_px`. Each cell sees `margin_px` around its core.
    """

    def __init__(self, body: nn.Module, channels: Sequence[int], side_px: int, zoom: float = 1.0) -> None:
        """`side_px`: of the image that the body is run on, which is a cell zoomed by `zoom`."""
        super().__init__()
        self.body, self.channels, self.zoom = body, list(channels), zoom
        self.side = round(side_px / self.zoom)
        self.margin = (self.side - CORE_PX) // 2

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps of the body, put together."""
        count = len(x)
        padded = F.pad(x, [self.margin] * 4, mode="replicate")
        cells = padded.unfold(2, self.side, CORE_PX).unfold(3, self.side, CORE_PX)
        rows, cols = cells.shape[2:4]
        flat = cells.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        if self.zoom != 1:
            flat = F.interpolate(flat, scale_factor=self.zoom, mode="bilinear")
        maps = self.body(flat)
        return [
            self._joined(_channels_first(m, c), count, rows, cols) for m, c in zip(maps, self.channels, strict=True)
        ]

    def _joined(self, cells: Tensor, count: int, rows: int, cols: int) -> Tensor:
        """(count * rows * cols, C, h, w) to (count, C, H, W) of the cores."""
        stride = self.side // cells.shape[-1]
        first, side = self.margin // stride, CORE_PX // stride
        core = cells[:, :, first : first + side, first : first + side]
        whole = core.reshape(count, rows, cols, *core.shape[1:]).permute(0, 3, 1, 4, 2, 5)
        return whole.flatten(4, 5).flatten(2, 3)


class Lite0Pyramid(nn.Module):
    """A segmenter's last but one layer, and its trunk's levels: 576 features, those of stride 2 first."""

    def __init__(self) -> None:
        super().__init__()
        self.segmenter = Segmenter(1)
        self.segmenter.head[1] = nn.Identity()
        trunk = self.segmenter.trunk
        self.channels = [64, *trunk.channels]
        self.strides = [2, *trunk.strides]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps, fine to coarse."""
        levels = self.segmenter.trunk(x)
        return [self.segmenter.decode(levels), *levels]

    def load_segmenter(self, state: dict[str, Tensor]) -> None:
        """Take over a trained segmenter's weights, but for its last layer."""
        own = {key: value for key, value in state.items() if not key.startswith("head.1.")}
        self.segmenter.load_state_dict(own)


def wants_of(trunk: nn.Module) -> Wants:
    """What a backbone wants to see."""
    return trunk.wants if isinstance(trunk, Backbone) else Wants()


def prepare(trunk: nn.Module, pixels: Tensor) -> Tensor:
    """(B, bands, H, W) pixels as read to what a backbone takes, and a head's own stem beside it.

    8-bit RGB as SAM2 has it (ImageNet mean and deviation), other bands by the mean and deviation of the weights.

    Raises:
        BandsMissing: another number of bands came.
    """
    wants = wants_of(trunk)
    if pixels.shape[1] != len(wants.bands):
        raise BandsMissing(f"this backbone takes {wants}; {pixels.shape[1]} came")
    if wants.rgb:
        return normalise(pixels)
    mean, std = (v.to(pixels.device).view(1, -1, 1, 1) for v in wants.spread())
    return ((pixels.float() - mean) / std).contiguous(memory_format=torch.channels_last)


def image_px(trunk: nn.Module) -> int | None:
    """Side of the only image that a backbone takes; None: any whose sides are multiples of `snap_px`."""
    return trunk.image_px if isinstance(trunk, Backbone) else None


def snap_px(trunk: nn.Module) -> int:
    """Windows must start and end on multiples of this; it is the core of an image of fixed size."""
    if (side := image_px(trunk)) is not None:
        return core_px(side)
    if any(isinstance(module, Cells) for module in trunk.modules()):
        return CORE_PX
    return max(32, *getattr(trunk, "strides", [32]))


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
    """Fix all of a backbone but its last `free` stages."""
    trunk.requires_grad_(False)
    for stage in stages(trunk)[-free:] if free else []:
        stage.requires_grad_(True)


def _channels_first(maps: Tensor, channels: int) -> Tensor:
    return maps if maps.shape[1] == channels else maps.permute(0, 3, 1, 2).contiguous()

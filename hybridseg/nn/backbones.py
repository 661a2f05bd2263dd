"""Backbones by name: what they want to see, and the feature maps they give, fine to coarse.

    lite0                     EfficientNet-Lite0, the embedded classifiers' own trunk
    lite0-pyramid             the same with a trained classifier's pyramid above it: what the linear head looks at
    sam2, sam2:REFINER        the encoder of a refiner (sam2-lite, or an official checkpoint)
    timm:NAME                 any model of timm that gives features
    torchgeo:WEIGHTS          as torchgeo names them: Swin_V2_B_Weights.NAIP_RGB_SI_SATLAS, DOFABase16_Weights.DOFA_MAE
    terratorch:NAME           clay_v15, prithvi_eo_v2_300, ... (extra `geofm`)

A backbone takes images as `nn.sam2.normalise` gives them and rescales them itself to what it was trained on. One that
was not trained on 8-bit red, green and blue takes its own bands' raw values, and `Wants.check` refuses anything else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import timm
import torch
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES, build_sam2
from torch import Tensor, nn
from torch.nn import functional as F

from hybridseg.errors import BandsMissing, WeightsError
from hybridseg.nn.geo import terratorch_body, torchgeo_body
from hybridseg.nn.lite import build_sam2_lite
from hybridseg.nn.refiners import OFFICIAL, load_refiner
from hybridseg.nn.segmenter import Segmenter
from hybridseg.nn.trunk import IMAGENET_MEAN, IMAGENET_STD, Lite0

RGB = ("red", "green", "blue")
KINDS = "lite0, sam2, sam2:REFINER, timm:NAME, torchgeo:WEIGHTS, terratorch:NAME"
CORE_PX = 128
"""Cells of a backbone that sees its whole window at once: divides the sweep's cores (1024) and halos (384)."""
GLOBAL = re.compile("attention|attn|squeezeexcite|semodule|globalcontext|groupnorm|globalresponsenorm", re.IGNORECASE)
"""Names of layers whose output at a pixel depends on the whole window."""


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

    def check(self, name: str, bands: Sequence[str], scaling: str) -> None:
        """Refuse other bands or another scaling.

        Raises:
            BandsMissing: says what the backbone wants and what came.
        """
        if tuple(bands) != self.bands or scaling.split(",")[0] != self.scaling.split(",")[0]:
            raise BandsMissing(
                f"backbone {name} wants {len(self.bands)} bands ({' '.join(self.bands)}) as {self.scaling}; "
                f"it would be given {' '.join(bands)} as {scaling}: choose a backbone made for those"
            )


@runtime_checkable
class Trunk(Protocol):
    """What a segmenter needs of a backbone."""

    channels: list[int]
    strides: list[int]

    def __call__(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) to feature maps, fine to coarse."""


class Backbone(nn.Module):
    """A body that gives feature maps, with the scaling before it and, where it is needed, the cells around it."""

    scale: Tensor
    shift: Tensor

    def __init__(self, body: nn.Module, channels: Sequence[int], strides: Sequence[int], wants: Wants) -> None:
        super().__init__()
        self.body, self.wants = body, wants
        self.channels, self.strides = list(channels), list(strides)
        count = len(wants.bands)
        own_mean, own_std = (torch.tensor(v, dtype=torch.float32).expand(count) for v in (wants.mean, wants.std))
        mean, std = torch.zeros(count), torch.ones(count)
        if wants.rgb:  # such images come normalised already: undone and done anew in one step
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

    def __init__(self, body: nn.Module, stride: int, side_px: int, patch_px: int) -> None:
        """`side_px`: of the image that the body is run on; patch_px: its own stride, where that is not `stride`."""
        super().__init__()
        self.body, self.stride = body, stride
        self.zoom = patch_px / stride
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
        return [self._joined(m, count, rows, cols) for m in maps]

    def _joined(self, cells: Tensor, count: int, rows: int, cols: int) -> Tensor:
        """(count * rows * cols, C, h, w) to (count, C, H, W) of the cores."""
        stride = self.side // cells.shape[-1]
        first, side = self.margin // stride, CORE_PX // stride
        core = cells[:, :, first : first + side, first : first + side]
        whole = core.unflatten(0, (count, rows, cols)).permute(0, 3, 1, 4, 2, 5)
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


def build_backbone(name: str, pretrained: bool = False) -> nn.Module:
    """A backbone by name.

    Args:
        name: see the head of this file.
        pretrained: with its published weights, fetched to the user's cache unless they are there; else random ones, to
            be filled from a model folder.

    Raises:
        WeightsError: unknown name, or weights that cannot be had.
        MissingExtra: it needs an extra.
    """
    kind, _, rest = name.partition(":")
    builders: dict[str, Callable[[str, bool], nn.Module]] = {
        "lite0": _lite0, "lite0-pyramid": lambda *_: Lite0Pyramid(), "sam2": _sam2, "timm": _timm,
        "torchgeo": _torchgeo, "terratorch": _terratorch,
    }  # fmt: skip
    if kind not in builders or (kind in ("timm", "torchgeo", "terratorch") and not rest):
        raise WeightsError(f"no backbone {name!r}; give one of {KINDS}")
    return builders[kind](rest, pretrained)


def wants_of(trunk: nn.Module) -> Wants:
    """What a backbone wants to see."""
    return trunk.wants if isinstance(trunk, Backbone) else Wants()


def snap_px(trunk: nn.Module) -> int:
    """Windows must start and end on multiples of this."""
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


def _lite0(_: str, pretrained: bool) -> nn.Module:
    trunk = Lite0()
    if pretrained:
        trunk.load_imagenet()
    return trunk


def _sam2(name: str, pretrained: bool) -> nn.Module:
    name = name or "sam2-lite"
    official = OFFICIAL.get(name.removeprefix("facebook/"))
    if pretrained:
        trunk = load_refiner(name, "cpu").model.image_encoder.trunk
    elif official:
        trunk = build_sam2(HF_MODEL_ID_TO_FILENAMES[official][0], device="cpu").image_encoder.trunk
    else:
        trunk = build_sam2_lite().image_encoder.trunk
    strides, channels = [4, 8, 16, 32], list(trunk.channel_list[::-1])
    body = trunk if isinstance(trunk, Lite0) else Cells(trunk, 4, 256, 4)
    return Backbone(body.requires_grad_(True), channels, strides, Wants())


def _timm(name: str, pretrained: bool) -> nn.Module:
    try:
        # only to see how it is made; the weights come below
        probe: Any = timm.create_model(name, features_only=True, pretrained=False)
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        raise WeightsError(f"timm has no features of {name!r}: {_line(error)}; see timm.list_models()") from error
    seen_whole = any(GLOBAL.search(type(module).__name__) for module in probe.modules())
    flat = len(set(probe.feature_info.reduction())) == 1
    side_px = 224 if flat else 256  # what a hierarchy cuts out of a cell must be whole at stride 32
    options: dict[str, Any] = {"img_size": side_px} if name.startswith(("vit", "deit", "swin")) else {}
    body = _fetched(
        lambda: timm.create_model(name, features_only=True, pretrained=pretrained, **options), f"timm:{name}"
    )
    channels, strides = list(body.feature_info.channels()), list(body.feature_info.reduction())
    if flat:  # a plain ViT: its last blocks at one stride; the last says it all
        body, channels, strides = _Last(body), channels[-1:], strides[-1:]
    published: Any = timm.get_pretrained_cfg(name)
    cfg = published.to_dict() if published else {}
    wants = Wants(mean=_bytes(cfg.get("mean", IMAGENET_MEAN)), std=_bytes(cfg.get("std", IMAGENET_STD)))
    if not seen_whole:
        return Backbone(body, channels, strides, wants)
    return _in_cells(body, channels, strides, wants, side_px)


def _torchgeo(name: str, pretrained: bool) -> nn.Module:
    made = _fetched(lambda: torchgeo_body(name, pretrained), f"torchgeo:{name}")
    wants = Wants(made.bands, made.scaling, made.mean, made.std)
    if made.side_px is None:
        return Backbone(made.body, made.channels, made.strides, wants)
    return _in_cells(made.body, made.channels, made.strides, wants, made.side_px)


def _terratorch(name: str, pretrained: bool) -> nn.Module:
    made = _fetched(lambda: terratorch_body(name, pretrained), f"terratorch:{name}")
    wants = Wants(made.bands, made.scaling, made.mean, made.std)
    return _in_cells(made.body, made.channels, made.strides, wants, made.side_px or 224)


def _in_cells(body: nn.Module, channels: list[int], strides: list[int], wants: Wants, side_px: int) -> Backbone:
    """Patches of 14 px, which divide no cell, are shown cells that are enlarged to 16."""
    patch = strides[0]
    stride = patch if patch & (patch - 1) == 0 else 1 << patch.bit_length()
    ready = [s * stride // patch for s in strides]
    return Backbone(Cells(body, stride, side_px, patch), channels, ready, wants)


class _Last(nn.Module):
    """Only the last of a body's maps."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.body(x)[-1]]


def _fetched(make: Callable[[], Any], name: str) -> Any:
    import httpx2

    try:
        return make()
    except (OSError, httpx2.HTTPError) as error:
        raise WeightsError(
            f"cannot fetch the weights of {name} ({type(error).__name__}); check the connection or the cache"
        ) from error


def _bytes(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(255 * v for v in values)


def _channels_first(maps: Tensor, channels: int) -> Tensor:
    return maps if maps.shape[1] == channels else maps.permute(0, 3, 1, 2).contiguous()


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:150]

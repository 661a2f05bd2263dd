"""Backbones by name: what they want to see, and the feature maps they give, fine to coarse.

    lite0                     EfficientNet-Lite0, the embedded classifiers' own trunk
    lite0-pyramid             the same with a trained classifier's pyramid above it: what the linear head looks at
    sam2, sam2:REFINER        the encoder of a refiner (sam2-lite, or an official checkpoint)
    timm:NAME                 any model of timm that gives features
    torchgeo:WEIGHTS          as torchgeo names them: Swin_V2_B_Weights.NAIP_RGB_SI_SATLAS, DOFABase16_Weights.DOFA_MAE
    terratorch:NAME           clay_v15, prithvi_eo_v2_300, ... (extra `geofm`)

A backbone takes images as `nn.bodies.prepare` gives them. That begins with 8-bit red, green and blue, or, for one that
was trained on other bands, with those as they are stored in the raster.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import timm
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES, build_sam2
from torch import Tensor, nn

from hybridseg.errors import WeightsError
from hybridseg.nn.bodies import Backbone, Cells, Lite0Pyramid, Wants
from hybridseg.nn.geo import torchgeo_body
from hybridseg.nn.lite import build_sam2_lite
from hybridseg.nn.refiners import OFFICIAL, load_refiner
from hybridseg.nn.terra import terratorch_body
from hybridseg.nn.trunk import IMAGENET_MEAN, IMAGENET_STD, Lite0

KINDS = "lite0, sam2, sam2:REFINER, timm:NAME, torchgeo:WEIGHTS, terratorch:NAME"
GLOBAL = re.compile(
    "attention|attn|squeezeexcite|semodule|ecamodule|globalcontext|groupnorm|globalresponsenorm", re.IGNORECASE
)
"""Names of layers whose output at a pixel depends on the whole window."""


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
    named = kind in ("timm", "torchgeo", "terratorch")
    if kind not in builders or (kind != "sam2" and named != bool(rest)):
        raise WeightsError(f"no backbone {name!r}; give one of {KINDS}")
    return builders[kind](rest, pretrained)


def _lite0(_: str, pretrained: bool) -> nn.Module:
    trunk = Lite0()
    if pretrained:
        trunk.load_imagenet()
    return trunk


def _sam2(name: str, pretrained: bool) -> nn.Module:
    name = name or "sam2-lite"
    official = OFFICIAL.get(name.removeprefix("facebook/"))
    if official is None and name != "sam2-lite":
        raise WeightsError(f"no backbone 'sam2:{name}'; give one of sam2, {', '.join(f'sam2:{n}' for n in OFFICIAL)}")
    if pretrained:
        model: Any = load_refiner(name, "cpu").model
    elif official:
        model = build_sam2(HF_MODEL_ID_TO_FILENAMES[official][0], device="cpu")
    else:
        model = build_sam2_lite()
    trunk = model.image_encoder.trunk
    # shown what the refiner is shown: its features depend on what else is in the image, and on the place there
    return Backbone(
        trunk.requires_grad_(True), list(trunk.channel_list[::-1]), [4, 8, 16, 32], Wants(), int(model.image_size)
    )


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
    return Backbone(Cells(body, channels, side_px, patch / stride), channels, ready, wants)


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


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:150]

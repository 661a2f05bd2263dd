"""`timm:NAME`: any model of timm that gives features."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import timm

from hybridseg.errors import WeightsError
from hybridseg.nn.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone, Body, InputSpec, Last, any_size

WHOLE_IMAGE = re.compile(
    "attention|attn|squeezeexcite|semodule|ecamodule|globalcontext|groupnorm|globalresponsenorm", re.IGNORECASE
)
"""Names of layers whose output at a pixel depends on the whole image."""
NAME = re.compile(r"[\w.-]+")
"""Names of timm's own models; others (hf-hub:..., local-dir:...) make it fetch or read files even without weights."""
PLAIN_PX, HIERARCHY_PX = 224, 256
"""Side of the image that a ViT, or a hierarchy whose deepest stride is 32, is run on."""


def build(name: str, pretrained: bool) -> Backbone:
    """Features of a timm model; run on cells where a layer sees the whole image.

    Raises:
        WeightsError: timm has no such model, or it gives no features.
    """
    if not NAME.fullmatch(name):
        raise WeightsError(
            f"no backbone 'timm:{name}': names of repositories and folders are not taken; give a name that "
            "timm.list_models() has"
        )
    try:
        probe: Any = timm.create_model(name, features_only=True, pretrained=False)  # to look at its layers
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        raise WeightsError(f"timm has no features of {name!r}: {_line(error)}; see timm.list_models()") from error
    whole_image = any(WHOLE_IMAGE.search(type(module).__name__) for module in probe.modules())
    plain = len(set(probe.feature_info.reduction())) == 1
    side_px = PLAIN_PX if plain else HIERARCHY_PX
    options: dict[str, Any] = {"img_size": side_px} if name.startswith(("vit", "deit", "swin")) else {}
    net: Any = timm.create_model(name, features_only=True, pretrained=pretrained, **options)
    channels, strides = list(net.feature_info.channels()), list(net.feature_info.reduction())
    if plain:
        net, channels, strides = Last(net), channels[-1:], strides[-1:]
    return any_size(Body(net, channels, strides, _inputs(name), side_px if whole_image else None))


def _inputs(name: str) -> InputSpec:
    published: Any = timm.get_pretrained_cfg(name)
    cfg = published.to_dict() if published else {}
    return InputSpec(mean=_bytes(cfg.get("mean", IMAGENET_MEAN)), std=_bytes(cfg.get("std", IMAGENET_STD)))


def _bytes(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(255 * v for v in values)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:150]

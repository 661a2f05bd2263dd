"""`torchgeo:WEIGHTS`: backbones of torchgeo, with the bands and scaling that their weights were trained on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchgeo.models import get_weight, list_models
from torchgeo.models.api import get_model, get_model_weights

from hybridseg.errors import WeightsError
from hybridseg.nn.backbones.base import NAIP, NAIP_UM, RGB, Backbone, Body, InputSpec, Last, any_size, as_map

RGB_NAMES = ({"r", "g", "b"}, {"b4", "b3", "b2"}, {"b04", "b03", "b02"})
MODELS = (
    "resnet18", "resnet50", "resnet152", "swin_v2_t", "swin_v2_b", "vit_small_patch16_224", "vit_base_patch16_224",
    "vit_large_patch16_224", "dofa_base_patch16_224", "dofa_large_patch16_224",
)  # fmt: skip
"""Models of torchgeo whose feature maps can be had."""


def build(name: str, pretrained: bool) -> Backbone:
    """A model of torchgeo by its weights' name, e.g. ResNet50_Weights.SENTINEL2_ALL_MOCO.

    Raises:
        WeightsError: no such weights, or of an architecture that gives no feature maps here.
    """
    return any_size(_body(name, pretrained))


def _body(name: str, pretrained: bool) -> Body:
    try:
        weights: Any = get_weight(name)
    except (ValueError, KeyError) as error:
        raise WeightsError(
            f"torchgeo has no weights {name!r}; give a name as Swin_V2_B_Weights.NAIP_RGB_SI_SATLAS"
        ) from error
    # the weights' own `meta["model"]` is wrong for some (0.8)
    models = [m for m in list_models() if m in MODELS and weights in list(get_model_weights(m))]
    if not models:
        raise WeightsError(f"{name} is not a backbone; there are resnet, vit, swin_v2 and dofa_base, dofa_large")
    model, chosen = models[0], weights if pretrained else None
    if model.startswith("dofa"):
        dofa: Any = get_model(model, chosen)
        return Body(_Dofa(dofa), [dofa.embed_dim], [16], NAIP, 224)
    inputs = _inputs(weights)
    if model.startswith("swin"):
        swin: Any = get_model(model, chosen)
        first = int(swin.features[0][0].out_channels)
        if not pretrained and len(inputs.bands) != swin.features[0][0].in_channels:
            swin.features[0][0] = nn.Conv2d(len(inputs.bands), first, kernel_size=4, stride=4)
        return Body(_Swin(swin), [first * k for k in (1, 2, 4, 8)], [4, 8, 16, 32], inputs, 256)
    options = {} if pretrained else {"in_chans": len(inputs.bands)}
    net: Any = get_model(model, chosen, features_only=True, **options)
    channels, strides = list(net.feature_info.channels()), list(net.feature_info.reduction())
    if model.startswith("vit"):
        return Body(Last(net), channels[-1:], strides[-1:], inputs, 224)
    return Body(net, channels, strides, inputs)


def _inputs(weights: Any) -> InputSpec:
    """Bands, scaling in words, mean and deviation of a weight's own transforms; several in a row are made one."""
    count = int(weights.meta["in_chans"])
    bands = tuple(weights.meta.get("bands") or (("r", "g", "b") if count == 3 else ()))
    mean, std, first = torch.zeros(count), torch.ones(count), 1.0
    for step in weights.transforms.modules():
        if hasattr(step, "mean") and hasattr(step, "std"):
            own_mean, own_std = (torch.tensor(v, dtype=torch.float32) for v in (step.mean, step.std))
            first = float(own_std.max()) if first == 1.0 else first
            mean, std = mean + own_mean * std, std * own_std
    if {b.lower() for b in bands} in RGB_NAMES and first == 255:
        return InputSpec(RGB, "8-bit, 0 to 255", tuple(mean.tolist()), tuple(std.tolist()))
    scaling = "reflectance x 10000" if first == 10000 else f"values that it divides by {first:g}"
    return InputSpec(bands, scaling, tuple(mean.tolist()), tuple(std.tolist()))


class _Swin(nn.Module):
    """The four stages of torchvision's Swin; maps come channels last."""

    def __init__(self, swin: nn.Module) -> None:
        super().__init__()
        self.features: Any = swin.get_submodule("features")

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number % 2:
                maps.append(x.permute(0, 3, 1, 2))
        return maps


class _Dofa(nn.Module):
    """DOFA's tokens as a map, before its pooling."""

    def __init__(self, dofa: Any) -> None:
        super().__init__()
        dofa.head, dofa.fc_norm = nn.Identity(), nn.Identity()  # unused here
        self.dofa = dofa

    def forward(self, x: Tensor) -> list[Tensor]:
        dofa = self.dofa
        tokens, _ = dofa.patch_embed(x, torch.tensor(NAIP_UM, device=x.device))
        tokens = tokens + dofa.pos_embed[:, 1:]
        first = (dofa.cls_token + dofa.pos_embed[:, :1]).expand(len(tokens), -1, -1)
        tokens = torch.cat([first, tokens], dim=1)
        for block in dofa.blocks:
            tokens = block(tokens)
        return [as_map(tokens)]

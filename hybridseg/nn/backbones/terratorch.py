"""`terratorch:NAME` (extra `geofm`): Clay v1.5 and Prithvi-EO-2, with the bands that their weights were trained on."""

from __future__ import annotations

from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from torch import Tensor, nn

from hybridseg.errors import MissingExtra, WeightsError
from hybridseg.nn.backbones.base import NAIP, NAIP_UM, Backbone, Body, InputSpec, any_size, as_map

_precision = torch.get_float32_matmul_precision()
try:
    from terratorch.models.backbones.clay_v15.model import Encoder
    from terratorch.registry import BACKBONE_REGISTRY
except ImportError as error:
    raise MissingExtra("backbones of terratorch need: uv sync --extra geofm") from error
finally:  # importing it lowers the precision of the whole process
    torch.set_float32_matmul_precision(_precision)

PRITHVI_BANDS = ("BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2")
PRITHVI_MEAN = (1087.0, 1342.0, 1433.0, 2734.0, 1958.0, 1363.0)
PRITHVI_STD = (2248.0, 2179.0, 2178.0, 1850.0, 1242.0, 1049.0)
"""Of HLS reflectance x 10000, from the config.json beside Prithvi-EO-2.0's weights on the hub."""
CLAY = "clay_v15"
CLAY_HUB = ("made-with-clay/Clay", "v1.5/clay-v1.5.ckpt")
CLAY_LARGE = {"dim": 1024, "depth": 24, "heads": 16, "dim_head": 64, "mlp_ratio": 4}
"""Clay v1.5 as published: terratorch's `clay_mae_large`."""
CLAY_GSD_M = 1.0
"""GSD that Clay is given: that of NAIP in its training, since the working GSD is not known here."""


def build(name: str, pretrained: bool) -> Backbone:
    """Clay v1.5 (clay_v15) on red, green and blue, or a Prithvi-EO-2 of terratorch's registry on its six bands.

    Raises:
        WeightsError: there is no such model, or its weights cannot be opened.
    """
    if name == CLAY:
        return any_size(Body(_Clay(pretrained), [CLAY_LARGE["dim"]], [8], NAIP, 256))
    known = sorted(n.removeprefix("terratorch_") for n in BACKBONE_REGISTRY if "prithvi_eo_v2" in n)
    if name not in known:
        raise WeightsError(f"terratorch has no backbone {name!r} here; there are {', '.join([CLAY, *known])}")
    net = BACKBONE_REGISTRY.build(name, pretrained=pretrained, bands=list(PRITHVI_BANDS))
    inputs = InputSpec(PRITHVI_BANDS, "reflectance x 10000", PRITHVI_MEAN, PRITHVI_STD)
    return any_size(Body(_Tokens(net), [int(net.out_channels[-1])], [14 if "600" in name else 16], inputs, 224))


class _Clay(nn.Module):
    """Clay's encoder without masking; date and place are left at zero, as Clay's own guide does for unknown ones."""

    waves: Tensor

    def __init__(self, pretrained: bool) -> None:
        super().__init__()
        self.encoder: Any = Encoder(mask_ratio=0.0, patch_size=8, shuffle=False, **CLAY_LARGE)
        self.register_buffer("waves", torch.tensor(NAIP_UM), persistent=False)
        if pretrained:
            self.encoder.load_state_dict(_clay_weights())

    def forward(self, x: Tensor) -> list[Tensor]:
        encoder, unknown = self.encoder, torch.zeros(len(x), 4, device=x.device)
        patches, _ = encoder.to_patch_embed(x, self.waves)
        patches = encoder.add_encodings(patches, unknown, unknown, torch.tensor(CLAY_GSD_M))
        tokens = torch.cat([encoder.cls_token.expand(len(x), -1, -1), patches], dim=1)
        return [as_map(encoder.transformer(tokens))]


def _clay_weights() -> dict[str, Tensor]:
    """The encoder's part of Clay's checkpoint, from the hub's cache or the hub."""
    path = hf_hub_download(*CLAY_HUB)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except UnpicklingError as error:
        raise WeightsError(f"{path} holds more than weights, which could run code; it is not opened") from error
    prefix = "model.encoder."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


class _Tokens(nn.Module):
    """The last tokens of a ViT as a map, with or without a class token before them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> list[Tensor]:
        out = self.net(x)
        last = out[-1] if isinstance(out, list | tuple) else out
        return [last if last.ndim == 4 else as_map(last)]

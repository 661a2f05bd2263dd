"""`sam2`, `sam2:REFINER`: the image encoder of a refiner, so that one encoding serves both sweeps."""

from __future__ import annotations

import copy
from typing import Any

from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES, build_sam2

from hybridseg.errors import WeightsError
from hybridseg.nn.backbones.base import Backbone, Body, BodyBackbone, InputSpec
from hybridseg.nn.sam2.lite import build_sam2_lite
from hybridseg.nn.sam2.official import OFFICIAL, load_refiner


def build(name: str, pretrained: bool) -> Backbone:
    """The trunk of sam2-lite or of an official checkpoint.

    It takes the refiner's own image size only: its features depend on what else is in the image and on the place there.

    Raises:
        WeightsError: no such refiner, or weights that cannot be had.
    """
    name = name or "sam2-lite"
    official = OFFICIAL.get(name.removeprefix("facebook/"))
    if official is None and name != "sam2-lite":
        raise WeightsError(f"no backbone 'sam2:{name}'; give one of sam2, {', '.join(f'sam2:{n}' for n in OFFICIAL)}")
    if pretrained:
        model: Any = copy.deepcopy(
            load_refiner(name, "cpu").model
        )  # it may be trained, which must not move the refiner
    elif official:
        model = build_sam2(HF_MODEL_ID_TO_FILENAMES[official][0], device="cpu")
    else:
        model = build_sam2_lite()
    trunk = model.image_encoder.trunk.requires_grad_(True)
    channels = list(trunk.channel_list[::-1])
    return BodyBackbone(Body(trunk, channels, [4, 8, 16, 32], InputSpec(), int(model.image_size)))

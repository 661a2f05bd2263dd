"""`lite0-pyramid`: a trained classifier's trunk and pyramid as frozen features for a linear head."""

from __future__ import annotations

from torch import Tensor, nn

from hybridseg.nn.backbones.base import Backbone
from hybridseg.nn.classify.segmenter import Segmenter


class Lite0Pyramid(Backbone):
    """A segmenter's last but one layer, and its trunk's levels: 576 features, those of stride 2 first."""

    def __init__(self) -> None:
        super().__init__()
        self.segmenter = Segmenter(1)
        self.segmenter.head[1] = nn.Identity()
        trunk = self.segmenter.trunk
        self.channels = [64, *trunk.channels]
        self.strides = [2, *trunk.strides]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised image to feature maps, fine to coarse."""
        levels = self.segmenter.trunk(x)
        return [self.segmenter.decode(levels), *levels]


def pyramid_of(segmenter: Segmenter) -> Lite0Pyramid:
    """Return the features of a trained segmenter: a copy of its weights, except those of its last layer."""
    net = Lite0Pyramid()
    state = segmenter.state_dict()
    net.segmenter.load_state_dict({key: value for key, value in state.items() if not key.startswith("head.1.")})
    return net


def build(_: str, pretrained: bool) -> Backbone:
    """`lite0-pyramid`; its weights come from a model folder."""
    return Lite0Pyramid()

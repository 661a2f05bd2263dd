"""`lite0-pyramid`: a trained classifier's trunk and pyramid as frozen features for a linear head."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from hybridseg.nn.backbones.base import Backbone
from hybridseg.nn.cards import read_card
from hybridseg.nn.classify.segmenter import Segmenter
from hybridseg.nn.weights import load_weights


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

    def load_segmenter(self, state: dict[str, Tensor]) -> None:
        """Take over the weights of a trained segmenter, except those of its last layer."""
        own = {key: value for key, value in state.items() if not key.startswith("head.1.")}
        self.segmenter.load_state_dict(own)


def load_pyramid(folder: Path) -> Lite0Pyramid:
    """The features of the classifier in a model folder.

    Raises:
        WeightsError: the folder holds another kind of model.
    """
    net = Lite0Pyramid()
    whole = Segmenter(len(read_card(folder, needs=("classes",))["classes"]))
    load_weights(whole, folder)
    net.load_segmenter(whole.state_dict())
    return net


def build(_: str, pretrained: bool) -> Backbone:
    """`lite0-pyramid`; its weights come from a model folder."""
    return Lite0Pyramid()

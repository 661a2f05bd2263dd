"""`index:EXPRESSION`: a spectral index as the only feature of each pixel; it has no weights."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridseg.nn.backbones.base import Backbone, InputSpec
from hybridseg.nn.indices import Index, parse_index


class IndexBackbone(Backbone):
    """The value of an index, at every pixel.

    It is NaN where the index is not defined, as where both bands of a normalised difference are 0.
    """

    pointwise = True

    def __init__(self, index: Index) -> None:
        super().__init__()
        self.index = index
        self.channels, self.strides = [1], [1]
        self.inputs = InputSpec(index.bands, "they are stored", (0.0,), (1.0,), by_name=True)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, bands, H, W) values as stored to one map (B, 1, H, W)."""
        bands = dict(zip(self.index.bands, x.unbind(1), strict=True))
        value = torch.as_tensor(self.index(bands), dtype=torch.float32)[:, None]
        return [torch.where(value.isfinite(), value, torch.nan)]


def build(name: str, pretrained: bool) -> Backbone:
    """An index by its expression.

    Raises:
        WeightsError: it is no arithmetic on bands.
    """
    return IndexBackbone(parse_index(name))

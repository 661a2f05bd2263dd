"""EdgeTAM (Zhou et al. 2025, CVPR): SAM2 on a RepViT-M1 trunk of timm, for single images.

Its memory goes through a perceiver that SAM2 has not. Single images need none of it, so the perceiver's weights are
left out, and tracking is refused (`Memory`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn

from hybridseg.nn.sam2.lite import SWITCHES, image_encoder, memory_attention, memory_encoder

WIDTH, MEMORY_WIDTH = 256, 64
IMAGE_SIZE = 1024
PATCH = "image_encoder.trunk.body.stem.conv1.c.weight"
"""A weight of the trunk that no other SAM2 has."""
PERCEIVER = "spatial_perceiver."
"""Prefix of the weights that single images do not need."""
SWITCHED_OFF = ("add_tpos_enc_to_obj_ptrs", "proj_tpos_enc_in_obj_ptrs", "use_signed_tpos_enc_to_obj_ptrs",
                "no_obj_embed_spatial")  # fmt: skip
"""What SAM2.1 has and EdgeTAM, made from SAM2.0, has not."""


class RepVit(nn.Module):
    """RepViT-M1's features at strides 4, 8, 16 and 32, fine to coarse, under the names that EdgeTAM's weights have."""

    def __init__(self) -> None:
        super().__init__()
        import timm  # 2 s, which no other refiner needs

        body: Any = timm.create_model("repvit_m1", features_only=True, pretrained=False, out_indices=(0, 1, 2, 3))
        self.body = body
        self.channel_list = body.feature_info.channels()[::-1]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised image to feature maps."""
        return list(self.body(x))


class EdgeTam(SAM2Base):  # type: ignore[misc]
    """EdgeTAM without its perceiver."""

    remembers = False


def build_edgetam() -> EdgeTam:
    """The untrained architecture, as EdgeTAM's configs/edgetam.yaml describes it."""
    return EdgeTam(
        image_encoder=image_encoder(RepVit(), WIDTH),
        memory_attention=memory_attention(IMAGE_SIZE // 16, WIDTH, MEMORY_WIDTH, forward=2048),
        memory_encoder=memory_encoder(WIDTH, MEMORY_WIDTH),
        image_size=IMAGE_SIZE,
        **{**SWITCHES, **dict.fromkeys(SWITCHED_OFF, False)},
    )


def edgetam_of(state: Mapping[str, Tensor]) -> EdgeTam:
    """EdgeTAM with the weights of its checkpoint, the perceiver's left out.

    Raises:
        RuntimeError: they do not fit.
    """
    model = build_edgetam()
    model.load_state_dict({key: value for key, value in state.items() if not key.startswith(PERCEIVER)})
    return model

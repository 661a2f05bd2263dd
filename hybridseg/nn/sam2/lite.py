"""sam2-lite: SAM2's own model on the light trunk, 512 px, about 6 M parameters.

The mask decoder and memory are sam2's classes with sam2's switches (configs/sam2.1_hiera_t.yaml); the trunk and the
widths differ, and the prompt encoder also draws. So all code that runs an official checkpoint runs this one, too.
"""

from __future__ import annotations

from typing import Any

import torch
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.prompt_encoder import PromptEncoder
from sam2.modeling.sam.transformer import RoPEAttention
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from hybridseg.nn.backbones.lite0 import Lite0

IMAGE_SIZE = 512
DECODE_SIZE = 256
"""Side of the image, and of the part around each prompt that is decoded (px), as in training: the decoder attends to
all that it is given; on the whole image it finds less and takes longer."""
WIDTH = 128
MEMORY_WIDTH = 32


SWITCHES = {
    "num_maskmem": 7, "sigmoid_scale_for_mem_enc": 20.0, "sigmoid_bias_for_mem_enc": -10.0,
    "use_mask_input_as_output_without_sam": True, "directly_add_no_mem_embed": True, "no_obj_embed_spatial": True,
    "use_high_res_features_in_sam": True, "multimask_output_in_sam": True, "iou_prediction_use_sigmoid": True,
    "use_obj_ptrs_in_encoder": True, "add_tpos_enc_to_obj_ptrs": True, "proj_tpos_enc_in_obj_ptrs": True,
    "use_signed_tpos_enc_to_obj_ptrs": True, "only_obj_ptrs_in_the_past_for_eval": True, "pred_obj_scores": True,
    "pred_obj_scores_mlp": True, "fixed_no_obj_ptr": True, "multimask_output_for_tracking": True,
    "use_multimask_token_for_obj_ptr": True, "multimask_min_pt_num": 0, "multimask_max_pt_num": 1,
    "use_mlp_for_obj_ptr_proj": True,
}  # fmt: skip
"""Those of sam2.1's configurations."""


def build_sam2_lite(image_size: int = IMAGE_SIZE, decode_size: int = DECODE_SIZE) -> SAM2Base:
    """The untrained architecture. No weight depends on the sizes, which must be multiples of 32.

    Args:
        image_size: side of the image (px).
        decode_size: side of the part of it that the decoder sees, around each prompt (px).
    """
    model = SAM2Base(
        image_encoder=image_encoder(Lite0(first=1), WIDTH),
        memory_attention=memory_attention(image_size // 16, WIDTH, MEMORY_WIDTH, forward=4 * WIDTH),
        memory_encoder=memory_encoder(WIDTH, MEMORY_WIDTH),
        image_size=image_size,
        **SWITCHES,
    )
    model.sam_prompt_encoder = DrawingPromptEncoder(
        embed_dim=WIDTH,
        image_embedding_size=(decode_size // 16, decode_size // 16),
        input_image_size=(decode_size, decode_size),
        mask_in_chans=16,
    )
    return model


def image_encoder(trunk: Any, width: int) -> ImageEncoder:
    """SAM2's encoder: a trunk that has a `channel_list`, and a neck of some width."""
    neck = FpnNeck(
        position_encoding=sine(width),
        d_model=width,
        backbone_channel_list=trunk.channel_list,
        fpn_top_down_levels=[2, 3],
        fpn_interp_model="nearest",
    )
    return ImageEncoder(trunk=trunk, neck=neck, scalp=1)


def sine(width: int) -> PositionEmbeddingSine:
    """SAM2's position encoding."""
    return PositionEmbeddingSine(num_pos_feats=width, normalize=True, scale=None, temperature=10000)


def memory_attention(side: int, width: int, memory_width: int, forward: int) -> MemoryAttention:
    """SAM2's attention to memories, of two layers.

    Args:
        side: of the embedding, in cells.
        width: channels of the embedding.
        memory_width: channels of a memory.
        forward: width of the layers' own networks.
    """
    shared = {
        "rope_theta": 10000.0, "feat_sizes": [side, side], "embedding_dim": width,
        "num_heads": 1, "downsample_rate": 1, "dropout": 0.1,
    }  # fmt: skip
    layer = MemoryAttentionLayer(
        activation="relu",
        dim_feedforward=forward,
        dropout=0.1,
        pos_enc_at_attn=False,
        self_attention=RoPEAttention(**shared),
        d_model=width,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        cross_attention=RoPEAttention(**shared, rope_k_repeat=True, kv_in_dim=memory_width),
    )
    return MemoryAttention(d_model=width, pos_enc_at_input=True, layer=layer, num_layers=2)


def memory_encoder(width: int, memory_width: int) -> MemoryEncoder:
    """SAM2's encoder of memories; widths as of `memory_attention`."""
    return MemoryEncoder(
        out_dim=memory_width,
        position_encoding=sine(memory_width),
        mask_downsampler=MaskDownSampler(kernel_size=3, stride=2, padding=1, embed_dim=width),
        fuser=Fuser(
            layer=CXBlock(dim=width, kernel_size=7, padding=3, layer_scale_init_value=1e-6, use_dwconv=True),
            num_layers=2,
        ),
        in_dim=width,
    )


INSIDE, OUTSIDE = 1.0, -6.0
"""Logits of an empty mask input within a box (perhaps the object) and beyond it (surely not)."""
CLICK = 8.0
CLICK_PX = 6.0
"""Logit and radius (image pixels) of the disc at a point: plus for a positive one, minus for a negative one."""
NEAR, FAR = 4.0, -8.0
FAR_PX = 96.0
"""Where there are positive points only, the logits fall from NEAR at a point to FAR at this distance from it."""


class DrawingPromptEncoder(PromptEncoder):  # type: ignore[misc]
    """Points and boxes as tokens, as in SAM2, and besides as marks on the mask input.

    Tokens alone take long training: a decoder must learn to find their place by the position encoding, for which SAM
    had a thousand times our training. Marks lie at their place on the image grid from the first step, as the disc maps
    of click-based models do (Sofiiuk et al. 2022, RITM, 3.2). A mask input of zeros counts as none.
    """

    def forward(
        self, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As PromptEncoder: sparse (N, P + 1, C) and dense (N, C, S/16, S/16) embeddings."""
        if points is None and boxes is None:
            return super().forward(points, boxes, masks)
        count = self._get_batch_size(points, boxes, masks)
        canvas = torch.zeros((count, 1, *self.mask_input_size), device=self._get_device()) if masks is None else masks
        if boxes is not None:
            corners = boxes.reshape(-1, 2, 2)
            kinds = torch.tensor([[2, 3]], device=boxes.device).expand(len(corners), 2)
            canvas = self.draw(corners, kinds, canvas)
        if points is not None:
            canvas = self.draw(*points, canvas)
        return super().forward(points, boxes, canvas)

    def draw(self, points: Tensor, labels: Tensor, masks: Tensor) -> Tensor:
        """Draw prompts into mask inputs: a disc for each point, above a filled box or a slope where the input is empty.

        Args:
            points: (N, P, 2) pixels of the model's image.
            labels: (N, P) as SAM2's: 0, 1, 2 and 3 (a box), -1.
            masks: (N, 1, M, M) logits.

        Returns:
            (N, 1, M, M) logits.
        """
        rows, cols = self.mask_input_size
        height, width = self.input_image_size
        y = ((torch.arange(rows, device=masks.device) + 0.5) * height / rows)[None, :, None]
        x = ((torch.arange(cols, device=masks.device) + 0.5) * width / cols)[None, None, :]
        first, last = (((labels == k)[..., None] * points).sum(1)[:, None, None] for k in (2, 3))
        within = (x >= first[..., 0]) & (x <= last[..., 0]) & (y >= first[..., 1]) & (y <= last[..., 1])
        boxed = (labels == 2).any(1) & (labels == 3).any(1) & ~masks.flatten(1).any(1)
        canvas = torch.where(boxed[:, None, None], torch.where(within, INSIDE, OUTSIDE).to(masks), masks[:, 0])
        empty = (labels == 1).any(1) & ~canvas.flatten(1).any(1)
        away = torch.where((labels == 1)[..., None, None], self._distance(points, y, x), torch.inf).min(1).values
        fall = NEAR + (FAR - NEAR) * (away / FAR_PX).clamp(max=1)
        canvas = torch.where(empty[:, None, None], fall, canvas)
        for k in range(points.shape[1]):
            kind = labels[:, k, None, None]
            near = self._distance(points[:, k], y, x) <= CLICK_PX
            canvas = torch.where(near & (kind == 1), CLICK, torch.where(near & (kind == 0), -CLICK, canvas))
        return canvas[:, None]

    @staticmethod
    def _distance(points: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Distance (..., M, M) of each cell from each point (..., 2), in image pixels."""
        across, down = x - points[..., 0, None, None], y - points[..., 1, None, None]
        return (across * across + down * down).sqrt()  # OpenVINO has no rule for torch.hypot
